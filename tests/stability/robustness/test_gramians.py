"""Gramians by their equations, Hankel values by SLICOT's example, truncation by its bound."""

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import balanced_truncation, hankel_singular_values, hinf_norm
from ctrlattn.stability import controllability_gramian, observability_gramian


def slicot_ab09ad():
    """The example of SLICOT's AB09AD: two areas of a power system, continuous time."""
    a = np.array(
        [
            [-0.04165, 0, 4.92, -4.92, 0, 0, 0],
            [-5.21, -12.5, 0, 0, 0, 0, 0],
            [0, 3.33, -3.33, 0, 0, 0, 0],
            [0.545, 0, 0, 0, -0.545, 0, 0],
            [0, 0, 0, 4.92, -0.04165, 0, 4.92],
            [0, 0, 0, 0, -5.21, -12.5, 0],
            [0, 0, 0, 0, 0, 3.33, -3.33],
        ]
    )
    b, c = np.zeros((7, 2)), np.zeros((3, 7))
    b[1, 0] = b[5, 1] = 12.5
    c[0, 0] = c[1, 3] = c[2, 4] = 1
    return control.ss(a, b, c, 0)


def random_system(seed, n, dt):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, n))
    a = 0.95 * a / np.abs(np.linalg.eigvals(a)).max() if dt else a - 1.2 * np.linalg.norm(a, 2) * np.eye(n)
    return control.ss(a, rng.normal(size=(n, 2)), rng.normal(size=(3, n)), 0, dt)


@pytest.mark.parametrize("dt", [0, 1])
@pytest.mark.parametrize("n", [1, 2, 12])
def test_gramians_solve_their_equations(n, dt):
    s = random_system(n, n, dt)
    for gramian, a, b in (
        (controllability_gramian(s), s.A, s.B),
        (observability_gramian(s), s.A.T, s.C.T),
    ):
        residual = a @ gramian @ a.T - gramian + b @ b.T if dt else a @ gramian + gramian @ a.T + b @ b.T
        assert np.linalg.norm(residual) <= 1e-11 * np.linalg.norm(gramian)
        assert np.linalg.eigvalsh(gramian).min() > -1e-12


def test_slicot_ab09ad():
    published = [2.5139, 2.0846, 1.9178, 0.7666, 0.5473, 0.0253, 0.0246]
    assert_allclose(hankel_singular_values(slicot_ab09ad()), published, atol=5e-5)


def test_published_nearly_cancelled_poles():
    """MATLAB's documentation of balreal: 0.1006, 0.0001, 0.0000 of (s + 10)(s + 20.01)/((s + 5)(s + 9.9)(s + 20.1))."""
    sigma = hankel_singular_values(control.zpk([-10, -20.01], [-5, -9.9, -20.1], 1))
    assert_allclose(sigma, [0.1006, 0.0001, 0.0], atol=5e-5)


@pytest.mark.parametrize("order", [0, 1, 3, 5, 6])
@pytest.mark.parametrize("make", [slicot_ab09ad, lambda: random_system(3, 8, 1)], ids=["ct", "dt"])
def test_truncation_keeps_its_bound(make, order):
    system = make()
    reduced = balanced_truncation(system, order)
    error = hinf_norm(control.ss(system.A, system.B, system.C, system.D, system.dt) - reduced.system)
    assert error <= reduced.error_bound * (1 + 1e-6)
    assert error >= reduced.hankel[order] * (1 - 1e-6)  # no system of this order does better than the next value
    assert reduced.system.nstates == order
    assert reduced.system.input_labels == system.input_labels


def test_full_order_is_the_system_itself():
    system = random_system(5, 6, 1)
    reduced = balanced_truncation(system, 6)
    assert reduced.error_bound == 0.0
    z = np.exp(0.7j)
    assert_allclose(reduced.system(z), system(z), rtol=1e-9)
    assert_allclose(np.diag(controllability_gramian(reduced.system)), reduced.hankel, rtol=1e-8)
    assert_allclose(np.diag(observability_gramian(reduced.system)), reduced.hankel, rtol=1e-8)


def test_tolerance_takes_the_smallest_order():
    system = slicot_ab09ad()
    assert balanced_truncation(system, tol=0.1).system.nstates == 5
    assert balanced_truncation(system, tol=1e9).system.nstates == 0


def test_small_values_keep_their_digits():
    # Diagonal, weakly coupled: sigma_i = |b_i c_i| / (1 - a_i^2) of each state alone.
    a, size = np.array([0.5, 0.3]), np.array([1.0, 1e-9])
    s = control.ss(np.diag(a), np.diag(size), np.diag(size), 0, 1)
    assert_allclose(hankel_singular_values(s), size**2 / (1 - a**2), rtol=1e-12)


def test_delays_and_hidden_states():
    assert_allclose(hankel_singular_values(control.tf([1], [1, 0, 0, 0], 1)), np.ones(3), rtol=1e-12)
    hidden = control.ss([[0.5, 0], [0, 0.9]], [[1.0], [0.0]], [[1.0, 1.0]], 0, 1)
    assert_allclose(hankel_singular_values(hidden), [1 / 0.75, 0.0], atol=1e-12)
    with pytest.raises(ValueError, match=r"order must be a whole number in 0 \.\.\. 1, got 2"):
        balanced_truncation(hidden, 2)
    static = control.ss([], [], [], 2.0, 1)
    assert len(hankel_singular_values(static)) == 0
    assert balanced_truncation(static, 0).system.D[0, 0] == 2.0


def test_refused():
    with pytest.raises(ValueError, match="at most 3000 states"):
        hankel_singular_values((np.eye(3001), np.ones((3001, 1)), np.ones((1, 3001)), [[0.0]]))
    with pytest.raises(ValueError, match="stable"):
        controllability_gramian(control.tf([1], [1, -1], 1))
    with pytest.raises(ValueError, match="either"):
        balanced_truncation(slicot_ab09ad())
    with pytest.raises(TypeError, match="python-control"):
        balanced_truncation(np.eye(2), 1)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_complex_systems_have_the_values_of_their_gramians(seed, continuous):
    """Hankel values as roots of the eigenvalues of P Q, the gramians from Kronecker products."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    a, b, c, eye = normal(4, 4), normal(4, 2), normal(3, 4), np.eye(4)
    poles = np.linalg.eigvals(a)
    a = a - (0.3 + poles.real.max()) * eye if continuous else 0.9 * a / np.abs(poles).max()

    def gramian(a, b):
        # Row by row, vec(X Y Z) = (X kron Z^T) vec(Y).
        matrix = np.kron(a, eye) + np.kron(eye, a.conj()) if continuous else np.kron(a, a.conj()) - np.eye(16)
        return np.linalg.solve(matrix, -(b @ b.conj().T).ravel()).reshape(4, 4)

    p, q = gramian(a, b), gramian(a.conj().T, c.conj().T)
    system = (a, b, c, np.zeros((3, 2)))
    assert_allclose(controllability_gramian(system, continuous=continuous), p, rtol=1e-9, atol=1e-10)
    assert_allclose(observability_gramian(system, continuous=continuous), q, rtol=1e-9, atol=1e-10)
    expected = np.sqrt(np.sort(np.linalg.eigvals(p @ q).real)[::-1])
    assert_allclose(hankel_singular_values(system, continuous=continuous), expected, rtol=1e-7)
