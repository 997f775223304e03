"""The loop over passes as one map: it is `iterate`, and its derivative is that of the poles."""

import control
import mpmath
import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import PID, InputError, LTIController, looped
from ctrlattn.arrays import like, to_numpy
from ctrlattn.stability import fixed_point, pass_poles
from ctrlattn.stability.motion.tangent import dense_jacobian

CONTROLLERS = [
    None, PID(0.3), PID(0.3, 0.1), PID(0.3, 0.1, 0.05), PID(0.3, 0.1, 0.05, form="ema"),
    LTIController(control.tf([0.4, 0], [1, -0.5], 1)),
]  # fmt: skip


def as_kind(xp, x):
    return like(x, xp.zeros(1, dtype=xp.float64))


def bent(xp, w):
    w = as_kind(xp, w)
    return lambda h: xp.tanh(h @ w)


W = np.random.default_rng(0).standard_normal((3, 3)) / 2


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_its_steps_are_the_passes_of_iterate(xp, controller):
    h = as_kind(xp, np.random.default_rng(1).standard_normal((2, 3)))
    step, z = looped.closed_map(bent(xp, W), h, controller=controller, recall=0.4)
    run = looped.iterate(bent(xp, W), h, 6, controller, 0.4)
    for k in range(6):
        z = step(z)
        npt.assert_allclose(to_numpy(z[0]), to_numpy(run.state[k + 1]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_its_derivative_is_the_closed_matrix_and_has_the_poles_of_every_mode(controller):
    j = np.random.default_rng(2).standard_normal((4, 4))
    step, z = looped.closed_map(lambda h: j @ h, np.zeros(4), controller=controller, recall=0.3)
    matrix = looped.closed_matrix(j, controller, 0.3)
    npt.assert_allclose(dense_jacobian(step, z)[1], matrix, atol=1e-8)
    poles = pass_poles(controller, np.linalg.eigvals(j), 0.3).ravel()
    whole = np.linalg.eigvals(matrix)
    distance = np.abs(poles[:, None] - whole[None, :])
    assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) < 1e-6


def test_tools_for_nonlinear_maps_take_it():
    step, z = looped.closed_map(lambda h: np.cos(h), np.array([0.5]), controller=PID(0.3, 0.0, 0.1))
    npt.assert_allclose(fixed_point(step, z).x, [[0.7390851332151607], [0.0]], atol=1e-9)


# --- growth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("controller", [None, PID(0.5, 0.1)])
def test_norms_are_those_of_the_powers(xp, controller):
    j = np.triu(np.full((5, 5), 1.5), 1) + np.diag([0.9, 0.5, 0.1, -0.3, -0.5])
    move = as_kind(xp, j.T)
    measured = looped.growth(lambda h: h @ move, as_kind(xp, np.zeros((1, 5))), 12, controller=controller)
    matrix = looped.closed_matrix(j, controller)
    expected = [np.linalg.norm(np.linalg.matrix_power(matrix, k), 2) for k in range(13)]
    npt.assert_allclose(measured.norms, expected, rtol=1e-6)
    assert measured.peak == pytest.approx(max(expected), rel=1e-6)
    assert measured.peak_pass == int(np.argmax(expected))


@pytest.mark.parametrize("controller", [None, PID(0.5), PID(0.4, 0.1)])
def test_a_large_state_is_measured_by_products_alone(controller, monkeypatch):
    monkeypatch.setattr("ctrlattn.looped.closed._FORMED", 60)
    n = 61
    rng = np.random.default_rng(0)
    j = torch.tensor(0.5 * rng.standard_normal((n, n)) / np.sqrt(n) + np.diag(np.full(n - 1, 0.8), 1))
    start, law = torch.zeros(1, n, dtype=torch.float64), {"controller": controller, "recall": 0.3}
    measured = looped.growth(lambda h: h @ j.T, start, 8, **law)
    matrix = looped.closed_matrix(j.numpy(), **law)
    assert measured.passes.tolist() == [0, 1, 2, 4, 8]
    expected = [np.linalg.norm(np.linalg.matrix_power(matrix, k), 2) for k in (0, 1, 2, 4, 8)]
    npt.assert_allclose(measured.norms, expected, rtol=1e-6)
    assert measured.residuals.max() < 1e-4


def test_a_map_without_a_derivative_has_no_growth():
    with pytest.raises(ArithmeticError, match="the Jacobian is not finite"):
        looped.growth(lambda h: torch.sqrt(h), torch.zeros(1, 2, dtype=torch.float64))


@pytest.mark.parametrize("jacobian", [np.ones(3), np.ones((2, 3)), np.full((2, 2), np.nan), np.zeros((0, 0))])
def test_a_jacobian_is_a_square_matrix_of_numbers(jacobian):
    with pytest.raises(InputError, match="square matrix of finite numbers"):
        looped.closed_matrix(jacobian)


def exact_norms(matrix, passes):
    """|M^k|_2 from products of 60 digits."""
    with mpmath.workdps(60):
        step, power, norms = mpmath.matrix(matrix.tolist()), mpmath.eye(len(matrix)), []
        for _ in range(passes + 1):
            largest = max(abs(v) for v in power)
            scaled = np.array([float(v / largest) if largest else 0.0 for v in power]).reshape(matrix.shape)
            norms.append(float(largest * mpmath.mpf(float(np.linalg.norm(scaled, 2)))))
            power = step * power
    return np.array(norms)


def hard(rng):
    """Jordan blocks, Grcar's matrix and its multiples, shears, turns, zero, one number; rotated at times."""
    size, coupling = int(rng.integers(1, 7)), 10.0 ** rng.uniform(-6, 6)
    value = float(rng.choice([-1.0, -0.7, 0.0, 0.4, 0.95, 1.0]))
    grcar = sum(np.eye(size, k=k) for k in range(4)) - np.eye(size, k=-1)
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    kinds = [
        value * np.eye(size) + coupling * np.eye(size, k=1),
        grcar * rng.uniform(0.1, 1.0),
        np.diag(rng.uniform(-1, 1, size)) + coupling * np.triu(rng.standard_normal((size, size)), 1),
        turn, np.zeros((size, size)), np.array([[value]]),
    ]  # fmt: skip
    matrix = kinds[int(rng.integers(len(kinds)))]
    q = np.linalg.qr(rng.standard_normal(matrix.shape))[0]
    return q @ matrix @ q.T if rng.integers(2) else matrix


@pytest.mark.slow
def test_growth_of_hard_maps_is_known_to_what_it_says_or_open(xp):
    rng, opened, count = np.random.default_rng(0), 0, 12
    for i in range(count):
        matrix, law = hard(rng), CONTROLLERS[i % 4]
        move, x = as_kind(xp, matrix), as_kind(xp, rng.choice([0.0, 1e-6, 1.0, 1e6]) * rng.standard_normal(len(matrix)))
        measured = looped.growth(lambda h, move=move: move @ h, x, 20, controller=law, recall=0.5)
        exact, given = exact_norms(looped.closed_matrix(matrix, law, 0.5), 20), ~np.isnan(measured.norms)
        off = np.abs(measured.norms - exact) / np.maximum(exact, 1.0)
        assert np.all(off[given] <= 1.1 * measured.residuals[given] + 1e-9)
        assert np.all(measured.residuals[given] <= 0.01)
        assert np.isnan(measured.peak) != given.all()
        opened += not given.all()
    assert 0 < opened <= count // 4


def test_the_error_of_a_power_is_that_of_each_factor_in_its_turn():
    # Of M = a: |(a + d)^k - a^k| = k d a^(k - 1) to first order; J is known to about 64 digits of |J|.
    measured = looped.growth(lambda h: 2.0 * h, torch.ones(1, dtype=torch.float64), 5)
    npt.assert_allclose(measured.residuals, 64 * 2**-52 * np.arange(6) * np.array([1, 1, 1, 1, 1, 1]), rtol=1e-9)
    # Half of the error reaches M where the gain is a half.
    half = looped.growth(lambda h: 3.0 * h, torch.ones(1, dtype=torch.float64), 2, controller=PID(0.5))
    npt.assert_allclose(half.residuals, 64 * 2**-52 * 1.5 * np.array([0, 0.5, 1.0]), rtol=1e-9)
