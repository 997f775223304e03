"""The Kreiss constant against closed forms, against sup (rho_eps - 1)/eps, and where it is infinite."""

import math

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import (
    CausalMean,
    FixedAttention,
    Loop,
    kreiss_constant,
    linearize,
    numerical_radius,
    pass_operator,
    pseudospectral_abscissa,
    pseudospectral_radius,
    transient_growth,
)
from ctrlattn.stability import numerical_abscissa
from ctrlattn.stability.nonnormal import kreiss
from ctrlattn.stability.nonnormal.pseudospectral_bounds import outer_positions
from ctrlattn.stability.nonnormal.resolvent_levels import least_sigma


def closed_form(a, c):
    """THEORY 5, for [[a, c], [0, a]]."""
    return c / (4 * (1 - a)) + (1 - a) / c if c >= 2 * (1 - a) else 1.0


def grcar(n):
    return np.triu(np.tril(np.ones((n, n)), 3)) - np.eye(n, k=-1)


def rotated(a, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal(a.shape) + (1j * rng.standard_normal(a.shape) if dtype is complex else 0))[0]
    return q @ a @ q.conj().T


@every_case("a", [0.0, 0.3, 0.9, 0.999])
@every_case("c", [0.001, 0.1, 1.0, 50.0])
def test_the_exact_case_in_both_domains_triangular_and_rotated(a, c):
    matrix = np.array([[a, c], [0.0, a]])
    expected = closed_form(a, c)
    assert_allclose(kreiss_constant(matrix), expected, rtol=1e-8)
    assert_allclose(kreiss_constant(matrix.T), expected, rtol=1e-8)
    assert_allclose(kreiss_constant(matrix - np.eye(2), continuous=True), expected, rtol=1e-8)
    if expected < 1e4:
        assert_allclose(kreiss_constant(rotated(matrix)), expected, rtol=1e-7)
        assert_allclose(kreiss_constant(rotated(matrix, dtype=complex)), expected, rtol=1e-7)


def test_complex_poles_turn_and_do_not_matter():
    matrix = np.array([[0.9, 1.0], [0.0, 0.9]])
    assert_allclose(kreiss_constant(matrix * np.exp(0.7j)), closed_form(0.9, 1.0), rtol=1e-8)
    shifted = matrix - np.eye(2) + 3j * np.eye(2)
    assert_allclose(kreiss_constant(shifted, continuous=True), closed_form(0.9, 1.0), rtol=1e-8)


def test_the_largest_of_several_peaks_is_found():
    # Two blocks whose resolvents peak at different distances and angles: the constant is the larger of the two.
    left, right = np.array([[0.5, 3.0], [0.0, 0.5]]), np.array([[0.99, 0.1], [0.0, 0.99]]) * np.exp(2.1j)
    both = np.block([[left, np.zeros((2, 2))], [np.zeros((2, 2)), right]])
    expected = max(closed_form(0.5, 3.0), closed_form(0.99, 0.1))
    assert closed_form(0.99, 0.1) > closed_form(0.5, 3.0) > 1.5
    assert_allclose(kreiss_constant(both), expected, rtol=1e-8)
    assert_allclose(kreiss_constant(rotated(both, dtype=complex)), expected, rtol=1e-7)


@every_case("continuous, dtype", [(False, float), (True, complex)])
def test_two_definitions_agree(continuous, dtype):
    """sup over z of distance times resolvent = sup over eps of (rho_eps - 1)/eps."""
    rng = np.random.default_rng(3)
    size = rng.standard_normal((8, 8)) + (1j * rng.standard_normal((8, 8)) if dtype is complex else 0)
    matrix = rotated(np.triu(size, 1) + np.diag(rng.uniform(-0.9, 0.9, 8)), dtype=dtype)
    if continuous:
        matrix = matrix - 1.2 * np.eye(8)
    outermost, border = (pseudospectral_abscissa, 0.0) if continuous else (pseudospectral_radius, 1.0)
    constant = kreiss_constant(matrix, continuous=continuous)
    ratios = [(outermost(matrix, eps) - border) / eps for eps in np.geomspace(1e-5, 10, 60)]
    assert max(ratios) <= constant * (1 + 1e-9)
    assert_allclose(max(ratios), constant, rtol=5e-3)
    assert constant > 1.5


def test_it_bounds_the_growth():
    matrix = grcar(32) / 2.9
    growth = transient_growth(matrix, 300)
    assert growth.lower <= growth.peak <= growth.upper
    assert growth.lower == kreiss_constant(matrix) > 1.4


@every_case(
    "matrix", [np.zeros((1, 1)), np.zeros((3, 3)), np.eye(1), -np.eye(2), np.eye(9, k=1), np.roll(np.eye(5), 1, 0),
               np.diag([0.99, 0.2]), np.array([[1j]])],
    ids=["0", "zeros", "integrator", "pole at -1", "delays", "permutation", "normal", "i"],
)  # fmt: skip
def test_contractions_have_exactly_one(matrix):
    assert kreiss_constant(matrix) == 1.0
    assert numerical_radius(matrix) <= 1 + 1e-12


@every_case(
    "matrix",
    [
        np.array([[1.0, 0.0], [-1.0, 1.0]]),
        rotated(np.array([[1.0, 1.0], [0.0, 1.0]])),
        np.array([[1.0000001]]),
        np.array([[2.0]]),
        np.array([[-1.0, 3.0, 0.0], [0.0, 0.5, 1.0], [0.0, 0.0, -1.0]]),
        np.array([[1j, 1e-3], [0.0, 1j]]),
        rotated(0.5 * np.eye(64) + np.eye(64, k=1)),  # rounding makes it unstable, and that is what is stored
    ],
    ids=["2 tokens", "rotated", "outside", "2", "at -1, through another", "at i", "rotated Jordan block"],
)
def test_infinite_is_said(matrix):
    assert kreiss_constant(matrix) == math.inf


def test_the_automaton_has_none():
    for n in (2, 3, 40):
        assert kreiss_constant(pass_operator(Loop(CausalMean(), order="sequential"), n)) == math.inf
    assert kreiss_constant(pass_operator(Loop(CausalMean(), order="sequential"), 1)) == 1.0


def test_infinite_in_continuous_time():
    assert kreiss_constant(np.eye(2, k=1), continuous=True) == math.inf  # a double integrator
    assert kreiss_constant(np.array([[1e-6]]), continuous=True) == math.inf
    assert kreiss_constant(np.zeros((2, 2)), continuous=True) == 1.0


def test_simple_poles_on_the_border_are_no_jordan_block():
    # diag(1, -1) in a skew basis: the limit at the circle is the norm of the spectral projector, sqrt(1 + (c/2)^2).
    c = 5.0
    constant = kreiss_constant(np.array([[1.0, c], [0.0, -1.0]]))
    assert_allclose(constant, math.hypot(1.0, c / 2), rtol=1e-4)
    # An undamped oscillator, projector norm 1.25.
    assert_allclose(kreiss_constant(np.array([[0.0, 1.0], [-4.0, 0.0]]), continuous=True), 1.25, rtol=1e-4)
    two_equal = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.5]])
    assert 1.0 < kreiss_constant(two_equal) < 10.0


def test_attention_is_power_bounded():
    """A row-stochastic matrix has a simple eigenvalue 1; its powers are row-stochastic, so K <= sqrt(n)."""
    weights = np.tril(np.random.default_rng(0).random((12, 12)))
    weights /= weights.sum(1, keepdims=True)
    assert 1.0 < kreiss_constant(weights) <= math.sqrt(12)


def test_scale_of_continuous_time_does_not_matter():
    matrix = np.array([[-1.0, 5.0], [0.0, -1.0]])
    expected = closed_form(0.0, 5.0)
    for scale in (1e-9, 1.0, 1e9, 1e100):
        assert_allclose(kreiss_constant(scale * matrix, continuous=True), expected, rtol=1e-8)


def test_systems_bring_their_time_domain():
    matrix = np.array([[-0.25, 2.0], [0.0, -0.25]])
    b, c = np.ones((2, 1)), np.ones((1, 2))
    discrete, continuous = (control.ss(matrix, b, c, 0, dt) for dt in (1, 0))
    assert_allclose(kreiss_constant(discrete), kreiss_constant(matrix), rtol=1e-12)
    assert_allclose(kreiss_constant(continuous), kreiss_constant(matrix, continuous=True), rtol=1e-12)
    assert abs(kreiss_constant(discrete) - kreiss_constant(continuous)) > 0.05
    system = linearize(Loop(FixedAttention(np.array([[0.5, 0.0], [4.0, 0.5]]))), np.ones((2, 1)))
    assert_allclose(kreiss_constant(system), closed_form(0.5, 4.0), rtol=1e-8)


def test_torch_and_integers_are_read():
    torch = pytest.importorskip("torch")
    assert_allclose(kreiss_constant(torch.tensor([[0.5, 2.0], [0.0, 0.5]])), 1.25, rtol=1e-8)
    assert kreiss_constant(np.array([[0, 1], [0, 0]])) == 1.0


@every_case(
    "given, error, word",
    [
        (np.ones((2, 3)), ValueError, "square"),
        (np.empty((0, 0)), ValueError, "n >= 1"),
        (np.array([[np.nan]]), ValueError, "finite"),
        (np.array([[np.inf, 0], [0, 0]]), ValueError, "finite"),
        (np.array([["a"]]), TypeError, "numbers"),
        (np.broadcast_to(0.0, (1001, 1001)), ValueError, "n <= 1000"),
        ([Loop(CausalMean())] * 2, ValueError, "sequence of 2"),
        (Loop(CausalMean()), TypeError, "pass_operator"),
        (control.tf([1], [1, 0.5], 1), TypeError, "StateSpace"),
    ],
    ids=["shape", "empty", "nan", "inf", "text", "1001", "sequence", "loop", "tf"],
)
def test_refused(given, error, word):
    with pytest.raises(error, match=word):
        kreiss_constant(given)


def test_a_flag_that_contradicts_the_system():
    with pytest.raises(ValueError, match="contradicts"):
        kreiss_constant(control.ss([[0.5]], [[1]], [[1]], 0, 1), continuous=True)


def test_what_double_precision_cannot_tell_is_an_error():
    with pytest.raises(ArithmeticError, match="cannot tell"):
        kreiss_constant(0.5 * np.eye(64) + np.eye(64, k=1))


@every_case("continuous", [False, True])
@every_case("seed", range(3))
def test_the_bounds_of_the_search_keep_their_promises(seed, continuous):
    """Where the resolvent proves K > 1, where no larger value can be, and the chord that lies above log M."""
    rng = np.random.default_rng(seed)
    a = np.triu(rng.standard_normal((5, 5)), 1) + np.diag(rng.uniform(-0.8, 0.8, 5))
    a = a - np.eye(5) if continuous else a
    reach = numerical_abscissa(a) if continuous else numerical_radius(a)
    border = 0.0 if continuous else 1.0

    def log_m(distance):
        return -math.log(least_sigma(a, border + distance, continuous, [0.0])[0])

    far = kreiss._beyond_one(a, reach, continuous)
    assert math.log(far) + log_m(far) > 0
    spectrum = outer_positions(np.diag(a), continuous)
    t = kreiss._place(far, continuous)
    best = kreiss._Node(t, log_m(far), 0.0, math.log(far) + log_m(far))
    low, high = kreiss._range(a, best, reach, spectrum, False, continuous)
    assert 0 < low < far < high
    low, high = kreiss._range(a, best, reach, spectrum, True, continuous)
    assert 0 < low <= far / 2
    assert high >= 2 * far * (1 - 1e-14)  # the distance went through a logarithm
    grid = np.geomspace(1e-6, 1e3, 60)
    values = np.array([math.log(distance) + log_m(distance) for distance in grid])
    above = np.flatnonzero(values > 1e-3)
    assert len(above) > 10
    for i in above[:: len(above) // 6]:  # whatever the best value so far, the range holds the places of all larger ones
        best = kreiss._Node(kreiss._place(grid[i], continuous), 0.0, 0.0, values[i])
        low, high = kreiss._range(a, best, reach, spectrum, False, continuous)
        better = grid[values > values[i] + 1e-9]
        assert low < grid[i] < high
        assert np.all((better >= low) & (better <= high))
    ends = []
    for distance in (low, far):
        ends.append(kreiss._Node(kreiss._place(distance, continuous), log_m(distance), 0.0, 0.0))
    upper, where = kreiss._bound(*ends, continuous)
    grid = np.linspace(ends[0].t, ends[1].t, 2001)
    share = (grid - grid[0]) / (grid[-1] - grid[0])
    chord = np.log(grid if continuous else np.expm1(grid)) + (1 - share) * ends[0].log_m + share * ends[1].log_m
    assert_allclose(upper, chord.max(), atol=1e-5)
    assert abs(where - grid[np.argmax(chord)]) <= 2 * (grid[1] - grid[0])
    inside = np.geomspace(low, far, 9)
    assert all(math.log(d) + log_m(d) <= upper + 1e-9 for d in inside)


@every_case("outside", [0.5, 0.5 + 3j, 1e-3 - 2j])
def test_one_eigenvalue_outside_among_others_is_enough(outside):
    others = np.array([-1.0, -0.3 + 1j, -2.0])
    assert kreiss_constant(np.diag([*others, outside]), continuous=True) == math.inf
    assert kreiss_constant(np.diag([outside, *others]), continuous=True) == math.inf
    assert kreiss_constant(np.diag(np.exp([*others, outside]))) == math.inf
    assert kreiss_constant(np.diag(np.exp(others))) == 1.0


@every_case("c", [2.2, 3.0, 10.0, 1e4])
def test_beyond_the_norm_alone_the_constant_exceeds_one(c):
    """||(xI - A)v||^2 = x^2 - 2xw + ||Av||^2 with v of the abscissa w: below x^2 if x > ||A||^2/(2w)."""
    a = np.array([[-1.0, c], [0.0, -1.0]])
    reach = c / 2 - 1
    assert_allclose(numerical_abscissa(a), reach)
    assert kreiss._beyond_one(a, reach, True) > np.linalg.norm(a, 2) ** 2 / (2 * reach)


@every_case("continuous", [False, True])
@every_case("c", [2.2, 10.0, 100.0])
@every_case("k", [1.05, 2.0, 20.0])
def test_no_place_outside_the_range_has_a_larger_value(c, k, continuous):
    """||R(x)|| <= 1/(x - w), w the numerical abscissa: x ||R(x)|| <= k if x >= k w/(k - 1). The same with r, w - 1.

    ||R|| is at most what it is on the border, 1/sigma: x ||R(x)|| <= k if x <= k sigma.
    """
    a = np.array([[-1.0, c], [0.0, -1.0]])  # and, with I added, a matrix of zeros but for c
    sigma = np.linalg.svd(a, compute_uv=False)[-1]
    beyond, border = c / 2 - 1, 0.0 if continuous else 1.0
    matrix, reach = (a, beyond) if continuous else (a + np.eye(2), 1 + beyond)

    def value(distance):
        return distance / least_sigma(matrix, border + distance, continuous, [0.0])[0]

    def ends(here):
        best = kreiss._Node(kreiss._place(here, continuous), 0.0, 0.0, math.log(k))
        return kreiss._range(matrix, best, reach, [0.0], False, continuous)

    assert_allclose(ends(1e-6)[1], k * beyond / (k - 1), rtol=1e-9)
    assert_allclose(ends(1e6)[0], k * sigma, rtol=1e-9)
    assert value(k * beyond / (k - 1)) <= k * (1 + 1e-12)
    assert value(k * sigma) <= k * (1 + 1e-12)


@every_case("continuous", [False, True])
@every_case("c", [2.2, 3.0, 10.0, 1e4])
def test_twice_the_place_that_the_norm_asks_for_is_beyond_it(c, continuous):
    """|z|^2 - 2 |z| w + ||A||^2 is the square of the distance from the border at one place."""
    a = np.array([[-1.0, c], [0.0, -1.0]]) if continuous else np.array([[0.0, c], [0.0, 0.0]])
    w = c / 2 - 1 if continuous else c / 2
    square = np.linalg.norm(a, 2) ** 2
    border = 0.0 if continuous else 1.0
    line = np.array([1.0, -2 * w, square]) - np.array([1.0, -2 * border, border])  # 0 x^2 + ... by x
    place = 2 * -line[2] / line[1] - border
    assert_allclose(kreiss._beyond_one(a, w, continuous), max(place, w) if border else place, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_an_oscillator_in_any_unit_and_basis(scale):
    """The energy of x' = v, v' = -w^2 x: K = (w + 1/w)/2. Frequencies that rounding cannot part count as a block."""
    for turned, w in ((lambda a: a, 0.3), (rotated, 0.01)):
        a = scale * turned(np.array([[0.0, 1.0], [-(w**2), 0.0]]))
        assert_allclose(kreiss_constant(a, continuous=True), (w + 1 / w) / 2, rtol=2e-3)
    assert kreiss_constant(scale * np.array([[0.0, 1.0], [-1e-16, 0.0]]), continuous=True) == math.inf
    assert kreiss_constant(scale * rotated(np.diag([1e-3, -1.0])), continuous=True) == math.inf
    assert kreiss_constant(scale * np.array([[1e-3]]), continuous=True) == math.inf


@every_case("continuous", [False, True])
@every_case("order", [[0, 1, 2], [2, 0, 1]])
def test_a_block_of_two_beside_a_simple_eigenvalue_is_found(order, continuous):
    on = np.array([1j, 1j, -2j]) if continuous else np.array([1.0, 1.0, -1.0])
    a = np.diag(on).astype(complex)
    a[0, 1] = 1e-3
    a = a[np.ix_(order, order)]
    for matrix in (a, rotated(a, dtype=complex)):
        assert kreiss_constant(matrix, continuous=continuous) == math.inf
    assert kreiss_constant(np.diag(on), continuous=continuous) == 1.0


def test_few_evaluations_are_enough(monkeypatch):
    """What only widens the range or chooses poorer places costs evaluations of the resolvent."""
    places = []

    def counted(a, level, continuous, starts):
        places.append(level)
        return least_sigma(a, level, continuous, starts)

    monkeypatch.setattr(kreiss, "least_sigma", counted)
    for a, c in ((0.3, 1.5), (0.9, 1.0), (0.9, 50.0), (0.999, 0.1)):
        for matrix, continuous in ((np.array([[a, c], [0.0, a]]), False), (np.array([[a - 1, c], [0.0, a - 1]]), True)):
            assert_allclose(kreiss_constant(matrix, continuous=continuous), closed_form(a, c), rtol=1e-8)
    assert len(places) <= 290


@every_case("continuous, slope", [(True, 0.0), (False, 0.0), (False, -0.5), (False, -0.99)])
def test_a_flat_chord_is_highest_at_its_far_end(continuous, slope):
    """d log(r - 1)/d log r = r/(r - 1) > 1 and d log x/dx > 0: what falls more slowly rises up to the far end."""
    left, right = kreiss._Node(0.2, 0.7, 0.0, 0.0), kreiss._Node(0.6, 0.7 + 0.4 * slope, 0.0, 0.0)
    distance = 0.6 if continuous else math.expm1(0.6)
    assert_allclose(kreiss._bound(left, right, continuous), (math.log(distance) + right.log_m, 0.6), rtol=1e-12)


@every_case("scale", [1e-6, 1.0, 1e6])
@every_case("triangular, near", [(True, 8 * 2.0**-52), (False, 1e-7)])
def test_eigenvalues_are_of_one_block_where_they_differ_by_rounding_of_the_scale(scale, triangular, near):
    for share, defective in ((0.5, True), (2.0, False)):
        a = scale * np.array([[0.0, 1.0], [0.0, share * near]])
        values = np.diag(a)
        if not triangular:
            turn = np.array([[0.6, -0.8], [0.8, 0.6]])
            a = turn @ a @ turn.T
        assert kreiss._defective(a, values, scale) == defective
    for coupling in (0.0, 1e-20):  # two simple eigenvalues in one place, beside a third
        a = scale * np.array([[0.0, coupling, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
        assert not kreiss._defective(a, np.zeros(2), scale)
