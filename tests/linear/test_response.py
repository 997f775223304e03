"""Settling, overshoot and steady-state error of responses whose figures are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.linear import step_metrics


def test_first_order_lag_settles_when_its_power_leaves_the_band():
    pole = 0.8
    found = step_metrics(1 - pole ** np.arange(200), 1.0)
    assert found.settling == np.ceil(np.log(0.05) / np.log(pole))
    assert (found.overshoot, found.diverged) == (0.0, False)
    assert_allclose(found.steady_state_error, 0.0, atol=1e-12)


def test_overshoot_is_relative_to_the_change():
    y = np.array([1.0, 3.5, 2.8, 3.0, 3.0, 3.0, 3.0, 3.0])
    found = step_metrics(y, 4.0)
    assert_allclose([found.overshoot, found.steady_state_error], [0.25, 1.0])


def test_overshoot_downwards_counts_alike():
    up, down = (step_metrics(sign * np.array([0.0, 1.3, 1.0, 1.0, 1.0, 1.0]), sign) for sign in (1.0, -1.0))
    assert up.overshoot == down.overshoot == pytest.approx(0.3)


def test_known_end_shows_what_the_cut_hides():
    y = 1 - 0.99 ** np.arange(30)
    assert step_metrics(y, 1.0, final=1.0).settling == np.inf
    assert step_metrics(y, 1.0, final=1.0).steady_state_error == 0.0


def test_divergence_and_rest():
    assert step_metrics((-1.3) ** np.arange(40), 1.0).diverged
    assert step_metrics(np.array([0.0, np.inf]), 1.0).settling == np.inf
    still = step_metrics(np.zeros(5), 1.0)
    assert (still.settling, still.overshoot, still.steady_state_error) == (0.0, 0.0, 1.0)
    assert step_metrics(np.array([2.0]), 2.0).settling == 0.0


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.zeros(0)])
def test_refused(wrong):
    with pytest.raises(ValueError, match="layers"):
        step_metrics(wrong, 1.0)
