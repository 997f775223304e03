"""Zeros along the boundary: those of functions with known zeros, near each other, at a touch, and in noise."""

import numpy as np
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.stability import boundary_search
from ctrlattn.stability.boundary_search import samples, start_grid, zeros


def of(function):
    """A response that is a real function of w, and its only function."""
    return lambda w: function(w).astype(complex), lambda w, values: values.real[None]


def crossings_of(function, roots=(), continuous=False):
    response, functions = of(function)
    w = start_grid(np.array(roots, dtype=complex), continuous=continuous)
    return np.sort(zeros(response, functions, samples(response, functions, w), 0)), w


@every_case("gap", [0.3, 1e-2, 1e-4, 1e-6])
def test_two_zeros_next_to_each_other_are_both_seen(gap):
    crossed, _ = crossings_of(lambda w: (w - 1.3) * (w - 1.3 - gap))
    assert_allclose(crossed, [1.3, 1.3 + gap], rtol=1e-12)


@every_case("width", [1e-2, 1e-4, 1e-7])
def test_a_narrow_dip_is_seen_where_a_root_says_that_it_is(width):
    """1 - 2/(1 + ((w - 1)/width)^2): negative between 1 - width and 1 + width."""
    crossed, _ = crossings_of(lambda w: 1 - 2 / (1 + ((w - 1) / width) ** 2), [(1 - width) * np.exp(1j)])
    assert_allclose(crossed, [1 - width, 1 + width], rtol=1e-9)


def test_a_touch_is_a_zero_and_a_miss_is_none():
    assert_allclose(crossings_of(lambda w: (w - 1.7) ** 2)[0], [1.7], atol=1e-5)
    assert len(crossings_of(lambda w: (w - 1.7) ** 2 + 1e-6)[0]) == 0


def test_a_function_that_is_zero_wherever_it_is_seen_has_no_zeros():
    assert len(crossings_of(lambda w: 0 * w)[0]) == 0
    # Where rounding hides the sign, the zero lies between the signs that are sure.
    crossed, _ = crossings_of(lambda w: np.where(np.abs(w - 2) < 1e-3, 0.0, w - 2))
    assert_allclose(crossed, [2.0], atol=2e-3)


def test_noise_and_jumps_end_the_search():
    rng = np.random.default_rng(0)
    response, functions = of(lambda w: 1e-3 + 1e-3 * rng.normal(size=w.shape))
    seen = samples(response, functions, np.linspace(0.1, 3, 50))
    assert len(seen.w) <= 40_000
    assert np.all(np.diff(seen.w) > 0)
    assert seen.functions.shape == (1, len(seen.w))
    crossed, _ = crossings_of(lambda w: np.sign(w - 1.1))
    assert_allclose(crossed, [1.1], rtol=1e-12)


def test_the_start_reaches_as_near_the_ends_as_roots_ask_and_is_dense_near_sharp_ones():
    w = start_grid(np.array([1 - 1e-6, -1 + 1e-4]), continuous=False)
    assert w[0] <= 1e-8
    assert np.pi - w[-1] <= 1e-6
    assert np.all(np.diff(w) > 0)
    near = start_grid(np.array([0.999 * np.exp(0.8j)]), continuous=False)
    assert np.sum(np.abs(near - 0.8) <= 0.0101) >= 11
    s = start_grid(np.array([-1e-3, -1e3]), continuous=True)
    np.testing.assert_allclose(s[[0, -1]], [1e-6, 1e6])
    np.testing.assert_allclose(s[1:] / s[:-1], (s[-1] / s[0]) ** (1 / (len(s) - 1)))  # logarithmic, with the same step
    assert len(s) - 1 >= 7 * 12  # a decade
    assert s[0] <= 1e-5
    assert s[-1] >= 1e5
    assert (
        len(start_grid(np.array([-1.0]), continuous=True, finer=4))
        == 4 * len(start_grid(np.array([-1.0]), continuous=True)) - 3
    )
    assert np.all(start_grid(np.zeros(0), continuous=False) < np.pi)


def test_what_three_samples_may_hide_is_judged_by_their_parabola():
    """With equal ends 1 and the middle m the bend is 2 - 2 m: more than half of m asks for a closer look."""
    ends = np.ones((1, 4))
    hidden, bend = boundary_search._hidden_zeros(ends, np.array([[0.79, 0.81, -0.1, 1.0]]), ends)
    assert hidden.tolist() == [[True, False, True, False]]
    assert_allclose(bend, [[0.42, 0.38, 2.2, 0.0]], rtol=1e-12)
    # A turning point far outside hides nothing, however low the samples are; the same bend inside does.
    left, middle, right = np.array([[0.9, 0.02]]), np.array([[0.4, 0.01]]), np.array([[0.01, 0.04]])
    assert boundary_search._hidden_zeros(left, middle, right)[0].tolist() == [[False, True]]
    # One crossing hides two more only where the parabola turns between the samples.
    left, middle, right = np.array([[1.0, 1.0]]), np.array([[-0.2, -2.0]]), np.array([[-1.0, 1.0]])
    assert boundary_search._hidden_zeros(left, middle, right)[0].tolist() == [[False, True]]


def chandrupatla(function, a, b):
    """Every point at which the published method asks for a value, one bracket at a time."""
    fa, fb, t, asked = function(a), function(b), 0.5, []
    while True:
        x = a + t * (b - a)
        fx = function(x)
        asked.append(x)
        if np.sign(fx) == np.sign(fa):
            c, fc = a, fa
        else:
            c, fc, b, fb = b, fb, a, fa
        a, fa = x, fx
        best = a if abs(fa) < abs(fb) else b
        least = 2e-16 * abs(best) / abs(b - a)
        if least >= 0.5 or fa == 0 or fb == 0:
            return asked, best
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        t = 0.5
        if phi**2 < xi and (1 - phi) ** 2 < 1 - xi:
            t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        t = min(max(t, least), 1 - least)


@every_case(
    "function, a, b",
    [
        (lambda w: np.exp(w) - 2, 0.1, 3.0),
        (lambda w: w**3 - 0.7, 0.1, 2.9),
        (lambda w: (w - 1.1) ** 5, 0.2, 2.7),
        (lambda w: np.arctan(50 * (w - 1.7)), 0.1, 3.0),
        (lambda w: np.cos(w) - 0.1 * w, 0.5, 3.1),
        (lambda w: 1 / (0.3 - w) + 2, 0.4, 3.0),
        (lambda w: w**9 - 1e-3, 0.01, 1.9),
    ],
)
def test_a_zero_is_polished_by_the_published_steps(function, a, b):
    asked = []

    def recorded(w):
        asked.append(w.copy())
        return function(w)

    ends = np.array([a]), np.array([b])
    zero = boundary_search._polish(recorded, *ends, function(ends[0]), function(ends[1]))
    expected, best = chandrupatla(function, a, b)
    together = min(len(asked), len(expected), 12)  # the last points are rounding
    assert_allclose(np.ravel(asked)[:together], expected[:together], rtol=1e-9)
    assert abs(len(asked) - len(expected)) <= 2
    assert_allclose(zero, best, rtol=1e-12 if function(a) ** 2 > 1e-9 else 1e-3)


def test_the_start_grid_ends_and_refines_as_it_says():
    w = start_grid(np.array([1 - 1e-6, -1 + 1e-4]), continuous=False)
    assert_allclose([w[0], np.pi - w[-1]], [1e-9, 1e-7], rtol=1e-6)
    assert np.abs(w - 1.0).min() < 1e-15
    assert np.abs(w - (np.pi - 1)).min() < 1e-15
    assert_allclose(1 / w[w < 1 - 1e-9].max(), w[1] / w[0], rtol=1e-5)  # logarithmic up to 1
    assert_allclose(1 / (np.pi - w[w > 2.21].min()), (np.pi - w[-2]) / (np.pi - w[-1]), rtol=1e-5)
    plain = start_grid(np.zeros(0), continuous=False)
    assert_allclose([plain[0], np.pi - plain[-1]], [1e-3, 1e-3], rtol=1e-9)
    ends = start_grid(np.zeros(0), continuous=True)
    assert_allclose(ends[[0, -1]], [1e-3, 1e3])
    assert len(ends) == 7 * 6 + 2
    for finer in (2, 3):
        fine = start_grid(np.zeros(0), continuous=True, finer=finer)
        assert_allclose(fine[::finer], ends)
        assert_allclose(fine[1], ends[0] + (ends[1] - ends[0]) / finer)


@every_case(
    "angle, distance, sharp",
    [(0.5, 0.149, True), (0.5, 0.151, False), (2.8, 0.10, True), (2.8, 0.105, False), (0.0, 0.01, False)],
)
def test_a_root_is_sharp_within_three_tenths_of_its_angle_to_either_end(angle, distance, sharp):
    w = start_grid(np.array([(1 - distance) * np.exp(1j * angle)]), continuous=False)
    assert (np.abs(w - angle).min() < 1e-15) == sharp


def test_samples_belong_to_their_frequencies():
    response, functions = of(lambda w: np.cos(3 * w) - 0.2)
    for start in (np.linspace(0.1, 3, 7), np.array([0.1, 1.0, 3.1])):
        seen = samples(response, functions, start)
        assert np.all(np.diff(seen.w) > 0)
        assert len(seen.w) > len(start)
        assert_allclose(seen.values, response(seen.w), rtol=1e-14)
        assert_allclose(seen.functions, functions(seen.w, seen.values), rtol=1e-14)


def test_a_dip_in_the_last_step_is_seen():
    response, functions = of(lambda w: (w - 2.90) * (w - 2.95))
    seen = samples(response, functions, np.array([0.1, 1.0, 2.0, 3.0]))
    assert_allclose(np.sort(zeros(response, functions, seen, 0)), [2.90, 2.95], rtol=1e-12)


def test_a_jump_ends_the_halving_once_it_has_bent_as_much_six_times():
    calls = []

    def response(w):
        calls.append(len(w))
        return np.where(w > 1.1, 1.0, -1.0).astype(complex)

    samples(response, lambda w, values: values.real[None], np.linspace(0.5, 2.5, 5))
    assert len(calls) == 2 + boundary_search._STALLED  # the grid, every step once, then the halves that bend as much


def test_a_response_that_asks_for_too_many_points_is_noise(monkeypatch):
    monkeypatch.setattr(boundary_search, "_MOST", 60)
    rng = np.random.default_rng(0)
    response, functions = of(lambda w: rng.normal(size=w.shape))
    assert 60 < len(samples(response, functions, np.linspace(0.1, 3, 50)).w) <= 120


@every_case(
    "three, hidden",
    [
        ((0.3, 0.5, 0.5), True),  # twice the curvature 0.2 is over the lowest of the three alone
        ((0.5, 0.5, 0.3), True),
        ((1.0, -0.2, -0.7), False),  # crossed: 2 * 0.7 < 1.7 < 3 * 0.7
        ((1.0, 0.42, 0.05), False),  # 4 * 0.21 < 0.95 < 5 * 0.21
        ((1.0, 0.40, 0.05), True),
    ],
)
def test_each_bound_of_the_parabola_counts(three, hidden):
    assert boundary_search._hidden_zeros(*(np.array([[x]]) for x in three))[0].tolist() == [[hidden]]


def on_grid(function, w):
    response, functions = of(function)
    values = response(w)
    return zeros(response, functions, boundary_search.Samples(w, values, functions(w, values)), 0)


def test_zeros_of_neighbouring_steps_a_touch_and_rounding_next_to_a_crossing():
    w = np.array([1.0, 2.0, 3.0, 4.0])
    assert_allclose(on_grid(lambda w: (w - 1.5) * (w - 2.5), w), [1.5, 2.5], rtol=1e-14)
    assert_allclose(on_grid(lambda w: (w - 2) ** 2 * (3.5 - w), w), [3.5, 2.0], rtol=1e-14)
    assert_allclose(on_grid(lambda w: (w - 3) ** 2 * (w - 1.5), w), [1.5, 3.0], rtol=1e-14)
    near = 2 + 1e-11 * np.array([-4.0, -3.0, -2.0, 1.0])
    rounded = dict(zip(np.append(near, [1.0, 3.0]).tolist(), [-2e-11, -1e-11, -3e-11, 1e-11, -1.0, 1.0], strict=True))
    crossed = on_grid(lambda w: np.array([rounded.get(x, x - 2) for x in w.tolist()]), np.array([1.0, *near, 3.0]))
    assert_allclose(crossed, [2.0], rtol=1e-10)
