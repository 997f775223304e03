"""Matrices of a system: its transfer function at points, stability, closing the loop, and what is refused."""

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import CausalMean, Loop
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.realization import Realization, negative_feedback, realization, square, to_control

RNG = np.random.default_rng(0)
MATRICES = tuple(RNG.standard_normal(shape) for shape in ((3, 3), (3, 2), (2, 3), (2, 2)))
W = 0.7


def at(g, frequency):
    """The definition: D + C (zI - A)^-1 B."""
    z = 1j * frequency if g.continuous else np.exp(1j * frequency)
    return g.d + g.c @ np.linalg.inv(z * np.eye(len(g.a)) - g.a) @ g.b


@pytest.mark.parametrize("continuous", [False, True])
def test_the_response_is_the_definition(continuous):
    g = realization(MATRICES, "q", continuous=continuous)
    assert g.continuous is continuous
    assert_allclose(g.response(W), at(g, W), rtol=1e-12)
    assert_allclose(g.response(np.inf), MATRICES[3])
    assert_allclose(
        to_control(g, 0 if continuous else 1)(1j * W if continuous else np.exp(1j * W)), at(g, W), rtol=1e-12
    )


def test_several_transfer_functions_are_realised_entry_by_entry():
    num = [[[1.0], [0.5, 0.0]], [[2.0], [0.3, 1.0, 0.0]]]
    den = [[[1.0, -0.5], [1.0, 0.2]], [[1.0], [2.0, 0.1, 0.4]]]
    g = realization(control.tf(num, den, 1), "q")
    z = np.exp(1j * W)
    expected = [[np.polyval(num[i][j], z) / np.polyval(den[i][j], z) for j in range(2)] for i in range(2)]
    assert_allclose(g.response(W), expected, rtol=1e-12)
    assert len(g.a) == 1 + 1 + 0 + 2


def test_the_loop_closed_is_the_sensitivity():
    g = realization((*MATRICES[:1], MATRICES[1], MATRICES[2], 0.1 * MATRICES[3]), "q")
    s = negative_feedback(g, "q")
    assert_allclose(s.response(W), np.linalg.inv(np.eye(2) + at(g, W)), rtol=1e-10)
    with pytest.raises(InputError, match=r"q: I \+ D is singular"):
        negative_feedback(g._replace(d=-np.eye(2)), "q")
    assert square(g, "q") is g
    with pytest.raises(InputError, match="each output on its own input"):
        square(Realization(g.a, g.b[:, :1], g.c, g.d[:, :1], False), "q")


@every_case("channels", [1, 2, 3])
def test_an_algebraic_loop_in_one_channel_of_several_is_refused(channels):
    d = np.diag([-1.0, 2.0, 3.0][:channels])
    g = Realization(np.zeros((0, 0)), np.zeros((0, channels)), np.zeros((channels, 0)), d, False)
    with pytest.raises(InputError, match=r"q: I \+ D is singular"):
        negative_feedback(g, "q")
    assert_allclose(negative_feedback(g._replace(d=d + 0.5), "q").d, np.linalg.inv(np.eye(channels) + d + 0.5))


@every_case(
    "a, continuous, stable",
    [
        ([[0.5, 9.0], [0.0, -0.9]], False, True),
        ([[0.5, 9.0], [0.0, -1.0]], False, False),
        ([[0.0, -0.9], [0.9, 0.0]], False, True),
        ([[0.0, -1.1], [1.1, 0.0]], False, False),
        ([[-0.5, 2.0], [0.0, -0.1]], True, True),
        ([[0.1, 1.0], [-1.0, 0.1]], True, False),
        ([[-0.1, 1.0], [-1.0, -0.1]], True, True),
    ],
)
def test_stability_is_that_of_the_eigenvalues(a, continuous, stable):
    assert realization((a, np.ones((2, 1)), np.ones((1, 2)), [[0.0]]), "q", continuous=continuous).is_stable() is stable


def test_a_system_without_states_is_stable_and_its_response_is_its_direct_term():
    g = realization(control.tf([2.0], [1.0], 1), "q")
    assert g.is_stable()
    assert g.response(W) == [[2.0]]
    assert g.real()
    assert not g._replace(d=1j * g.d).real()


@every_case(
    "given, error, word",
    [
        (Loop(CausalMean()), InputTypeError, "mode"),
        ([Loop(CausalMean())] * 2, InputError, "sequence of 2 different layers"),
        (np.eye(2), InputTypeError, "got ndarray"),
        ((np.eye(2), np.ones((3, 1)), np.ones((1, 2)), [[0.0]]), InputError, "A, B, C, D must be"),
        (([[np.inf]], [[1.0]], [[1.0]], [[0.0]]), InputError, "q: A must be finite"),
        (([[1.0]], [[1e121]], [[1.0]], [[0.0]]), InputError, "q: B has an entry"),
    ],
)
def test_refused(given, error, word):
    with pytest.raises(error, match=word):
        realization(given, "q")


def test_a_contradicting_flag_is_refused():
    with pytest.raises(InputError, match="continuous=True contradicts the system"):
        realization(control.tf([1.0], [1.0, 0.5], 1), "q", continuous=True)


@every_case("given", [np.ones((4, 1, 1)), [np.eye(1)] * 4, (np.eye(1),) * 3])
def test_matrices_come_as_a_tuple_of_four(given):
    with pytest.raises(InputTypeError, match=rf"got {type(given).__name__}"):
        realization(given, "q")


def test_a_pole_that_rounding_moves_across_the_boundary_decides_nothing():
    # One Jordan block, turned: a change of A in its last digit moves its eigenvalues by (1e-16)^(1/8), about 1e-2.
    jordan = 0.999 * np.eye(8) + np.eye(8, k=1)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))[0]
    ports = (np.ones((8, 1)), np.ones((1, 8)), [[0.0]])
    with pytest.raises(ArithmeticError, match="cannot be decided in double precision"):
        realization((turn @ jordan @ turn.T, *ports), "q").is_stable()
    assert realization((jordan, *ports), "q").is_stable()  # triangular: the diagonal, exactly
    # Far from defective the pole itself is asked, however near it lies, and however large the matrix is.
    for size in (1e-6, 1.0, 1e6):
        near = turn @ np.diag([-1e-9, *np.arange(-2.0, -9.0, -1)]) @ turn.T
        assert realization((size * near, *ports), "q", continuous=True).is_stable()
        assert not realization((-size * near, *ports), "q", continuous=True).is_stable()


def test_numbers_vectors_and_integers_are_matrices():
    g = realization((0.5, [1.0], [2.0], 0.0), "q")
    assert [m.tolist() for m in g[:4]] == [[[0.5]], [[1.0]], [[2.0]], [[0.0]]]
    g = realization((np.array([[1, 2], [3, 4]]), np.array([1, 2]), np.array([[5, 6]]), np.array([0])), "q")
    assert [m.dtype for m in g[:4]] == [np.float64] * 4
    assert [m.shape for m in g[:4]] == [(2, 2), (2, 1), (1, 2), (1, 1)]
    assert realization((np.eye(2), np.ones(2), 1j * np.ones((1, 2)), 0.0), "q").c.dtype == np.complex128


def test_a_realization_does_not_change_with_what_it_was_made_of():
    for order in "CF":
        given = [np.array(m, order=order) for m in MATRICES]
        g = realization(tuple(given), "q")
        for m in given:
            m[:] = 7.0
        for mine, original in zip(g[:4], MATRICES, strict=True):
            assert_allclose(mine, original)


def test_a_loop_is_well_posed_up_to_a_condition_of_1e14():
    for condition, refused in ((0.5e14, False), (2e14, True)):
        d = np.diag([1.0, 1 / condition]) - np.eye(2)
        g = Realization(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((2, 0)), np.eye(2), False)._replace(d=d)
        if refused:
            with pytest.raises(InputError, match=r"I \+ D is singular"):
                negative_feedback(g, "q")
        else:
            assert negative_feedback(g, "q").d[1, 1] > 1e13


@pytest.mark.parametrize("shape", [(2, 3), (0, 0)])
def test_a_transfer_matrix_that_is_not_square_or_is_none_closes_no_loop(shape):
    g = Realization(np.zeros((0, 0)), np.zeros((0, shape[1])), np.zeros((shape[0], 0)), np.zeros(shape), False)
    with pytest.raises(InputError, match=rf"q closes each output on its own input: got a \({shape[0]}, {shape[1]}\)"):
        square(g, "q")
