"""What all pictures share, by value."""

import matplotlib.image
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn import PID, CausalMean, InputTypeError, Loop, plots
from ctrlattn.plots.style import decibel


def test_ten_times_the_amplitude_is_twenty_decibels():
    assert_allclose(decibel([1.0, 10.0, 0.1, 1000.0]), [0.0, 20.0, -20.0, 60.0], atol=1e-13)
    assert_allclose(decibel(3 - 4j), 20 * np.log(5) / np.log(10), rtol=1e-14)
    # A power of 2 is 10 log10 4 in decibels of power.
    assert_allclose(decibel(2.0), 10 * np.log10(2.0**2), rtol=1e-14)


def test_zero_is_a_gap():
    assert_array_equal(np.isnan(decibel([0.0, -1.0, np.nan])), [True, False, True])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_nothing_touches_the_edge_of_a_picture(seed, tmp_path):
    # The ticks of the panel that is left have longer labels than those for which the layout was solved first.
    rng, k = np.random.default_rng(seed), np.arange(31)
    turning = 1 + rng.uniform(0.4, 0.7) * np.where(k % 2, 1, -1) * 0.989**k
    turning[0] = 0.0
    curves = {"softmax": 0.0 * k, "neutreno": 0.417 * (1 - (-0.44) ** k), "pidformer-printed": turning}
    curves["pidformer-ema"] = 0.608 * (1 - 0.3**k)
    ax = plots.time_response(curves, ylabel="State of the mode", reference=1.0, title="Step")
    png, _ = plots.save(plots.figure_of(ax), tmp_path / "a")
    ink = matplotlib.image.imread(png)[..., :3].min(axis=-1) < 0.5
    assert ink.any()
    edges = ink[:, :2], ink[:, -2:], ink[:2], ink[-2:]
    assert [edge.any() for edge in edges] == [False] * 4


def test_axes_are_saved_as_the_figure_around_them(tmp_path):
    ax, other = (plots.root_locus(Loop(CausalMean(), controller=PID(0.6)), a=0.5) for _ in range(2))
    png, svg = plots.save(ax, tmp_path / "axes")
    again = plots.save(plots.figure_of(other), tmp_path / "figure")
    assert (png.read_bytes(), svg.read_bytes()) == tuple(path.read_bytes() for path in again)
    with pytest.raises(InputTypeError, match="save takes a figure or axes"):
        plots.save([1, 2], tmp_path / "list")
