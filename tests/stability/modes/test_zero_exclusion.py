"""The box of gains that is stable on a region of modes: closed form, drawn gains, corners of a wider box."""

import numpy as np
import numpy.testing as npt
import pytest
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


@pytest.mark.parametrize(
    ("pid", "region", "message"),
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
