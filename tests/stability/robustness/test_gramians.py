"""Gramians by their equations, Hankel values by SLICOT's example, truncation by its bound."""

import control
import mpmath
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import balanced_truncation, h2_norm, hankel_singular_values, hinf_norm
from ctrlattn.errors import InputError
from ctrlattn.linear.realization import Realization, realization
from ctrlattn.linear.scaling import Scaled
from ctrlattn.stability import controllability_gramian, observability_gramian
from ctrlattn.stability.robustness import gramians
from ctrlattn.stability.robustness.power_sums import PowerSums


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


@every_case("order", [0, 1, 3, 5, 6])
@every_case("make", [slicot_ab09ad, lambda: random_system(3, 8, 1)], ids=["ct", "dt"])
def test_truncation_keeps_its_bound(make, order):
    system = make()
    reduced = balanced_truncation(system, order)
    error = hinf_norm(control.ss(system.A, system.B, system.C, system.D, system.dt) - reduced.system)
    assert error <= reduced.error_bound * (1 + 1e-6)
    assert 0.5 * error <= reduced.residual <= error * (1 + 1e-6)
    assert error >= reduced.hankel[order] * (1 - 1e-6)  # no system of this order does better than the next value
    assert reduced.system.nstates == order
    assert reduced.system.input_labels == system.input_labels


def test_full_order_is_the_system_itself():
    system = random_system(5, 6, 1)
    reduced = balanced_truncation(system, 6)
    assert reduced.error_bound == 0.0
    assert reduced.residual < 1e-9 * hinf_norm(system)
    z = np.exp(0.7j)
    assert_allclose(reduced.system(z), system(z), rtol=1e-9)
    assert_allclose(np.diag(controllability_gramian(reduced.system)), reduced.hankel, rtol=1e-8)
    assert_allclose(np.diag(observability_gramian(reduced.system)), reduced.hankel, rtol=1e-8)


def test_the_residual_of_one_pole_left_out_is_known():
    # Order 0 of k/(z - .5) keeps D = 0: the error is the system, k/.5 at z = 1, and the bound 2 k/(1 - .25).
    for k in (1.0, 1e-6, 1e6):
        reduced = balanced_truncation(control.ss(0.5, 1, k, 0, 1), 0)
        assert_allclose([reduced.residual, reduced.error_bound], [2 * k, 2 * k / 0.75], rtol=1e-6)


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


@every_case("continuous", [False, True])
@every_case("seed", range(3))
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


def stable_system(seed):
    """Dense, near z = 1, triangular or of spread poles; continuous for odd seeds."""
    rng = np.random.default_rng(seed)
    n, m, p = (int(k) for k in rng.integers([2, 1, 1], [7, 4, 4]))
    continuous, kind = bool(seed % 2), (seed // 2) % 4
    a = {
        0: lambda: rng.normal(size=(n, n)),
        1: lambda: np.eye(n) + 0.01 * rng.normal(size=(n, n)),
        2: lambda: np.diag(rng.uniform(0.5, 0.99, n)) + np.triu(0.1 * rng.normal(size=(n, n)), 1),
        3: lambda: rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)),
    }[kind]()
    poles = np.linalg.eigvals(a)
    if continuous:
        a = a - (poles.real.max() + 10 ** rng.uniform(-2, 0)) * np.eye(n)
    elif kind != 2:
        a = a * (1 - 10 ** rng.uniform(-3, -0.5)) / np.abs(poles).max()
    return (a, rng.normal(size=(n, m)), rng.normal(size=(p, n)), np.zeros((p, m))), continuous


def by_kronecker(a, b, continuous):
    """P from its equation as a linear system, in 40 digits."""
    n = len(a)
    with mpmath.workdps(40):
        exact = mpmath.matrix(a.tolist())

        def entry(i, j, k, q):
            if continuous:
                return exact[i, k] * (j == q) + (i == k) * mpmath.conj(exact[j, q])
            return exact[i, k] * mpmath.conj(exact[j, q]) - (i == k) * (j == q)

        pairs = [(i, j) for i in range(n) for j in range(n)]
        matrix = mpmath.matrix([[entry(*row, *column) for column in pairs] for row in pairs])
        x = mpmath.lu_solve(matrix, mpmath.matrix((-(b @ b.conj().T)).ravel().tolist()))
        return np.array([complex(v) for v in x]).reshape(n, n)


@pytest.mark.slow
@every_case("seed", [0, 3, 4, 7])  # each kind once, two of them continuous
def test_gramians_and_values_are_those_of_the_linear_equations(seed):
    (a, b, c, d), continuous = stable_system(seed)
    p, q = by_kronecker(a, b, continuous), by_kronecker(a.conj().T, c.conj().T, continuous)
    given = ((a, b, c, d), continuous)
    for gramian, expected in ((controllability_gramian, p), (observability_gramian, q)):
        assert_allclose(gramian(given[0], continuous=continuous), expected, atol=1e-9 * np.linalg.norm(expected))
    sigma = hankel_singular_values(given[0], continuous=continuous)
    expected = np.sqrt(np.sort(np.maximum(np.linalg.eigvals(p @ q).real, 0))[::-1])
    assert_allclose(sigma, expected, atol=1e-7 * sigma[0])
    variance = np.trace(c @ p @ c.conj().T).real
    assert_allclose(h2_norm(given[0], continuous=continuous), np.sqrt(variance), rtol=1e-9)


@every_case("seed", range(24))
def test_values_know_no_units_and_stay_below_the_peak_gain(seed):
    (a, b, c, d), continuous = stable_system(seed)
    sigma = hankel_singular_values((a, b, c, d), continuous=continuous)
    assert sigma[0] <= hinf_norm((a, b, c, d), continuous=continuous) * (1 + 4e-9)
    rng = np.random.default_rng(seed)
    gain, between = 10.0 ** rng.uniform(-6, 6, 2)
    rate = 10.0 ** rng.uniform(-6, 6) if continuous else 1.0
    t, order = 10.0 ** rng.uniform(-6, 6, len(a)), rng.permutation(len(a))
    a, b, c = rate * a * t[:, None] / t, rate * b * t[:, None] * between, c / t * (gain / between)
    other = (a[np.ix_(order, order)], b[order], c[:, order], d)
    assert_allclose(hankel_singular_values(other, continuous=continuous), gain * sigma, atol=1e-9 * gain * sigma[0])
    p = controllability_gramian(other, continuous=continuous)
    a, b = other[:2]
    if continuous:
        terms, sizes = (a @ p, p @ a.conj().T), (np.abs(a) @ np.abs(p), np.abs(p) @ np.abs(a).T)
    else:
        terms, sizes = (a @ p @ a.conj().T, -p), (np.abs(a) @ np.abs(p) @ np.abs(a).T, np.abs(p))
    assert np.all(np.abs(sum(terms) + b @ b.conj().T) <= 1e-11 * (sum(sizes) + np.abs(b) @ np.abs(b).T))


def test_slow_clustered_poles_of_a_transfer_function():
    """1/((z - .999)(z - .9985)(z - .998)) in 60 digits: h2 5.34704e6, first Hankel value 2.17753e8."""
    system = control.tf([1.0], np.poly([0.999, 0.9985, 0.998]), 1)
    assert_allclose(hankel_singular_values(system)[0], 2.17753e8, rtol=3e-6)
    assert_allclose(h2_norm(system), 5.34704e6, rtol=1e-6)


@every_case("chain", [1e-12, 1e-6, 1.0, 1e6])
def test_a_chain_whose_gain_is_far_from_its_entries(chain):
    """gain/(s + 1)^5 with the gain in the couplings, at the ends, or in one unit: the values of 1/(s + 1)^5."""
    expected = hankel_singular_values(control.tf([1.0], np.poly([-1.0] * 5)))
    a = -np.eye(5) + chain * np.eye(5, k=1)
    given = (a, np.eye(5)[:, -1:] / chain**2, np.eye(5)[:1] / chain**2, [[0.0]])
    assert_allclose(hankel_singular_values(given, continuous=True), expected, rtol=1e-7)


def test_values_whose_digits_are_lost_are_refused():
    hidden = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0]
    block = 0.6 * np.eye(24) + 6 * np.eye(24, k=1)
    with pytest.raises(ArithmeticError, match=r"lost|cannot be decided"):
        hankel_singular_values((hidden @ block @ hidden.T, hidden[:, -1:], hidden.T[:1], [[0.0]]))


@every_case("tiny", [1e-150, 1e-300])
@every_case("continuous", [False, True])
def test_entries_of_any_size_give_numbers_or_refusals(tiny, continuous):
    a = np.array([[-0.5, 1e100], [0.0, -0.25]])
    given = (a, np.array([[tiny], [1.0]]), np.array([[1e100, tiny]]), [[0.0]])
    exact = 1e200 / (0.5 * 0.25 if continuous else 1.5 * 1.25)  # |G(0)|, or |G(z = 1)| below the peak at z = -1
    assert hinf_norm(given, continuous=continuous) >= exact * (1 - 1e-12)
    assert np.all(np.isfinite(hankel_singular_values(given, continuous=continuous)))
    with pytest.raises(ArithmeticError, match="beyond the largest float"):
        hankel_singular_values((a, given[1] * 1e100, given[2] * 1e20, [[0.0]]), continuous=continuous)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_gramian_beyond_the_largest_float_is_refused_and_the_largest_below_it_is_a_number(continuous):
    """A chain of two states with gains k and b is the chain with unit gains in the units k b and b."""
    pole = -0.5 if continuous else 0.5

    def chain(k, b):
        return [[pole, k], [0.0, pole]], [[0.0], [b]], [[1.0, 0.0]], [[0.0]]

    unit = controllability_gramian(chain(1.0, 1.0), continuous=continuous)
    scale = np.diag([1e150, 1e50])
    assert_allclose(
        controllability_gramian(chain(1e100, 1e50), continuous=continuous), scale @ unit @ scale, rtol=1e-12
    )
    with pytest.raises(ArithmeticError, match="controllability_gramian has entries beyond the largest float"):
        controllability_gramian(chain(1e100, 1e60), continuous=continuous)
    a, b, c, d = chain(1e100, 1e60)
    with pytest.raises(ArithmeticError, match="observability_gramian has entries beyond the largest float"):
        observability_gramian((np.transpose(a), np.transpose(c), np.transpose(b), d), continuous=continuous)


def test_a_truncation_in_small_units_is_the_truncation():
    system = slicot_ab09ad()
    reduced = balanced_truncation(system, 3)
    small = balanced_truncation(control.ss(1e4 * system.A, 1e-30 * system.B, 1e10 * system.C, 0), 3)
    assert_allclose(small.error_bound, 1e-24 * reduced.error_bound, rtol=1e-9)
    s = 0.3j
    assert_allclose(small.system(1e4 * s), 1e-24 * reduced.system(s), rtol=1e-8)
    assert balanced_truncation(control.ss(system.A, 1e-30 * system.B, system.C, 0), tol=1e-31).system.nstates == 5


def test_a_wrong_factor_is_mended_by_its_own_residual_or_refused(monkeypatch):
    system = slicot_ab09ad()
    expected = controllability_gramian(system)
    factor = PowerSums.factor
    monkeypatch.setattr(PowerSums, "factor", lambda series, b: 1.001 * factor(series, b))
    assert_allclose(controllability_gramian(system), expected, atol=1e-11 * np.linalg.norm(expected))
    monkeypatch.setattr(gramians, "_root_of", lambda p: np.zeros_like(p))
    with pytest.raises(ArithmeticError, match="a gramian is lost: rounding changes it by a share of 2e-03"):
        controllability_gramian(system)


def test_errors_of_gramians_count_where_values_are_read(monkeypatch):
    """An error of 1e-7 ||P|| is nothing for P, and all for a value that P shows 1e-8 times as large."""
    factor = gramians._factor

    def with_error(g, series):
        f, error = factor(g, series)
        return f, error + 1e-7 * np.linalg.norm(f) ** 2 * np.eye(len(error))

    far = (np.diag([0.5, 0.4]), np.diag([1e4, 1e-4]), np.diag([1e-4, 1e4]), np.zeros((2, 2)))
    assert_allclose(hankel_singular_values(far), [1 / 0.75, 1 / 0.84])
    monkeypatch.setattr(gramians, "_factor", with_error)
    monkeypatch.setattr(gramians, "_proven_values", lambda g: None)
    assert_allclose(hankel_singular_values(far), [1 / 0.75, 1 / 0.84])  # balanced first: such an error is small there
    monkeypatch.setattr(gramians, "scaled", lambda g, poles: Scaled(g, 0, 1.0, np.ones(2), 0))
    with pytest.raises(ArithmeticError, match="the Hankel values are lost"):
        hankel_singular_values(far)


def test_a_wrong_factor_proves_no_value(monkeypatch):
    """Its residual is seen: the values come from gramians that are mended."""
    system = random_system(3, 6, 1)
    g = realization(system, "hankel_singular_values")
    expected, h2 = hankel_singular_values(system), h2_norm(system)
    unit, proven = gramians._proven_values(g)
    assert_allclose(np.ldexp(proven, unit.exponent), expected, rtol=1e-13)
    for side in (0, 1):
        factor, calls = PowerSums.factor, []

        def one_wrong(series, b, factor=factor, calls=calls, side=side):
            calls.append(0)
            return (1 + 1e-7 * (len(calls) == side + 1)) * factor(series, b)

        with monkeypatch.context() as patch:
            patch.setattr(PowerSums, "factor", one_wrong)
            assert gramians._proven_values(g) is None
            calls.clear()
            assert gramians.proven_factors(g) is None
            calls.clear()
            assert_allclose(hankel_singular_values(system), expected, rtol=1e-12)
            calls.clear()
            assert_allclose(h2_norm(system), h2, rtol=1e-12)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_value_is_proved_up_to_a_share_of_5e13_of_either_gramian(monkeypatch, wrong):
    """Of one state sigma^2 = p q: an error of a share e moves it by that share, and half of (1e-6)^2 is allowed."""
    g = Realization(np.array([[0.5]]), np.array([[3.0]]), np.array([[0.1]]), np.zeros((1, 1)), False)
    unit, sigma = gramians._proven_values(g)
    assert_allclose(np.ldexp(sigma, unit.exponent), 0.3 / 0.75, rtol=1e-14)
    for share, proved in ((4.9e-13, True), (5.1e-13, False)):
        sides = []

        def error(side, enough, share=share, sides=sides):
            sides.append(side)
            return share * side.p[0, 0] if len(sides) == wrong + 1 else 0.0

        monkeypatch.setattr(gramians._GramianSide, "error", error)
        assert (gramians._proven_values(g) is not None) == proved


def test_what_the_powers_do_not_prove_is_left_to_the_poles():
    """A pole within rounding of the circle, a marginal denominator, continuous time, no states."""
    for a in (np.diag([0.5, 1 - 1e-13]), np.diag([0.5, 1.0]), np.diag([0.5, 1.5])):
        g = Realization(a, np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)), False)
        assert gramians.proven_factors(g) is None
    near = Realization(np.diag([0.5, 1 - 1e-9]), np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)), False)
    assert gramians.proven_factors(near) is not None
    assert gramians.proven_factors(near._replace(marginal=True)) is None
    assert gramians.proven_factors(near._replace(a=near.a - np.eye(2), continuous=True)) is None
    with pytest.raises(InputError, match="needs a stable system"):
        hankel_singular_values((np.diag([0.5, 1.0]), np.ones((2, 1)), np.ones((1, 2)), [[0.0]]))
    assert h2_norm((np.diag([0.5, 1.0]), np.ones((2, 1)), np.ones((1, 2)), [[0.0]])) == np.inf


@every_case("n", [2, 9, 40])
def test_proven_values_are_those_of_the_balanced_form(n):
    for seed in range(4):
        g = realization(random_system([n, seed], n, 1), "hankel_singular_values")
        (unit, proven), (other, values) = gramians._proven_values(g), gramians._values(g)
        values = np.ldexp(values, other.exponent - unit.exponent)
        assert_allclose(proven, values, rtol=1e-12, atol=1e-15 * values[0])


def test_a_reduced_system_beyond_its_bound_is_refused(monkeypatch):
    balancing = gramians._balancing

    def too_small(g, poles):
        (into, out), hankel = balancing(g, poles)
        return (into[:, ::-1], out[:, ::-1]), hankel

    monkeypatch.setattr(gramians, "_balancing", too_small)
    with pytest.raises(ArithmeticError, match="balanced_truncation: the error is"):
        balanced_truncation(slicot_ab09ad(), 4)


def test_the_root_of_a_hermitian_matrix_squares_to_it():
    """Not quite Hermitian, as sums leave it; what rounding makes negative counts as 0."""
    rng = np.random.default_rng(0)
    f = rng.normal(size=(4, 2)) + 1j * rng.normal(size=(4, 2))
    p = f @ f.conj().T
    root = gramians._root_of(p + 1e-13 * rng.normal(size=(4, 4)))
    assert_allclose(root @ root.conj().T, p, atol=1e-12)


def test_the_discrete_equation_has_poles_as_small_as_one_rate_makes_them():
    """Poles -1 and -16 at the rate 4: (4 - 1)/(4 + 1) and (4 - 16)/(4 + 16), of one modulus."""
    g = Realization(np.diag([-1.0, -16.0]), np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)), True)
    for poles in (None, np.array([-1.0, -16.0])):
        series = gramians._series(g, poles)
        assert_allclose(series.a, np.diag([0.6, -0.6]), rtol=1e-14)
        assert_allclose(series.into, np.sqrt(8) * np.diag([1 / 5, 1 / 20]), rtol=1e-14)


def test_the_order_of_a_tolerance_is_the_first_whose_tail_is_within_it():
    """Error bounds of order 0 to 4 are twice the sums of what is left out: 15, 7, 3, 1 and 0."""
    hankel = np.array([4.0, 2.0, 1.0, 0.5])
    for tol, order in ((20.0, 0), (15.0, 0), (14.9, 1), (7.0, 1), (3.0, 2), (2.9, 3), (1.0, 3), (0.9, 4), (0.0, 4)):
        assert gramians._order(None, tol, hankel) == order
    assert gramians._order(None, 0.0, np.array([4.0, 2.0, 1e-17])) == 2  # what rounding shows is no state
    assert gramians._order(None, 0.0, np.zeros(3)) == 0
    for tol in (-1.0, np.nan):
        with pytest.raises(InputError, match=f"tol must be at least 0, got {tol}"):
            balanced_truncation(slicot_ab09ad(), tol=tol)
    assert balanced_truncation(slicot_ab09ad(), tol=np.inf).system.nstates == 0
