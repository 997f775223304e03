"""Poles from the structure, where eigvals lies; one system for all features against the whole Jacobian."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import (
    PID,
    CausalMean,
    FixedAttention,
    Loop,
    LTIController,
    SoftmaxAttention,
    linearize,
    mode,
    pass_operator,
    rms_norm,
)
from ctrlattn.linear import poles, token_system
from ctrlattn.linear.triangular import diagonal_blocks, is_triangular


def causal(n, seed=0):
    weights = np.tril(np.exp(np.random.default_rng(seed).standard_normal((n, n))))
    return weights / weights.sum(1, keepdims=True)


def test_eigvals_lies_and_the_structure_does_not():
    """THEORY 5: a stable Jordan block (0.5, coupling 1, n = 64)."""
    block = 0.5 * np.eye(64) + np.eye(64, k=1)
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]
    assert np.abs(np.linalg.eigvals(q @ block @ q.T)).max() > 1
    assert np.array_equal(poles(block), np.full(64, 0.5))


def test_the_order_of_the_states_does_not_matter():
    rng = np.random.default_rng(0)
    block = np.kron(np.tril(np.ones((20, 20)), -1), np.ones((3, 3))) + np.kron(np.eye(20), rng.standard_normal((3, 3)))
    expected = np.linalg.eigvals(block[:3, :3])
    order = rng.permutation(60)
    shuffled = block[np.ix_(order, order)]
    spectrum = poles(shuffled)
    assert {len(part) for part in diagonal_blocks(shuffled)} == {3}
    assert np.max(np.min(np.abs(spectrum[:, None] - expected), axis=1)) < 1e-13
    # Twenty times the same three poles: eigvals of the whole scatters them.
    assert np.max(np.min(np.abs(np.linalg.eigvals(shuffled)[:, None] - expected), axis=1)) > 1e-3


def test_without_structure_it_is_eigvals():
    a = np.random.default_rng(0).standard_normal((9, 9))
    assert_allclose(np.sort_complex(poles(a)), np.sort_complex(np.linalg.eigvals(a)), atol=1e-12)
    moduli = np.abs(poles(a))
    assert np.all(np.diff(moduli) <= 1e-12)


def test_degenerate():
    assert poles(np.array([[3.0]])).tolist() == [3.0]
    assert poles(np.zeros((2, 2))).tolist() == [0.0, 0.0]
    assert poles(np.array([[0, -1], [1, 0]])).shape == (2,)
    assert len(poles(np.empty((0, 0)))) == 0
    assert poles(np.diag([1j, 2.0])).tolist() == [2.0, 1j]
    assert len(poles(np.tril(np.full((2000, 2000), 0.5)))) == 2000
    with pytest.raises(ValueError, match="square"):
        poles(np.ones((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        poles(np.array([[np.nan, 1], [1, 1]]))


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_one_feature_stands_for_all(order):
    loop = Loop(FixedAttention(causal(5)), skip=0.3, feedback=0.9, order=order)
    system = token_system(loop, 5)
    assert_allclose(system.A, pass_operator(loop, 5), atol=1e-14)
    whole = linearize(loop, np.random.default_rng(0).standard_normal((5, 3)))
    assert_allclose(whole.A, np.kron(system.A, np.eye(3)), atol=1e-12)
    assert_allclose(np.sort_complex(poles(whole)), np.sort_complex(np.repeat(poles(system), 3)), atol=1e-12)


@every_case("controller", [PID(0.8, 0.5, 0.05), PID(0.6), PID(0.8, 0.5, 0.05, form="ema")])
def test_poles_with_a_controller_are_those_of_the_modes(controller):
    attention = causal(6)
    loop = Loop(FixedAttention(attention), skip=0.0, feedback=1.0, controller=controller)
    system = token_system(loop, 6)
    expected = np.concatenate([mode(loop, a).poles() for a in np.diagonal(attention)])
    assert_allclose(np.sort_complex(poles(system)), np.sort_complex(expected), atol=1e-12)
    # From r to y it is what linearize says of the whole; the memories may stand in another order.
    whole = linearize(loop, np.random.default_rng(1).standard_normal((6, 2)))
    z = np.exp(0.7j)
    assert_allclose(whole(z)[:, :12], np.kron(system(z), np.eye(2)), atol=1e-10)


def test_any_controller_and_many_tokens():
    import control

    loop = Loop(FixedAttention(causal(300)), skip=0.0, controller=LTIController(control.tf([0.5], [1, -0.2, 0.1], 1)))
    system = token_system(loop, 300)
    assert system.nstates == 900
    assert max(len(part) for part in diagonal_blocks(system.A)) <= 3


@every_case(
    "loop, word",
    [
        ([Loop(CausalMean())], "sequence"),
        (Loop(CausalMean(), normalizer=rms_norm), "nonlinear"),
        (Loop(CausalMean(), controller=PID(1.0), order="sequential"), "parallel order"),
        (Loop(CausalMean(), controller=PID(1.0), hold_first=True), "parallel order"),
    ],
)
def test_refused(loop, word):
    with pytest.raises(ValueError, match=word):
        token_system(loop, 4)


def test_a_nonlinear_causal_loop_is_found_block_triangular_over_its_tokens():
    """The zeros of a causal Jacobian are exact, so that each token's own block gives d of the poles."""
    x = np.random.default_rng(0).standard_normal((7, 3))
    for loop in (Loop(SoftmaxAttention(), normalizer=rms_norm), Loop(CausalMean(), normalizer=rms_norm)):
        jacobian = linearize(loop, x).A
        parts = diagonal_blocks(jacobian)
        assert all(len({int(i) // 3 for i in part}) == 1 for part in parts)  # no block reaches over two tokens
        expected = np.concatenate([np.linalg.eigvals(jacobian[i : i + 3, i : i + 3]) for i in range(0, 21, 3)])
        assert_allclose(np.sort(np.abs(poles(jacobian))), np.sort(np.abs(expected)), atol=1e-9)


def test_a_matrix_is_triangular_where_one_side_of_its_diagonal_is_zero():
    full = np.arange(1.0, 10.0).reshape(3, 3)
    for triangular in (np.tril(full), np.triu(full), np.tril(full, -1), np.triu(full, 1), np.diag([1.0, 2.0, 3.0])):
        assert is_triangular(triangular)
    for other in (full, np.eye(3)[::-1], np.eye(3, k=1) + np.eye(3, k=-2)):
        assert not is_triangular(other)


def test_blocks_of_two_have_their_own_pair_and_single_ones_their_entry():
    assert_allclose(np.sort_complex(poles(np.array([[0, -1], [1, 0]]))), [-1j, 1j], atol=1e-15)
    a = np.array([[0.6, -0.8, 7.0], [0.8, 0.6, 5.0], [0.0, 0.0, 2.0]])
    assert_allclose(poles(a)[0], 2.0)
    assert_allclose(np.sort_complex(poles(a)[1:]), [0.6 - 0.8j, 0.6 + 0.8j])
    assert poles(a).dtype == complex


@every_case("n", [2, 3, 4, 5])
def test_two_entries_on_the_two_sides_of_the_diagonal_make_a_matrix_that_is_not_triangular(n):
    for i, j in np.argwhere(~np.eye(n, dtype=bool)):
        for k, m in np.argwhere(~np.eye(n, dtype=bool)):
            a = np.eye(n)
            a[i, j] = a[k, m] = 1.0
            assert is_triangular(a) == ((i < j) == (k < m))
    assert is_triangular(np.ones((1, 1)))
    assert is_triangular(np.zeros((0, 0)))


def test_states_and_signals_are_named_token_by_token():
    system = token_system(Loop(CausalMean(), controller=PID(0.8, 0.5)), 2)
    assert system.state_labels == ["x[0]", "s0[0]", "x[1]", "s0[1]"]
    assert (system.input_labels, system.output_labels, system.dt) == (["r[0]", "r[1]"], ["y[0]", "y[1]"], 1)


def test_a_loop_has_no_matrix_of_its_own():
    with pytest.raises(TypeError, match=r"pass mode\(loop, a\) or token_system\(loop, n\)"):
        poles(Loop(CausalMean()))
