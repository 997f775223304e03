"""value(x, y) as a map, value(x) as a slice: the outputs of a sweep over two axes and along each axis."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctrlattn.plots.style import COLOURS, GREY, axes_of, escape, figure, figure_of, legend, themed

_COLUMNS = 2  # panels in a row
_EMPTY = "#d7dce3"  # the ground of a map
_TICKS = 8  # names of texts on an axis


class Ticks(NamedTuple):
    """An axis of a sweep: numbers, or texts in their order."""

    name: str
    values: np.ndarray
    log: bool = False

    @property
    def places(self) -> np.ndarray:
        """Where the values lie."""
        return self.values if self.values.dtype.kind in "iuf" else np.arange(len(self.values))


@themed
def value_map(
    x: Ticks, y: Ticks, values: np.ndarray, name: str, best: tuple[int, int] | None, *, title: str = ""
) -> Axes:
    """Draw one output over two axes; where it is no finite number the ground is grey.

    Parameters
    ----------
    x, y : Ticks
    values : (len(y), len(x))
    name : str
        Name of the output, with its unit.
    best : (place in y, place in x), optional
        It is marked.
    title : str
        The values of the other axes, at which the map is drawn.

    Examples
    --------
    >>> axes = Ticks("kp", np.arange(3.0)), Ticks("form", np.array(["printed", "ema"]))
    >>> ax = value_map(*axes, np.arange(6.0).reshape(2, 3), "settling (layer)", (0, 1))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('kp', 'form')
    """
    ax = axes_of(None, height=3.6)
    ax.set_facecolor(_EMPTY)
    ax.grid(visible=False)
    finite = np.ma.masked_invalid(values)
    mesh = ax.pcolormesh(x.places, y.places, finite, shading="nearest", cmap="viridis", rasterized=True)
    figure_of(ax).colorbar(mesh, ax=ax, label=escape(name))
    if best is not None:
        look: dict[str, Any] = {
            "marker": "o",
            "color": "white",
            "markeredgecolor": "black",
            "ms": 6,
            "linestyle": "none",
        }
        ax.plot(x.places[best[1]], y.places[best[0]], label="best cell of the sweep", **look)
    if np.ma.is_masked(finite):
        ax.fill_between([], [], color=_EMPTY, label="no finite number")
    _mark(ax, x, "x")
    _mark(ax, y, "y")
    ax.set_title(escape(title))
    legend(ax)
    return ax


@themed
def value_slices(x: Ticks, values: Mapping[str, np.ndarray], best: int | None) -> Figure:
    """Draw one panel for each output along one axis; a value that is no finite number is a gap.

    Examples
    --------
    >>> fig = value_slices(Ticks("kp", np.arange(3.0)), {"settling": np.array([3.0, 1.0, np.inf])}, 1)
    >>> fig.axes[0].get_xlabel()
    'kp'
    """
    fig, panels = _panels(len(values), height=2.4)
    for ax, (name, each) in zip(panels, values.items(), strict=True):
        ax.plot(x.places, np.where(np.isfinite(each), each, np.nan), color=COLOURS[0], marker="o", ms=3)
        if best is not None:
            ax.axvline(x.places[best], color=GREY, linewidth=1.2, linestyle=(0, (4, 2)))
        ax.set(title=escape(name))
        _mark(ax, x, "x")
    return fig


@themed
def value_points(x: Ticks, values: Mapping[str, np.ndarray], best: int | None) -> Figure:
    """Draw one panel for each output: every cell of a sample against one axis.

    Examples
    --------
    >>> fig = value_points(Ticks("kp", np.arange(3.0)), {"settling": np.array([3.0, 1.0, 2.0])}, 1)
    >>> len(fig.axes)
    1
    """
    fig, panels = _panels(len(values), height=2.4)
    texts, places = (x.values, x.values) if x.places is x.values else np.unique(x.values, return_inverse=True)
    axis = Ticks(x.name, texts, x.log)
    for ax, (name, each) in zip(panels, values.items(), strict=True):
        finite = np.isfinite(each)
        ax.plot(places[finite], each[finite], linestyle="none", marker=".", ms=2, color=COLOURS[0], rasterized=True)
        if best is not None:
            ax.plot(places[best], each[best], marker="o", color="white", markeredgecolor="black", ms=6)
        ax.set(title=escape(name))
        _mark(ax, axis, "x")
    return fig


def _panels(count: int, height: float = 2.8) -> tuple[Figure, list[Axes]]:
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    fig = figure(height=height * rows + 0.3)
    panels = fig.subplots(rows, columns, squeeze=False)
    for ax in panels.flat[count:]:
        ax.set_visible(False)
    return fig, list(panels.flat[:count])


def _mark(ax: Axes, axis: Ticks, which: str) -> None:
    """Mark one axis of a panel: its name, its scale and, of texts, the names."""
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(escape(axis.name))
    if axis.places is not axis.values:
        every = max(len(axis.values) // _TICKS, 1)
        ticks = range(0, len(axis.values), every)
        names = [escape(str(axis.values[i])) for i in ticks]
        (ax.set_xticks if which == "x" else ax.set_yticks)(list(ticks), names)
    elif axis.log:
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
