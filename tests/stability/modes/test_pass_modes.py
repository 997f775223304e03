"""Which eigenvalues a controller over passes leaves stable: closed forms, exact ends, and the odd-number limit."""

import control
import numpy as np
import numpy.testing as npt
import pytest
from cases import every_case

from ctrlattn import PID, InputError, LTIController
from ctrlattn.stability.modes import pass_modes
from ctrlattn.stability.modes.pass_modes import (
    odd_number_limit,
    pass_boundary,
    pass_poles,
    passes_stable,
    stable_gains,
    stable_recalls,
)

HEAVY = LTIController(control.tf([0.5, 0], [1, -0.6], 1))
DYNAMIC = [PID(0.4, 0.05), PID(0.3, 0.0, 0.2), PID(0.4, 0.1, 0.05, form="ema"), HEAVY]


def eigenvalues(seed, m=6, below=1.0):
    """Some real, some in pairs, with Re lambda < below."""
    rng = np.random.default_rng(seed)
    real = below - rng.exponential(1.5, m) - 0.02
    pair = below - rng.exponential(1.5, m) - 0.02 + 1j * rng.normal(0, 1, m)
    return np.concatenate([real, pair, pair.conj()])


# --- closed forms -------------------------------------------------------------------------------------------------


@every_case("recall", [0.0, 0.7])
@every_case("gain", [1.0, 0.3])
def test_a_gain_leaves_stable_what_lies_in_its_disk(gain, recall):
    rng = np.random.default_rng(0)
    modes = rng.normal(0, 3, 2000) + 1j * rng.normal(0, 3, 2000)
    inside = np.abs(modes - (1 + recall - 1 / gain)) < 1 / gain
    npt.assert_array_equal(passes_stable(PID(gain), modes, recall), inside)
    npt.assert_allclose(pass_poles(PID(gain), modes, recall)[:, 0], 1 + gain * (modes - 1 - recall), rtol=1e-13)


def test_the_edge_of_the_disk_is_not_stable():
    # lambda = 1 + k_r is the pole 1, lambda = 1 + k_r - 2/g the pole -1, both on the circle to the last digit.
    assert passes_stable(PID(0.25), [1.5, -6.5, 1.5 - 1e-12, -6.5 + 1e-12], 0.5).tolist() == [False, False, True, True]
    assert passes_stable(None, [1.0, -1.0, 0.0]).tolist() == [False, False, True]


@every_case("recall", [0.0, 0.3])
@every_case("controller", [DYNAMIC[0], DYNAMIC[1], HEAVY])  # of the other a pair crosses first
def test_the_edge_at_minus_one_is_decided_to_the_last_digits(controller, recall):
    num, den = controller.fraction()
    edge = 1 + recall - 2 * np.polyval(den, -1.0) / np.polyval(num, -1.0)
    modes = edge + np.array([-1e-3, -1e-9, -1e-12, 1e-12, 1e-9, 1e-3])
    assert passes_stable(controller, modes, recall).tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("recall", [0.0, 0.4])
def test_the_boundary_of_a_gain_is_its_circle(recall):
    omega = np.linspace(0, np.pi, 9)
    edge = pass_boundary(PID(0.25), omega, recall)
    npt.assert_allclose(np.abs(edge - (1 + recall - 4)), 4, rtol=1e-14)


@every_case("controller", [None, PID(0.5), *DYNAMIC])
def test_on_the_boundary_a_pole_is_on_the_circle(controller):
    omega = np.linspace(0.1, np.pi, 40)
    poles = pass_poles(controller, pass_boundary(controller, omega, 0.3), 0.3)
    npt.assert_allclose(np.min(np.abs(poles - np.exp(1j * omega)[:, None]), axis=1), 0, atol=1e-9)


def test_at_a_pole_of_the_controller_the_boundary_touches_the_edge_and_at_a_zero_it_leaves():
    assert pass_boundary(PID(0.4, 0.1), np.array([0.0]), 0.5)[0] == 1.5
    assert np.isinf(pass_boundary(control.tf([1, 1], [1, 0], 1), np.array([np.pi]))[0])


@every_case("seed", range(20))
def test_the_largest_gain_of_a_static_controller(seed):
    modes, recall = eigenvalues(seed, below=1.5), 0.5
    [(low, high)] = stable_gains(PID(0.5), modes, recall)
    w = 1.5 - modes
    assert low == 0
    assert high == pytest.approx(min(2 * w.real / np.abs(w) ** 2) / 0.5, rel=1e-12)
    # The same through exact numbers, as a transfer function with a pole and a zero that cancel nothing it does.
    [(low, exact)] = stable_gains(control.tf([0.5, 0.0], [1.0, 0.0], 1), modes, recall)
    assert exact == pytest.approx(high, rel=1e-9)


@every_case("seed", range(20))
def test_the_recalls_of_a_static_controller(seed):
    modes, gain = eigenvalues(seed, below=2.5), 0.3
    intervals = stable_recalls(PID(gain), modes)
    grid = np.linspace(0, 12, 2401)
    stable = np.array([np.all(np.abs(1 + gain * (modes - 1 - k)) < 1) for k in grid])
    assert len(intervals) == bool(np.any(stable))
    for low, high in intervals:
        npt.assert_array_equal(((low < grid) | (grid == low)) & (grid < high), stable)


@every_case("controller", DYNAMIC)
@every_case("seed", range(3))
def test_intervals_of_a_controller_with_memory_hold_on_a_grid(controller, seed):
    modes, recall = eigenvalues(seed, m=2, below=1.2), 0.2
    for intervals, radius in (
        (stable_gains(controller, modes, recall), lambda g: scaled_radius(controller, modes, recall, g)),
        (stable_recalls(controller, modes), lambda k: scaled_radius(controller, modes, k, 1.0)),
    ):
        for x in np.linspace(0.01, 4, 23):
            away = [abs(x - end) for pair in intervals for end in pair]
            if min(away, default=1) > 1e-6:
                assert any(low < x < high for low, high in intervals) == (radius(x) < 1 - 1e-12)


def scaled_radius(controller, modes, recall, factor):
    """Largest root over the modes, from the polynomial written out."""
    num, den = controller.fraction()
    largest = 0.0
    for mode in modes:
        p = np.polysub(np.polymul(den, [1.0, -1.0]), factor * np.asarray(num) * (mode - 1 - recall))
        largest = max(largest, np.abs(np.roots(p)).max())
    return largest


def test_negative_gains_hold_what_lies_wholly_beyond_the_edge():
    # All lambda > 1 + k_r: C = -g works, and C(1) < 0.
    [(low, high)] = stable_gains(None, [2.0, 3.0])
    assert (low, high) == (-1.0, 0.0)
    assert stable_gains(None, [2.0, 0.0]) == []
    assert stable_gains(PID(0.0), [0.5]) == []


def test_an_eigenvalue_that_rounding_puts_on_the_edge_is_refused():
    # 1 + g (lambda - 1) is 1 in double precision for every gain that the other eigenvalue bears.
    with pytest.raises(ArithmeticError, match="too near 1 \\+ recall"):
        stable_gains(None, [1 - 2.0**-53, -3.0])


# --- the odd-number limit -----------------------------------------------------------------------------------------


def random_controller(rng, *, stable):
    """(num, den) of order 0 to 4, den monic; a stable one may have an integrator."""
    order = int(rng.integers(0, 5))
    radius = rng.uniform(0, 0.999, order) if stable else rng.uniform(0, 3, order)
    angle = np.where(rng.random(order) < 0.5, rng.choice([0, np.pi], order), rng.uniform(0, np.pi, order))
    roots = []
    for r, t in zip(radius, angle, strict=True):
        complex_pair = 0 < t < np.pi and len(roots) + 2 <= order
        roots += [r * np.exp(1j * t), r * np.exp(-1j * t)] if complex_pair else [r * np.sign(np.cos(t) or 1)]
    roots = roots[:order] if np.isrealobj(np.poly(roots[:order])) else [abs(x) for x in roots[:order]]
    if stable and order and rng.random() < 0.3:
        roots[-1] = 1.0 if np.isreal(roots[-1]) else roots[-1]
    den = np.real(np.poly(roots)) if roots else np.ones(1)
    return rng.standard_normal(order + 1) * 10 ** rng.uniform(-2, 1), den


def largest_real_root(num, den, eigenvalue, recall):
    roots = np.roots(np.polysub(np.polymul(den, [1.0, -1.0]), num * (eigenvalue - 1 - recall)))
    real = roots.real[np.abs(roots.imag) < 1e-6 * (1 + np.abs(roots))]
    return np.max(real, initial=-np.inf), np.abs(roots).max()


def test_no_controller_with_a_positive_numerator_at_1_stabilises_a_real_eigenvalue_beyond_the_edge():
    rng = np.random.default_rng(0)
    for trial in range(800):
        num, den = random_controller(rng, stable=trial % 2 == 0)
        num = num * np.sign(num.sum())
        recall = rng.exponential(1.0)
        eigenvalue = 1 + recall + rng.exponential(1.0) + 1e-3
        real, radius = largest_real_root(num, den, eigenvalue, recall)
        assert real > 1
        assert radius > 1


def test_a_stable_controller_has_the_sign_of_its_static_gain_in_its_numerator():
    rng = np.random.default_rng(1)
    for _ in range(2000):
        num, den = random_controller(rng, stable=True)
        if den.sum() > 1e-9:
            assert np.sign(num.sum()) == np.sign(num.sum() / den.sum())


def test_no_controller_whatever_holds_real_eigenvalues_on_both_sides_of_the_edge():
    rng = np.random.default_rng(2)
    for _ in range(800):
        num, den = random_controller(rng, stable=False)
        recall = rng.exponential(1.0)
        above, below = 1 + recall + rng.exponential(1.0) + 1e-3, 1 + recall - rng.exponential(1.0) - 1e-3
        both = [largest_real_root(num, den, x, recall) for x in (above, below)]
        assert max(real for real, _ in both) > 1


def test_on_the_edge_itself_the_pole_is_1_under_every_controller():
    rng = np.random.default_rng(3)
    for _ in range(200):
        num, den = random_controller(rng, stable=True)
        p = np.polysub(np.polymul(den, [1.0, -1.0]), num * 0.0)
        assert abs(np.polyval(p, 1.0)) < 1e-12
    assert not passes_stable(PID(0.5, 0.1), 1.5, 0.5)


def test_an_unstable_controller_is_the_exception_that_the_theorem_must_name():
    # C(1) = 1/w > 0 with den = z - 2: num(1) < 0, and both closed-loop poles are at 0.
    w = 0.8  # lambda - 1 - k_r
    unstable = control.tf([-3 / w, 2 / w], [1, -2], 1)
    assert float(np.real(unstable(1))) == pytest.approx(1 / w)
    npt.assert_allclose(pass_poles(unstable, 1 + w), 0, atol=1e-7)
    assert passes_stable(unstable, 1 + w)
    assert not passes_stable(unstable, 1 - w)  # and it loses every real eigenvalue below


def test_the_limit_says_which_eigenvalue_and_which_recall():
    limit = odd_number_limit([0.4, 3.3, 2.1, 2.8 + 0.5j, 2.8 - 0.5j, 1.5], 0.5)
    assert limit.above.tolist() == [3.3, 2.1, 1.5]
    assert limit.below.tolist() == [0.4]
    assert limit.recall == pytest.approx(2.3)
    assert limit.binds
    assert "3.3" in limit.in_words()
    assert "recall above 2.3 would" in limit.in_words()
    free = odd_number_limit([0.4, 2.8 + 0.5j, 2.8 - 0.5j])
    assert not free.binds
    assert free.recall == pytest.approx(1.8)
    assert "forbids nothing" in free.in_words()


@every_case("seed", range(10))
def test_above_the_recall_of_the_limit_some_gain_is_stable_and_below_none(seed):
    modes = eigenvalues(seed, below=4.0)
    limit = odd_number_limit(modes).recall
    assert len(stable_gains(None, modes, limit + 1e-3)) == 1
    assert stable_gains(None, modes, limit - 1e-3) == []


@every_case(
    "call, says",
    [
        (lambda: pass_poles(None, []), "at least one eigenvalue"),
        (lambda: pass_poles(None, [np.nan]), "all of them finite"),
        (lambda: pass_poles(None, "spectrum"), "array of numbers"),
        (lambda: pass_poles(None, 0.5, -1.0), "recall must be at least 0"),
        (lambda: pass_poles(control.tf([1], [1, 1]), 0.5), "continuous-time"),
        (lambda: pass_boundary(None, [np.inf]), "omega must be finite"),
        (lambda: odd_number_limit([0.5], -0.1), "recall must be at least 0"),
    ],
)
def test_bad_input_says_what_would_be_right(call, says):
    with pytest.raises(InputError, match=says):
        call()


# --- near the circle, and errors ----------------------------------------------------------------------------------


def test_exact_roots_decide_near_the_circle_and_eigenvalues_elsewhere(monkeypatch):
    """Two poles in a cluster move by 6e-8: within that the computed radius says nothing, and beyond it is trusted."""
    modes = np.array([0.5, 3.0])
    assert passes_stable(HEAVY, modes).tolist() == [True, False]
    for off, trusted in ((1e-9, False), (-1e-9, False), (5e-8, False), (1e-6, True), (0.5, True)):
        monkeypatch.setattr(pass_modes, "spectral_radii", lambda matrices, off=off: np.array([1 + off, 1 - off]))
        assert passes_stable(HEAVY, modes).tolist() == ([False, True] if trusted else [True, False])


@every_case("recall", [0.0, 0.7])
@every_case("controller", [None, *DYNAMIC])
def test_poles_are_the_roots_of_the_polynomial(controller, recall):
    modes = np.array([[0.3, -1.2], [1.4 + 0.5j, 0.1 - 2j]])
    num, den = ([1.0], [1.0]) if controller is None else controller.fraction()
    poles = pass_poles(controller, modes, recall)
    for at in np.ndindex(2, 2):
        expected = np.polyadd(np.polymul(den, [1.0, -1.0]), np.asarray(num) * (1 + recall - modes[at]))
        npt.assert_allclose(np.poly(poles[at]), expected, atol=1e-12)
    assert passes_stable(controller, modes, recall).tolist() == (np.abs(poles).max(-1) < 1).tolist()


@every_case("controller", DYNAMIC)
def test_exact_pencils_are_the_polynomial_in_the_gain_and_in_the_recall(controller):
    """p + g q by evaluation at points, real and imaginary parts apart."""
    num, den = controller.fraction()
    mode, recall, g, z = 0.625 + 0.375j, 0.25, 1.75, 0.3 - 0.8j

    def value(polynomial):
        re, im = ([float(x) for x in part] or [0.0] for part in polynomial)
        return np.polyval(re, z) + 1j * np.polyval(im, z)

    den_z, num_z = np.polyval(den, z), np.polyval(num, z)
    of_gain, of_recall = pass_modes.gain_pencil(controller, mode, recall), pass_modes.recall_pencil(controller, mode)
    expected = (z - 1) * den_z + g * (1 + recall - mode) * num_z
    scale = float(pencil_scale(of_gain, lambda p: value(p), (z - 1) * den_z))
    npt.assert_allclose(scale * (value(of_gain.p) + g * value(of_gain.q)), expected, rtol=1e-12)
    expected = (z - 1) * den_z + (1 - mode + g) * num_z
    scale = float(pencil_scale(of_recall, lambda p: value(p), (z - 1) * den_z + (1 - mode) * num_z))
    npt.assert_allclose(scale * (value(of_recall.p) + g * value(of_recall.q)), expected, rtol=1e-12)


def pencil_scale(pencil, value, first):
    """A pencil may be a positive multiple of the polynomials."""
    ratio = first / value(pencil.p)
    assert abs(ratio.imag) < 1e-12 * abs(ratio)
    assert ratio.real > 0
    return ratio.real


def test_a_boundary_has_the_shape_of_its_frequencies_and_the_closed_form():
    omega = np.array([[0.3, 1.0], [2.0, 3.0]])
    edge = pass_boundary(HEAVY, omega, 0.25)
    z = np.exp(1j * omega)
    npt.assert_allclose(edge, 1.25 + (z - 1) * (z - 0.6) / (0.5 * z), rtol=1e-12)
    assert pass_boundary(None, 0.0, 2.0) == 3.0
    at_zero = pass_boundary(control.tf([1, 1], [1, 0], 1), np.array([np.pi]), 0.5)
    assert np.isinf(at_zero.real).all()
    assert at_zero.real > 0


@every_case("static", [0.5, -0.5, 2.0])
@every_case("side", [1, -1])
def test_a_static_gain_times_its_factor_is_one_gain(static, side):
    """0 < g C < 2 Re w/|w|^2, w = 1 + k_r - lambda; all of one sign, else none."""
    recall = 0.25
    w = side * np.array([0.5, 1.5, 1.0 + 0.75j, 1.0 - 0.75j])
    end = side * np.min(2 * np.abs(w.real) / np.abs(w) ** 2) / static
    [(low, high)] = stable_gains(PID(static), 1 + recall - w, recall)
    npt.assert_allclose([low, high], sorted([0.0, end]), rtol=1e-12)
    for wrong in ([0.5, -0.5], [0.5, 1j], [-0.5, -1j], [0.0, 0.5]):
        assert stable_gains(PID(static), 1 + recall - side * np.array(wrong), recall) == []


def test_recalls_of_a_static_gain_in_closed_form():
    """|Re lambda - 1 - k + 1/g| < sqrt(1/g^2 - Im^2): the intervals of all modes, from 0 on."""
    g = 0.25
    for modes in ([0.5], [2.0, 3.5], [2.0 + 1.0j, 1.0], [-2.0, 0.0], [1.5 + 3.0j, 3.0 + 2.0j, 2.0]):
        m = np.asarray(modes)
        half = np.sqrt(1 / g**2 - m.imag**2)
        low, high = max(np.max(m.real - 1 + 1 / g - half), 0.0), np.min(m.real - 1 + 1 / g + half)
        npt.assert_allclose(stable_recalls(PID(g), modes), [(low, high)], rtol=1e-12)
    assert stable_recalls(PID(g), [0.5 + 4.0j]) == []  # on the edge of the disk itself
    assert stable_recalls(PID(g), [0.5 + 6.0j]) == stable_recalls(PID(-g), [0.5 - 6.0j]) == []
    assert stable_recalls(PID(g), [-8.0]) == []
    assert stable_recalls(PID(g), [9.5, 1.0]) == []
    assert stable_recalls(PID(0.0), [0.5]) == []
    # A negative gain wants what lies beyond 1 + k_r, by no more than 2/|g|.
    npt.assert_allclose(stable_recalls(PID(-0.5), [3.0]), [(0.0, 2.0)], rtol=1e-12)


@every_case("controller", DYNAMIC)
def test_intervals_with_memory_end_where_a_root_is_on_the_circle(controller):
    modes, recall = [0.2, -0.6 + 0.4j, -0.6 - 0.4j], 0.1
    for intervals, radius in (
        (stable_gains(controller, modes, recall), lambda g: scaled_radius(controller, modes, recall, g)),
        (stable_recalls(controller, modes), lambda k: scaled_radius(controller, modes, k, 1.0)),
    ):
        assert intervals
        for low, high in intervals:
            assert radius((low + high) / 2) < 1
            for end in (low, high):
                if end > 0:
                    npt.assert_allclose(radius(end), 1.0, atol=1e-7)
                    assert max(radius(end - 1e-4), radius(end + 1e-4)) > 1 > min(radius(end - 1e-4), radius(end + 1e-4))


def test_a_closed_form_is_checked_on_both_sides_of_both_ends():
    """Poles inside the circle on (1, 3): other intervals are contradicted, and a recall below 0 is not asked."""
    asked = []

    def poles(x):
        asked.append(x)
        return np.array([0.1, abs(x - 2)])

    for quantity in ("stable_gains", "stable_recalls"):
        assert pass_modes._checked_intervals([(1.0, 3.0)], poles, quantity) == [(1.0, 3.0)]
        for wrong in ((0.9, 3.0), (1.1, 3.0), (1.0, 2.9), (1.0, 3.1), (3.0, 5.0)):
            with pytest.raises(ArithmeticError, match=rf"{quantity}: the closed form gives \({wrong[0]}, {wrong[1]}\)"):
                pass_modes._checked_intervals([wrong], poles, quantity)
    asked.clear()
    pass_modes._checked_intervals([(1.0, 3.0)], poles, "stable_gains")
    npt.assert_allclose(sorted(asked), [1 - 2e-6, 1 + 2e-6, 2.0, 3 - 2e-6, 3 + 2e-6], rtol=1e-12)
    for quantity, count in (("stable_gains", 5), ("stable_recalls", 4)):
        asked.clear()
        pass_modes._checked_intervals(
            [(0.0, 3.0)], lambda x: (asked.append(x), np.array([0.5 if 0 < x < 3 else 1.5]))[1], quantity
        )
        assert len(asked) == count
        assert (min(asked) < 0) == (quantity == "stable_gains")


def test_errors_of_eigenvalues_leave_some_undecided():
    modes = [3.0, 1.5, 1.45, 1.55, 0.5, 2.0 + 0.05j, 2.0 + 0.5j, 0.2 + 0.05j]
    limit = odd_number_limit(modes, 0.5, errors=[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert limit.edge == 1.5
    assert limit.above.tolist() == [3.0]
    assert limit.below.tolist() == [0.5]
    assert limit.undecided.tolist() == [2.0, 1.55, 1.5, 1.45]  # a complex one beyond the edge may be real
    assert limit.recall == 2.0
    exact = odd_number_limit(modes, 0.5)
    assert exact.above.tolist() == [3.0, 1.55, 1.5]
    assert exact.below.tolist() == [1.45, 0.5]
    assert exact.undecided.tolist() == []


def test_an_error_that_just_reaches_the_edge_is_none_that_decides():
    """Dyadic numbers: at 1.5 -+ .5 the edge 1 is touched from above, which counts, and from below, which does not."""
    assert odd_number_limit([1.5], errors=[0.5]).above.tolist() == [1.5]
    assert odd_number_limit([0.5], errors=[0.5]).undecided.tolist() == [0.5]
    assert odd_number_limit([0.5], errors=[0.25]).below.tolist() == [0.5]
    assert odd_number_limit([2 + 0.5j], errors=[0.5]).undecided.tolist() == [2.0]
    assert odd_number_limit([2 + 0.75j], errors=[0.5]).undecided.tolist() == []
    for errors in ([0.1], [0.1, -0.1], [0.1, np.nan], [0.1, 0.1, 0.1]):
        with pytest.raises(InputError, match=r"errors must be at least 0, one for each of 2 eigenvalues"):
            odd_number_limit([0.5, 2.0], errors=errors)


def test_what_the_limit_forbids_in_words():
    undecided = odd_number_limit([1.01], errors=[0.1])
    assert not undecided.binds
    assert not undecided.forbids_every_controller
    assert "eigenvalue 1.01 of J is at 1 + recall within its error" in undecided.in_words()
    both = odd_number_limit([3.3, 0.2, -1.0])
    assert both.binds
    assert both.forbids_every_controller
    assert "eigenvalue 3.3 of J" in both.in_words()
    assert "no other does so together with 0.2 below" in both.in_words()
    alone = odd_number_limit([3.3, 2.0])
    assert alone.binds
    assert not alone.forbids_every_controller
    assert "together with" not in alone.in_words()
    assert "a recall above 2.3 would" in alone.in_words()
    for modes in ([3.3, 1.0], [3.3, 2.0, 1.0], [1.0]):  # the pole is 1 whatever the controller
        assert odd_number_limit(modes).forbids_every_controller
    assert not odd_number_limit([0.3, -5.0]).forbids_every_controller
    assert odd_number_limit([0.3, -5.0]).recall == 0.0
    assert odd_number_limit([[0.3, 4.0 + 1j], [0.1, 2.0]]).recall == 3.0


def test_spectra_of_any_numbers_and_recalls_that_are_none():
    assert passes_stable(None, [0, -1, 1]).tolist() == [True, False, False]
    assert passes_stable(None, 0.5).shape == ()
    assert pass_poles(None, np.zeros((2, 3))).shape == (2, 3, 1)
    for spectrum in ([[1.0], [1.0, 2.0]], None, [True]):
        with pytest.raises(InputError if spectrum == [] else TypeError, match="array of numbers"):
            pass_poles(None, spectrum)
    for recall in (-1e-9, np.nan, np.inf):
        with pytest.raises(InputError, match="recall"):
            stable_gains(None, 0.5, recall)
    assert stable_gains(None, 0.5, 0) == stable_gains(None, 0.5)
