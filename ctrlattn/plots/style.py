"""The style of all figures: Petroff's ten colours, a marker and a dash per curve, legends, and deterministic files.

No meaning is carried by colour alone, so that each figure can be read in grey.
"""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctrlattn.errors import InputTypeError
from ctrlattn.files import atomic
from ctrlattn.plots.layout import measured_once, solve_layout

P = ParamSpec("P")
R = TypeVar("R")

# Petroff, Accessible color sequences for data visualization, arXiv 2107.02270, ten-colour cycle.
COLOURS = (
    "#3f90da", "#bd1f01", "#94a4a2", "#832db6", "#ffa90e", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
# Softmax, NeuTRENO and the two PIDformer laws have the same colours in every figure; other loops take the rest.
_KNOWN: dict[str, tuple[str, str, Any]] = {
    "the network itself": ("#000000", "p", "solid"),
    "softmax": ("#717581", "o", (0, (1, 1.2))),
    "neutreno": ("#3f90da", "s", (0, (5, 1.5))),
    "pidformer-printed": ("#bd1f01", "^", "solid"),
    "pidformer-ema": ("#832db6", "D", (0, (4, 1.2, 1, 1.2))),
}
_MARKERS = ("o", "v", "P", "X", "<", ">", "*", "h", "d", "p")
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
GREY = "#6b7280"
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "hatch.color": "#b3bac4",
    "svg.fonttype": "none",
    "svg.hashsalt": "ctrlattn",
    "figure.dpi": 110,
    "savefig.dpi": 160,
}


def themed(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the style of this package; the user's own rcParams are restored afterwards."""

    @wraps(draw)
    def in_our_look(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_RC), warnings.catch_warnings():
            # A token in a script that the font lacks is shown as a box in PNG and by the browser's font in SVG.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            return draw(*args, **kwargs)

    return in_our_look


class NotebookFigure(Figure):
    """A figure that a notebook shows when it is the value of a cell, without magic commands."""

    def _repr_png_(self) -> bytes:
        return _png(self)


class NotebookAxes(Axes):
    """Axes that a notebook shows, with the figure around them, when they are the value of a cell."""

    def _repr_png_(self) -> bytes:
        return _png(figure_of(self))


def figure(width: float = 7.2, height: float = 3.4) -> Figure:
    """Make a figure that pyplot does not know of; sizes in inches.

    >>> figure().get_size_inches().tolist()
    [7.2, 3.4]
    """
    fig = NotebookFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)  # it keeps its renderer, where a bare canvas would make one for each solution of the layout
    return fig


def panels_of(count: int, most: int, height: float, margin: float) -> tuple[Figure, np.ndarray]:
    """Make a figure of equal panels that share their axes, (rows, columns), `most` in a row; a rest is hidden.

    `height` of a row and `margin` for titles and the legend are in inches.

    >>> panels_of(3, 2, 2.0, 0.5)[1].shape
    (2, 2)
    """
    columns = min(count, most)
    rows = -(-count // columns)
    fig = figure(height=margin + height * rows)
    panels = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in panels.flat[count:]:
        ax.set_visible(False)
    return fig, panels


def axes_of(ax: Axes | None, height: float = 3.4) -> Axes:
    """Return the given axes, or the only axes of a new figure.

    >>> axes_of(None)._repr_png_()[1:4]
    b'PNG'
    """
    return figure(height=height).add_subplot(axes_class=NotebookAxes) if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """Return the figure that holds the axes."""
    return cast(Figure, ax.figure)


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colour, marker and dash by name; a preset has the same in every figure."""
    preset_colours = {_KNOWN[name][0] for name in names if name in _KNOWN}
    free = cycle([colour for colour in COLOURS if colour not in preset_colours])
    new_names = [name for name in names if name not in _KNOWN]
    looks = {
        name: (colour, marker, dash)
        for name, colour, marker, dash in zip(new_names, free, cycle(_MARKERS), cycle(_DASHES), strict=False)
    }
    looks |= {name: _KNOWN[name] for name in names if name in _KNOWN}
    return {name: {"color": c, "marker": m, "linestyle": d} for name, (c, m, d) in looks.items()}


def sparse_markers(points: int, index: int, count: int = 12) -> dict[str, Any]:
    """Return about `count` markers per curve, shifted from curve to curve so that they do not hide each other."""
    step = max(points // count, 1)
    return {"markevery": (index * step // 4 % step if step > 1 else 0, step)}


def escape(label: str) -> str:
    """Return a label that matplotlib shows literally: no mathtext, no line breaks, no unprintable characters."""
    return "".join(ch if ch.isprintable() else "·" for ch in label).replace("$", r"\$")


def decibel(magnitude: Any) -> np.ndarray:
    """Return 20 log10 |x| in dB; zero becomes a gap, not a warning."""
    size = np.abs(np.asarray(magnitude))
    return np.where(size > 0, 20 * np.log10(np.where(size > 0, size, 1.0)), np.nan)


def nyquist_line(ax: Axes, limit: float = np.pi, unit: str = "layer") -> None:
    """Mark the Nyquist frequency, the highest one, on the frequency axis."""
    ax.axvline(limit, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)))
    ax.set_xlim(0, limit * 1.02)
    ax.set_xticks(np.arange(5) * limit / 4, ["0", "π/4", "π/2", "3π/4", "π"])
    ax.set_xlabel(f"Frequency (rad/{unit}), Nyquist at π")


def legend(ax: Axes, **options: Any) -> None:
    """Put a legend below the axes, where it hides no curve."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        columns = min(len(handles), 3, max(1, int(7.0 / (0.6 + 0.07 * max(map(len, labels))))))
        ax.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=columns, borderaxespad=0, **options
        )


@themed
def save(figure: Figure | Axes, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write path.png and path.svg, each whole or not at all; equal figures give equal files.

    Parameters
    ----------
    figure : matplotlib figure or axes
        What a function of `plots` returns. Axes stand for the figure around them.
    path : path without suffix

    Returns
    -------
    (png, svg)

    Raises
    ------
    InputTypeError
        It is neither a figure nor axes.

    Examples
    --------
    >>> import tempfile
    >>> [p.suffix for p in save(Figure((2, 2)), tempfile.mkdtemp() + "/empty")]
    ['.png', '.svg']
    """
    if isinstance(figure, Axes):
        figure = figure_of(figure)
    if not isinstance(figure, Figure):
        raise InputTypeError(f"save takes a figure or axes, as the functions of plots return them, got {figure!r}")
    png, svg = Path(f"{path}.png"), Path(f"{path}.svg")
    solve_layout(figure, mpl.rcParams["savefig.dpi"])
    with _layout_kept(figure), measured_once(figure):
        with atomic(png) as temporary:
            figure.savefig(temporary, metadata={"Software": None})
        with atomic(svg) as temporary:
            figure.savefig(temporary, metadata={"Date": None})
    return png, svg


@themed
def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def inline_svg(path: str | os.PathLike[str], prefix: str) -> str:
    """Return an SVG file as an <svg> element to put into HTML; its ids carry `prefix`, so that several do not clash.

    A page may give a colour another value: #1f4e79 is the variable --m-1f4e79, with the colour itself as the default.

    Examples
    --------
    >>> import tempfile
    >>> inline_svg(save(Figure((2, 2)), tempfile.mkdtemp() + "/empty")[1], "one")[:4]
    '<svg'
    """
    return svg_element(Path(path).read_text(encoding="utf-8"), prefix)


def svg_element(text: str, prefix: str) -> str:
    """Return the text of an SVG file as an element of a page, as for `inline_svg`."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda match: f"{match[1]}{prefix}-", text)
    return re.sub(r"\b(fill|stroke): (#([0-9a-f]{6}))\b", r"\1: var(--m-\3, \2)", text)


@contextmanager
def _layout_kept(figure: Figure) -> Iterator[None]:
    """Draw with the layout that is solved, since solving for it again takes longer than the drawing itself."""
    engine = figure.get_layout_engine()
    with mpl.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)  # "none" would leave a placeholder, with which everything is drawn twice
    try:
        yield
    finally:
        figure.set_layout_engine(engine)
