"""C (zI - A)^-1 B + D on every path, and along the boundary against mpmath, where poles crowd near z = 1 and -1."""

import mpmath
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.errors import InputError
from ctrlattn.linear import transfer
from ctrlattn.linear.transfer import Transfer, boundary_values, shifted, transfer_values

POINTS = np.exp(1j * np.linspace(0.05, 3.1, 37))


def exact(a, b, c, d, w, continuous):
    """The definition in 50 digits; the double pi is z = -1."""
    with mpmath.workdps(50):
        z = mpmath.mpc(0, w) if continuous else (mpmath.mpf(-1) if w == np.pi else mpmath.expj(mpmath.mpf(w)))
        matrix = z * mpmath.eye(len(a)) - mpmath.matrix(a.tolist())
        x = mpmath.lu_solve(matrix, mpmath.matrix(b.tolist()))
        return complex((mpmath.matrix(c.tolist()) * x)[0]) + d[0, 0]


@every_case("sign", [1.0, -1.0])
@every_case("n", [2, 4, 6])
def test_clusters_near_the_ends_keep_their_digits(n, sign):
    h = 2.0**-12  # 1 - h is exact
    a = sign * ((1 - h) * np.eye(n) + h * np.eye(n, k=1))
    b, c, d = h * np.eye(n)[:, -1:], np.eye(n)[:1], np.zeros((1, 1))
    w = h * np.array([0.0, 0.1, 0.5, 1.0, 3.0])
    w = w if sign > 0 else np.pi - w
    actual = boundary_values(a, b, c, d, w, continuous=False)[0, 0]
    if sign > 0:
        assert_allclose(actual, [exact(a, b, c, d, v, False) for v in w], rtol=1e-13)
    # pi itself is rounded: its distance from w decides near z = -1
    nu = w if sign > 0 else w - np.pi
    assert_allclose(actual, sign * (h / (np.expm1(1j * nu) + h)) ** n, rtol=1e-12)


@every_case("turn", [1.0, np.exp(0.3j)])
@every_case("continuous", [False, True])
def test_values_are_those_of_plain_solves(continuous, turn):
    rng = np.random.default_rng(0)
    a, b, c, d = (rng.normal(size=s) * turn for s in ((5, 5), (5, 2), (3, 5), (3, 2)))
    a = a - 4 * np.eye(5) if continuous else a / 4
    w = np.array([-3.0, -1.7, 0.0, 0.4, 1.6, 3.1, np.inf])
    actual = boundary_values(a, b, c, d, w, continuous=continuous)
    for i, v in enumerate(w[:-1]):
        z = 1j * v if continuous else np.exp(1j * v)
        assert_allclose(actual[:, :, i], d + c @ np.linalg.solve(z * np.eye(5) - a, b), rtol=1e-12)
        point, moved = shifted(a, v, continuous=continuous)
        assert_allclose(point * np.eye(5) - moved, z * np.eye(5) - a, atol=1e-15)
    assert_allclose(actual[:, :, -1], d)


def matrices(n, inputs, outputs, structure, complex_=False, seed=0):
    rng = np.random.default_rng(seed)

    def random(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape) if complex_ else rng.normal(size=shape)

    a = random(n, n) / (2 * np.sqrt(n))
    a = {"general": a, "upper": np.triu(a), "lower": np.tril(a), "hessenberg": np.triu(a, -1)}[structure]
    return a, random(n, inputs), random(outputs, n), random(outputs, inputs)


@every_case("structure", ["general", "upper", "lower", "hessenberg"])
@every_case("n, points", [(1, 37), (5, 37), (13, 37), (30, 3), (30, 37), (70, 5)])
@every_case("inputs, outputs", [(1, 1), (2, 3), (3, 1)])
def test_each_value_is_a_solve(structure, n, points, inputs, outputs):
    for complex_ in (False, True):
        a, b, c, d = matrices(n, inputs, outputs, structure, complex_)
        z = POINTS[:points]
        expected = np.stack([c @ np.linalg.solve(x * np.eye(n) - a, b) + d for x in z], axis=-1)
        assert_allclose(transfer_values(a, b, c, d, z), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
        g = Transfer(a, b, c, d)
        assert_array_equal(g.at(z), g.at(z))
        assert_allclose(g.at(z), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("n", [2, 20])
def test_a_pole_is_infinite_and_its_neighbours_are_not(n):
    a = np.diag(np.append(1.0, np.linspace(0.1, 0.5, n - 1)))
    g = Transfer(a, np.ones((n, 1)), np.ones((1, n)), np.zeros((1, 1))).at(np.array([1.0, -1.0]))[0, 0]
    assert not np.isfinite(g[0])
    assert_allclose(g[1], np.sum(1 / (-1 - np.diagonal(a))), rtol=1e-13)


def test_no_states_no_points_and_not_finite():
    d = np.array([[2.0, 3.0]])
    assert transfer_values(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((1, 0)), d, POINTS[:2]).tolist() == [
        [[2, 2], [3, 3]]
    ]
    a, b, c, d = matrices(3, 1, 1, "general")
    assert transfer_values(a, b, c, d, POINTS[:0]).shape == (1, 1, 0)
    with pytest.raises(InputError, match="B of the system holds NaN"):
        transfer_values(a, b * np.nan, c, d, POINTS)


@every_case("n", [3, 5, 14, 60])
@every_case("complex_numbers", [False, True])
def test_states_in_other_units_change_no_digit(n, complex_numbers):
    # In powers of two the units round nothing, so that both systems are the same one. Reduced in the given units, the
    # small entries were rounded in the unit of the largest one: 8e-7 of the response were lost at n = 4.
    omega = np.array([0.0, 0.3, 0.7, 2.9, np.pi])
    for seed in range(8):
        rng = np.random.default_rng((n, seed))
        shapes = (n, n), (n, 2 - seed % 2), (1 + seed % 3, n), (1 + seed % 3, 2 - seed % 2)
        a, b, c, d = (rng.standard_normal(shape) for shape in shapes)
        if complex_numbers:
            a = a + 1j * rng.standard_normal(a.shape)
        a *= 0.9 / np.abs(np.linalg.eigvals(a)).max()
        units = 2.0 ** rng.integers(-27, 28, n)
        there = a * units / units[:, None], b / units[:, None] * 2.0**-17, c * units * 2.0**17, d
        for values in (
            lambda *m: transfer_values(*m, np.exp(1j * omega)),
            lambda *m: boundary_values(*m, omega, continuous=False),
        ):
            plain = values(a, b, c, d)
            assert_allclose(values(*there), plain, rtol=1e-11, atol=1e-11 * np.abs(plain).max())


@every_case("inputs", [1, 2])
@every_case("form", ["full", "hessenberg", "lower", "two states"])
def test_the_hessenberg_side_is_the_same_system_and_moves_nothing_that_has_its_form(form, inputs):
    rng = np.random.default_rng(inputs)
    n = 2 if form == "two states" else 6
    a, b, c = rng.normal(size=(n, n)), rng.normal(size=(n, inputs)), rng.normal(size=(inputs, n))
    a, b = {"hessenberg": (np.triu(a, -1), b), "lower": (np.tril(a), b)}.get(form, (a, 1e5 * b))
    ((h, right, out),) = transfer._hessenberg_sides(a, b, c, (0.0,))
    for z in (2.0 + 1j, -0.3j):
        expected = c @ np.linalg.solve(z * np.eye(n) - a, b)
        lower = np.triu(h, -1 - n) if form == "two states" else np.triu(h.T, -1)
        assert_allclose(out @ np.linalg.solve(z * np.eye(n) - (h.T if n == 2 else lower), right.T), expected, rtol=1e-9)
    if form in ("hessenberg", "two states"):
        assert_array_equal(h.T, a)
        assert_array_equal(right.T, b)
    if form == "lower":
        assert_array_equal(np.sort(h, axis=None), np.sort(a, axis=None))
    if form == "full" and inputs == 1:
        assert np.count_nonzero(right) == 1


@pytest.mark.parametrize(("n", "points", "batched"), [(11, 500, True), (12, 39, True), (12, 40, False), (48, 1, False)])
def test_a_matrix_for_each_point_is_made_for_few_entries_alone(n, points, batched, monkeypatch):
    """Both ways are one function. Below 12 states, or 480 states of all points together, one batched solve is made."""
    calls = []

    def counted(*given):
        calls.append(len(given[-1]))
        return of_each_point(*given)

    of_each_point = transfer._solve_batch
    monkeypatch.setattr(transfer, "_solve_batch", counted)
    a, b, c, d = matrices(n, 1, 1, "general")
    transfer_values(a, b, c, d, np.resize(POINTS, points))
    assert bool(calls) == batched


NEARLY = {
    "a corner below": [(3, 0)],
    "below the subdiagonal, but the corner": [(2, 0), (3, 1)],
    "one entry below": [(2, 0)],
}


@every_case("below", NEARLY.values(), ids=NEARLY)
@every_case("turned", [False, True], ids=["upper", "lower"])
@every_case("n", [4, 16])
def test_a_single_entry_away_from_a_simpler_form_counts(below, turned, n):
    """An entry that a form does not have is read, wherever it stands alone."""
    rng = np.random.default_rng(n)
    a = np.triu(rng.normal(size=(n, n)), 0 if turned else -1) / n
    for i, j in below:
        a[i, j] = 0.7
    a = a[::-1, ::-1] if turned else a
    b, c = rng.normal(size=(n, 1)), rng.normal(size=(1, n))
    expected = [(c @ np.linalg.solve(z * np.eye(n) - a, b))[0, 0] for z in POINTS]
    assert_allclose(transfer_values(a, b, c, np.zeros((1, 1)), POINTS)[0, 0], expected, rtol=1e-9)
    w = np.angle(POINTS)
    assert_allclose(boundary_values(a, b, c, np.zeros((1, 1)), w, continuous=False)[0, 0], expected, rtol=1e-9)


@every_case("n", [3, 4, 16])
@every_case("form", ["full", "bidiagonal", "lower", "upper"])
def test_every_form_on_the_boundary_is_a_solve(n, form):
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, n)) / n
    a = {"bidiagonal": np.tril(np.triu(a, -1)), "lower": np.tril(a), "upper": np.triu(a)}.get(form, a)
    b, c = rng.normal(size=(n, 2)), rng.normal(size=(3, n))
    expected = np.stack([c @ np.linalg.solve(z * np.eye(n) - a, b) for z in POINTS], axis=-1)
    assert_allclose(transfer_values(a, b, c, np.zeros((3, 2)), POINTS), expected, rtol=1e-9)
    values = boundary_values(a, b, c, np.zeros((3, 2)), np.angle(POINTS), continuous=False)
    assert_allclose(values, expected, rtol=1e-9)


def test_what_has_hessenberg_form_is_not_scaled():
    a, b, c, _ = matrices(16, 1, 1, "general")
    a = np.triu(a, -1)
    reduced = transfer._hessenberg_form(a, 1e9 * b, c)
    assert_array_equal(reduced.matrix.re, a)
    assert_array_equal(reduced.into.re.ravel(), 1e9 * b.ravel())


@every_case("end", [1.0, -1.0])
@every_case("sign", [1.0, -1.0])
def test_points_near_an_end_keep_their_digits_for_complex_systems_too(end, sign):
    """z - z0 and A - z0 are small and known to all digits; e^{iw} - A would keep nine fewer."""
    near = np.array([1e-7, 3e-7, 1e-6])
    w = sign * (near if end > 0 else np.pi - near)
    angle = w if end > 0 else w - np.copysign(np.pi, w)
    a = np.array([[end + 1e-7 + 2e-7j]])
    point = end * np.expm1(1j * angle)
    values = boundary_values(a, np.eye(1), np.eye(1), np.zeros((1, 1)), w, continuous=False)[0, 0]
    assert_allclose(values, 1 / (point - (a - end)[0, 0]), rtol=1e-12)
    for k, frequency in enumerate(w):
        z, moved = shifted(a, frequency, continuous=False)
        assert_allclose(z, point[k], rtol=1e-13)
        assert moved == a - end


def test_a_pole_on_the_boundary_is_infinite_for_real_systems():
    a = np.array([[1.0, 0.0], [0.0, 0.5]])
    values = boundary_values(
        a, np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)), np.array([0.0, np.pi]), continuous=False
    )
    assert values[0, 0, 0].real == np.inf
    assert np.isnan(values[0, 0, 0].imag)
    assert_allclose(values[0, 0, 1], -1 / 2 - 1 / 1.5)


def test_a_matrix_of_its_own_at_each_point():
    rng = np.random.default_rng(2)
    a, b, c, z = rng.normal(size=(5, 3, 3)), rng.normal(size=(3, 2)), rng.normal(size=(4, 3)), np.exp(1j * np.arange(5))
    expected = np.stack([c @ np.linalg.solve(z[k] * np.eye(3) - a[k], b) for k in range(5)], axis=-1)
    assert_allclose(transfer._solve_batch(a, b, c, z), expected, rtol=1e-12)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_system_in_equal_units_is_not_scaled_once_more_and_keeps_its_response(continuous, monkeypatch):
    rng = np.random.default_rng(7)
    a = rng.standard_normal((6, 6)) - 4 * np.eye(6) if continuous else 0.2 * rng.standard_normal((6, 6))
    g = a, rng.standard_normal((6, 1)), rng.standard_normal((1, 6)), np.array([[0.5]])
    w = np.linspace(0.1, 3.0, 23)
    expected = boundary_values(*g, w, continuous=continuous)
    monkeypatch.setattr(transfer, "_in_equal_units", None)  # a call would be an error
    known = transfer.BoundaryTransfer(*g, continuous, balanced=True)
    assert_allclose(known.at(w), expected, rtol=1e-12)
