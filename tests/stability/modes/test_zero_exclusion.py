"""The box of gains that is stable on a region of modes: closed form, drawn gains, corners of a wider box."""

import numpy as np
import numpy.testing as npt
import pytest
from cases import every_case
from scipy.optimize import brentq

from ctrlattn import PID
from ctrlattn.errors import InputError
from ctrlattn.stability.modes import zero_exclusion
from ctrlattn.stability.modes.regions import is_stable
from ctrlattn.stability.modes.zero_exclusion import stable_spread

PRINTED, CODE = PID(0.8, 0.5, 0.05), PID(0.8, 0.5, 0.05, form="ema", ema=0.3)


def corners(pid, spread):
    signs = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
    return [
        PID(*(np.array([pid.kp, pid.ki, pid.kd]) * (1 + spread * sign)), form=pid.form, ema=pid.ema) for sign in signs
    ]


@pytest.mark.parametrize(
    ("pid", "region"),
    [(PID(0.8, 0.5, 0.05), (0.2, 1.0)), (PID(0.3, 0.1, 0.02), (-0.4, 1.0)), (PID(0.2, 0.2, 0.3), (0.1, 1.05))],
)
def test_the_spread_of_the_printed_law_is_its_closed_form(pid, region):
    # All gains larger lower the lower bound's room; kp smaller and kd, ki smaller the upper bound's.
    low, high = region
    lower = (1 + low) / (pid.kp + pid.ki / 2 + 2 * pid.kd) - 1
    grid = np.linspace(0, 0.5, 100001)
    kp, ki, kd = (gain * (1 - grid) for gain in (pid.kp, pid.ki, pid.kd))
    upper = grid[np.argmax(1 + kp + ki * kd / (1 + kd) <= high) or -1]
    npt.assert_allclose(stable_spread(pid, region), min(lower, upper, 0.5), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("pid", "region"), [(PRINTED, (0.2, 1.0)), (CODE, (0.0, 1.0)), (CODE, (-0.3, 1.2))])
def test_every_gain_of_the_box_is_stable_and_a_larger_box_is_not(pid, region):
    spread = stable_spread(pid, region)
    rng = np.random.default_rng(0)
    factors = 1 + spread * 0.999 * rng.uniform(-1, 1, (300, 3))
    alphas = np.linspace(*region, 21)
    gains = np.array([pid.kp, pid.ki, pid.kd])
    for values in factors * gains:
        assert is_stable(PID(*values, form=pid.form, ema=pid.ema), alphas).all()
    assert all(is_stable(corner, alphas).all() for corner in corners(pid, spread * 0.999))
    if spread < 0.5:  # the box could not be larger: some corner of one 2 % larger is unstable
        wider = corners(pid, spread * 1.02)
        assert not all(is_stable(corner, alphas).all() for corner in wider)


def test_the_spread_stops_at_the_largest_that_is_asked_for():
    assert stable_spread(CODE, (0.0, 1.0), 0.1) == 0.1
    npt.assert_allclose(stable_spread(PRINTED, (0.2, 1.0)), 1.2 / 1.15 - 1, atol=1e-9)


def test_a_region_of_a_single_mode_of_p_is_its_closed_form():
    # The pole is alpha - kp: it leaves through -1 where kp (1 + s) = 1 + alpha.
    npt.assert_allclose(stable_spread(PID(1.2), (0.5, 0.5)), 1.5 / 1.2 - 1, atol=1e-9)


@every_case(
    "pid, region, message",
    [
        (PRINTED, (0.0, 1.0), r"0.8/0.5/0.05 \(printed\) are not stable on the region \(0.0, 1.0\).*0.15 < alpha < 1"),
        (PID(0.1, 5.0), (0.0, 1.0), "they are for no alpha"),
        (CODE, (1.0, 0.0), "low <= high"),
        (CODE, (0.0, np.inf), "low <= high"),
    ],
)
def test_a_region_that_is_none_or_is_not_stable_is_refused(pid, region, message):
    with pytest.raises(InputError, match=message):
        stable_spread(pid, region)


def test_the_closed_form_where_the_upper_end_of_the_interval_decides():
    """1 + P + I D/(1 + D) = 1.19 with all gains low: a grid alone let .13892 pass for .138867."""
    expected = brentq(lambda s: 0.2 * (1 - s) + 0.5 * 0.05 * (1 - s) ** 2 / (1 + 0.05 * (1 - s)) - 0.19, 0, 1)
    npt.assert_allclose(stable_spread(PID(0.2, 0.5, 0.05), (0.2, 1.19)), expected, rtol=1e-8)


def test_a_spread_that_the_poles_contradict_is_refused(monkeypatch):
    monkeypatch.setattr(zero_exclusion, "_slack", lambda pid, region, spread, w: np.ones_like(w))
    with pytest.raises(ArithmeticError, match="unstable by their poles"):
        stable_spread(PID(0.2, 0.5, 0.05), (0.2, 1.19))


def test_the_frequencies_are_those_of_the_docstring_and_leave_no_gap():
    w = np.append(zero_exclusion._OMEGA, np.pi)
    assert len(w) == 4201
    assert np.all(np.diff(w) >= 0)
    npt.assert_allclose(w[0], 1e-6)
    assert np.max(np.diff(w)) < 1e-3
    assert np.max(w[1:200] / w[:199]) < 1.05


def zonotope(pid, region, spread, w):
    """The values of z - alpha + C(z) at the corners of the box, (k, corners): their hull holds all values."""
    z = np.exp(1j * w)
    terms = [PID(**{name: getattr(pid, name)}, form=pid.form, ema=pid.ema).fraction() for name in ("kp", "ki", "kd")]
    parts = np.array([np.polyval(num, z) / np.polyval(den, z) for num, den in terms])
    corners = np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1
    return np.concatenate([(z - alpha) + (1 + spread * corners) @ parts for alpha in region])


@every_case("pid", [PRINTED, CODE, PID(0.3, 0.1, 0.02), PID(0.4, 0.0, 0.3)])
@every_case("region", [(0.2, 0.9), (0.5, 0.5)])
@every_case("spread", [0.1, 0.4])
def test_the_slack_is_the_distance_of_0_from_the_hull_of_the_corners_along_a_side(pid, region, spread):
    """Separated along the normal of a side by d - w: support functions of the corners, side by side."""
    w = np.array([0.05, 0.3, 1.0, 2.0, 3.0])
    values, slack = zonotope(pid, region, spread, w), zero_exclusion._slack(pid, region, spread, w)
    z = np.exp(1j * w)
    terms = [PID(**{name: getattr(pid, name)}, form=pid.form, ema=pid.ema).fraction() for name in ("kp", "ki", "kd")]
    sides = [np.polyval(num, z) / np.polyval(den, z) for num, den in terms] + [np.ones_like(z), np.full_like(z, 1j)]
    for j in range(len(w)):
        best = -np.inf
        for side in (s[j] for s in sides if abs(s[j]) > 0):
            if side == 1 and region[0] == region[1]:
                continue  # the side of the modes has no length
            along = (values[:, j] * np.conj(side / abs(side))).imag  # distance from the line through 0
            best = max(best, along.min(), -along.max())
        npt.assert_allclose(slack[j], best, rtol=1e-9, atol=1e-10)


def test_a_box_that_a_gain_of_it_leaves_is_not_stable_and_the_end_is_met_from_below():
    """P alone on one mode: 0 is excluded as long as |1 + alpha - P (1 + s)| > 0 at z = -1."""
    for spread, stable in ((0.2499, True), (0.25, False), (0.2501, False), (0.4, False)):
        assert zero_exclusion._box_is_stable(PID(1.2), (0.5, 0.5), spread) == stable
    assert stable_spread(PID(1.2), (0.5, 0.5), 0.2) == 0.2
    spread = stable_spread(PID(1.2), (0.5, 0.5), 3.0)
    assert spread <= 0.25
    npt.assert_allclose(spread, 0.25, rtol=1e-11)


def test_attacked_gains_are_the_corners_and_edges_of_the_box(monkeypatch):
    """All eight corners, every edge direction, each a millionth inside; the answer is theirs at both ends."""
    pid, tried = PID(0.8, 0.5, 0.05, form="ema", ema=0.4), []

    def radius(moved, region):
        tried.append((moved, region.tolist()))
        return np.array([0.5, 0.9])

    monkeypatch.setattr(zero_exclusion, "spectral_radius", radius)
    assert zero_exclusion._survives(pid, (0.1, 0.9), 0.2)
    assert {(m.form, m.ema) for m, _ in tried} == {("ema", 0.4)}
    assert all(region == [0.1, 0.9] for _, region in tried)
    shares = np.array([[m.kp / 0.8, m.ki / 0.5, m.kd / 0.05] for m, _ in tried]) - 1
    npt.assert_allclose(np.abs(shares).max(axis=0), 0.2 * (1 - 1e-6), rtol=1e-9)
    signs = (shares / (0.2 * (1 - 1e-6))).round(9)
    assert len({tuple(row) for row in signs[:8]}) == 8
    npt.assert_array_equal(np.abs(signs[:8]), 1.0)
    assert len(signs) == 56
    for axis in range(3):
        edge = signs[8:][np.arange(48) % 3 == axis]
        npt.assert_array_equal(np.abs(np.delete(edge, axis, axis=1)), 1.0)
        assert np.ptp(edge[:, axis]) > 1.8
    for ends, survives in (([1 + 2e-9, 0.5], False), ([0.5, 1 + 2e-9], False), ([1 + 5e-10, 1.0], True)):
        monkeypatch.setattr(zero_exclusion, "spectral_radius", lambda moved, region, ends=ends: np.array(ends))
        assert zero_exclusion._survives(pid, (0.1, 0.9), 0.2) == survives


def test_a_region_may_be_one_mode_and_has_to_lie_strictly_inside():
    zero_exclusion._require_inside(PRINTED, (0.5, 0.5))
    for region in ((0.15, 1.0), (0.2, 1.8238095238095238), (0.1, 1.0), (0.2, 1.9)):
        with pytest.raises(InputError, match="not stable on the region"):
            zero_exclusion._require_inside(PRINTED, region)
    for region in ((-np.inf, 0.5), (np.nan, 0.5), (0.5, np.nan), (0.6, 0.5)):
        with pytest.raises(InputError, match="low <= high"):
            zero_exclusion._require_inside(PRINTED, region)


@pytest.mark.parametrize("at", [0.73456789, 2.5005, 3.1409, 1.2345e-4])
def test_a_valley_between_two_frequencies_is_followed_down(at, monkeypatch):
    """A valley narrower than the grid by five decades is met by the zoom, and one that ends above 0 is none."""
    for bottom, stable in ((-1e-6, False), (1e-6, True)):
        monkeypatch.setattr(zero_exclusion, "_slack", lambda *given, d=bottom: np.abs(given[-1] - at) / at + d)
        assert zero_exclusion._box_is_stable(PRINTED, (0.2, 1.0), 0.1) == stable


def test_a_slack_of_0_at_any_frequency_is_no_stable_box(monkeypatch):
    for at in (1e-6, np.pi, 0.01):
        monkeypatch.setattr(zero_exclusion, "_slack", lambda *given, at=at: np.where(given[-1] == at, 0.0, 1.0))
        assert not zero_exclusion._box_is_stable(PRINTED, (0.2, 1.0), 0.1)
