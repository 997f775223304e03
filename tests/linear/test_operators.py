"""The matrix of one pass, against THEORY 2: inverses, closed form, growth, numerical radius, hidden spectrum."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, FixedAttention, Loop, SoftmaxAttention, pass_operator, rms_norm, simulate


def strict_mean(n):
    m = np.tril(np.ones((n, n)), -1)
    return m / np.maximum(np.arange(n), 1)[:, None]


def automaton(g=1.0, order="sequential", **changes):
    return Loop(CausalMean(), skip=1.0, feedback=-g, order=order, **changes)


@every_case("n", [1, 2, 3, 17])
@every_case("g", [0.0, 0.5, 1.0, -1.3])
def test_a_sequential_pass_is_backward_euler_and_a_parallel_one_forward_euler(n, g):
    m = strict_mean(n)
    assert_allclose(pass_operator(automaton(g), n), np.linalg.inv(np.eye(n) + g * m), atol=1e-12)
    assert_allclose(pass_operator(automaton(g, "parallel"), n), np.eye(n) - g * m, atol=1e-15)


def test_closed_form_of_the_sequential_pass():
    n = 40
    expected = np.eye(n)
    expected[1, 0] = -1.0
    for i in range(2, n):
        expected[i, 1:i] = -np.arange(1, i) / (i * (i - 1))
    assert_allclose(pass_operator(automaton(), n), expected, atol=1e-13)


@pytest.mark.parametrize("n", [32, 128])
def test_growth_of_the_norm_does_not_depend_on_the_length(n):
    matrix = pass_operator(automaton(), n)
    norms = [np.linalg.norm(np.linalg.matrix_power(matrix, p), 2) for p in (1, 2, 5)]
    assert_allclose(norms, [1.657, 2.603, 7.621], atol=6e-4)
    assert_allclose(np.diagonal(matrix), 1.0)  # all eigenvalues are 1, and yet it grows


def test_late_tokens_contract():
    n = 4000
    constant, ramp = np.ones((n, 1)), np.arange(n, dtype=float)[:, None]
    passed = simulate(automaton(), np.hstack([constant, ramp]), 1).state[-1]
    assert_allclose(passed[-1], [0.5, (1 + 1) / (1 + 2) * (n - 1)], rtol=2e-3)  # i^alpha by (alpha+1)/(alpha+2)
    assert_allclose(simulate(automaton(order="parallel"), constant, 1).state[-1, 1:], 0.0, atol=1e-12)
    wave = np.cos(1.1 * np.arange(n))[:, None]
    assert_allclose(simulate(automaton(), wave, 1).state[-1, -200:], wave[-200:], atol=5e-3)


def numerical_radius(a, angles=720):
    turned = np.exp(1j * np.linspace(0, np.pi, angles))[:, None, None] * a
    hermitian = (turned + turned.conj().swapaxes(-1, -2)) / 2
    return np.abs(np.linalg.eigvalsh(hermitian)).max()


def test_numerical_radius_for_long_signals():
    assert_allclose(numerical_radius(pass_operator(automaton(), 250), 12), 1.5591, atol=3e-3)
    assert_allclose(numerical_radius(pass_operator(automaton(order="parallel"), 250), 12), 1.5, atol=3e-3)


def test_one_parallel_pass_decorrelates_the_tokens_after_the_first():
    n, tau, sigma = 12, 0.7, 1.3
    matrix = pass_operator(automaton(order="parallel"), n)
    covariance = matrix @ (sigma**2 * np.eye(n) + tau**2) @ matrix.T
    rest = covariance[1:, 1:]
    assert_allclose(rest - np.diag(np.diagonal(rest)), 0.0, atol=1e-12)
    assert_allclose(covariance[0, 1:], -(sigma**2) / np.arange(1, n), atol=1e-12)


def test_resolvent_inside_the_disk_grows_with_the_length():
    # The spectrum of every finite section is {1}; of the limit it is the disk centre 2/3, radius 1/3.
    inside, outside = 2 / 3 + 0.2j, 2 / 3 + 0.6j
    norms = {
        z: [np.linalg.norm(np.linalg.inv(z * np.eye(n) - pass_operator(automaton(), n)), 2) for n in (16, 32, 64, 128)]
        for z in (inside, outside)
    }
    assert np.all(np.diff(np.log(norms[inside])) > 0.3)
    assert norms[outside][-1] < 1.1 * norms[outside][-2]


def test_hold_first_and_fixed_attention():
    matrix = np.tril(np.random.default_rng(0).random((5, 5)))
    held = pass_operator(Loop(FixedAttention(matrix), order="sequential", hold_first=True), 5)
    assert_allclose(held[0], np.eye(5)[0])
    below, diagonal = np.tril(matrix, -1), np.diag(np.diagonal(matrix))
    free = pass_operator(Loop(FixedAttention(matrix), order="sequential"), 5)
    assert_allclose(free, np.linalg.solve(np.eye(5) + below, np.eye(5) - diagonal), atol=1e-12)


def test_torch_loop_gives_a_numpy_operator():
    torch = pytest.importorskip("torch")
    matrix = torch.tril(torch.ones(3, 3, dtype=torch.float64))
    assert_allclose(pass_operator(Loop(FixedAttention(matrix)), 3), np.eye(3) - matrix.numpy())


@every_case(
    "loop, word",
    [
        (Loop(SoftmaxAttention()), "not one linear map"),
        (Loop(FixedAttention(np.stack([np.eye(4), np.zeros((4, 4))]))), "not one linear map"),
        (Loop(CausalMean(), normalizer=rms_norm), "nonlinear"),
        (Loop(CausalMean(), controller=PID(1.0)), "memory"),
        ([Loop(CausalMean())], "sequence"),
    ],
)
def test_refused(loop, word):
    with pytest.raises(ValueError, match=word):
        pass_operator(loop, 4)


def test_no_token():
    with pytest.raises(ValueError, match="at least 1"):
        pass_operator(Loop(CausalMean()), 0)
