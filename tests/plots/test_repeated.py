"""Eigenvalues over regions: a circle is a circle on a page and on a telephone, whatever the eigenvalues are."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ctrlattn import plots
from ctrlattn.plots.layout import solve_layout
from ctrlattn.plots.narrow import narrow_svg
from ctrlattn.stability import pass_poles

SPECTRA = {
    "wide": np.array([3.3, -1.0, -2 + 4j, -2 - 4j, 14.0]),
    "high": np.array([0.9, 0.3 + 9j, 0.3 - 9j]),
    "small": np.array([0.1, 0.2]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("wide", 1), ("wide", 5), ("high", 1), ("high", 5), ("small", 1)])
def test_units_are_equal_on_both_axes(name, count, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write("<svg></svg>"))  # where axes lie
    modes = SPECTRA[name]
    re, im = plots.repeated.plane_around(modes, 1.5)
    radius = np.abs(pass_poles(None, re[None, :] + 1j * im[:, None], 0.0)).max(-1)
    laws = [f"law {i}" for i in range(count)]
    fig = plots.repeated.modes_over_regions(modes, dict.fromkeys(laws, (re, im, radius)), dict.fromkeys(laws, 1.0))
    for arranged in (lambda: solve_layout(fig, 160), lambda: narrow_svg(fig, "telephone")):
        arranged()
        for ax in fig.axes[:count]:
            ax.apply_aspect()
            origin, right, up = ax.transData.transform([(0, 0), (1, 0), (0, 1)])
            assert np.hypot(*(right - origin)) == pytest.approx(np.hypot(*(up - origin)), rel=1e-6)
            box = ax.get_window_extent()
            assert min(box.width, box.height) > 0.8 * fig.dpi  # no strip
    low, high = (part.min() for part in (re, im)), (part.max() for part in (re, im))
    for axis, least, most in zip((modes.real, modes.imag), low, high, strict=True):
        assert least < min(axis.min(), -1)
        assert most > max(axis.max(), 1)
