"""The loop over passes as one map: it is `iterate`, and its derivative and exponents are those of the poles."""

import control
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


@pytest.mark.slow
@pytest.mark.parametrize("controller", [None, PID(0.4), PID(0.3, 0.1)])
def test_at_a_fixed_point_the_largest_exponent_is_the_log_of_the_largest_pole(xp, controller):
    f, h = bent(xp, W), as_kind(xp, np.random.default_rng(1).standard_normal((1, 3)))
    point = looped.fixed_point(f, h)
    poles = pass_poles(controller, looped.spectrum(f, point.x).eigenvalues)
    largest = looped.exponents(f, point.x, 300, controller=controller)
    assert largest[0] == pytest.approx(np.log(np.abs(poles).max()), abs=5e-3)


@pytest.mark.slow
def test_the_exponent_of_a_chaotic_map_is_known():
    assert looped.exponents(lambda h: 4 * h * (1 - h), np.array([0.3]), 4000)[0] == pytest.approx(np.log(2), abs=0.02)


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


@pytest.mark.slow
@pytest.mark.parametrize("controller", [None, PID(0.5), PID(0.4, 0.1)])
def test_a_large_state_is_measured_by_products_alone(controller):
    n = 401
    rng = np.random.default_rng(0)
    j = torch.tensor(0.5 * rng.standard_normal((n, n)) / np.sqrt(n) + np.diag(np.full(n - 1, 0.8), 1))
    measured = looped.growth(lambda h: h @ j.T, torch.zeros(1, n, dtype=torch.float64), 8, controller=controller)
    matrix = looped.closed_matrix(j.numpy(), controller)
    assert measured.passes.tolist() == [0, 1, 2, 4, 8]
    expected = [np.linalg.norm(np.linalg.matrix_power(matrix, k), 2) for k in (0, 1, 2, 4, 8)]
    npt.assert_allclose(measured.norms, expected, rtol=1e-6)
    assert measured.residuals.max() < 1e-4


def test_a_map_without_a_derivative_has_no_growth():
    with pytest.raises(ArithmeticError, match="the Jacobian is not finite"):
        looped.growth(lambda h: torch.sqrt(h), torch.zeros(1, 2, dtype=torch.float64))


@pytest.mark.filterwarnings("error")
def test_a_state_that_overflows_inside_of_the_map_is_told_without_a_warning():
    with pytest.raises(InputError, match="no longer finite"):
        looped.exponents(lambda h: h * np.exp(50 * np.abs(h)), np.ones(2), 5)


@pytest.mark.parametrize("jacobian", [np.ones(3), np.ones((2, 3)), np.full((2, 2), np.nan), np.zeros((0, 0))])
def test_a_jacobian_is_a_square_matrix_of_numbers(jacobian):
    with pytest.raises(InputError, match="square matrix of finite numbers"):
        looped.closed_matrix(jacobian)
