"""Axes of the pictures of a profile against the values that they show."""

import numpy as np
import pytest

from ctrlattn import plots
from ctrlattn.plots.profile.scales import log_scale, map_of, signed_scale


@pytest.fixture
def ax():
    return plots.figure().add_subplot()


def test_a_logarithm_is_taken_of_positive_numbers_only(ax):
    log_scale(ax, np.array([1.0, 0.0]))
    assert ax.get_yscale() == "linear"
    log_scale(ax, np.array([1.0, 1e-3]), np.array([2.0]))
    assert ax.get_yscale() == "log"


def test_small_gains_stay_on_a_linear_scale(ax):
    ax.set_ylim(-0.1, 0.15)
    signed_scale(ax)
    assert ax.get_yscale() == "linear"
    ax.set_ylim(-0.1, 0.25)
    signed_scale(ax)
    assert ax.get_yscale() == "symlog"


def test_a_diverging_map_is_centred_on_zero_and_ends_at_the_98th_percentile(ax):
    matrix = np.arange(-50.0, 51.0)[None, :]
    map_of(ax, matrix, "gain", diverging=True)
    assert ax.images[0].get_clim() == pytest.approx(
        (-np.quantile(np.abs(matrix), 0.98), np.quantile(np.abs(matrix), 0.98))
    )
    map_of(ax, matrix, "gain", diverging=True, limit=1.0)
    assert ax.images[1].get_clim() == (-1.0, 1.0)
    map_of(ax, matrix, "share", limits=(0.0, 2.0))
    assert ax.images[2].get_clim() == (0.0, 2.0)
