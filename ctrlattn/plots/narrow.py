"""A figure for a telephone: the same panels below one another, legends under them, letters as large as the text."""

import io
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from ctrlattn.plots.layout import measured_once, solve_layout
from ctrlattn.plots.style import svg_element, themed

_WIDTH = 3.6  # inches; at 390 px a letter of 9.5 points is then 13 px high
_LETTER = 0.081  # inches, the mean width of a letter in the widest titles
_ROW = 1.75  # inches, the height of a panel with axes of unequal units
_ALIGNED = 0.01  # panels whose edges differ by less of the figure are in one row
_BETWEEN = 0.62  # inches for title and labels of a panel


@themed
def narrow_svg(figure: Figure, prefix: str) -> str:
    """Rearrange the figure for 3.6 inches, where it stays so, and return it as `inline_svg` does.

    Panels of a row with one or two come below one another, those of a longer row in pairs. Legends stand under them.

    Examples
    --------
    >>> narrow_svg(Figure((7.2, 3)), "empty")[:4]
    '<svg'
    """
    rearrange(figure)
    _settle(figure)
    buffer = io.StringIO()
    with measured_once(figure):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return svg_element(buffer.getvalue(), prefix)


def _settle(figure: Figure) -> None:
    """Solve the layout and keep six digits: the last ones differ from run to run, and with them names of clips."""
    solve_layout(figure, mpl.rcParams["savefig.dpi"])
    figure.set_layout_engine(None)
    for ax in figure.axes:
        ax.set_position(tuple(round(value, 6) for value in ax.get_position(original=True).bounds))


def rearrange(figure: Figure) -> None:
    """Put the panels into a grid of two columns and of rows as high as they need."""
    legend = _legend(figure)
    rows = _rows(figure)
    bar = 0.9 if any(ax.get_subplotspec() is None for ax in figure.axes) else 0.0  # a colour bar with its label
    heights = [_height(row, bar) for row in rows]
    figure.set_size_inches(_WIDTH, sum(heights) + legend + _head(figure))
    if not rows:
        return
    for ax in figure.axes:
        if ax.get_subplotspec() is None:  # a colour bar is as high as its panel
            ax.set_ylabel(_wrap(ax.get_ylabel(), int(_ROW / _LETTER)))
    grid = figure.add_gridspec(len(rows), 2, height_ratios=heights)
    for i, row in enumerate(rows):
        for j, panels in enumerate(row):
            for ax in panels:
                ax.set_subplotspec(grid[i, j] if len(row) == 2 else grid[i, :])
            _label(panels[0], first=j == 0, letters=int(_WIDTH / len(row) / _LETTER) - 6, height=heights[i])


def _rows(figure: Figure) -> list[list[list[Axes]]]:
    """Return rows of one or two places, each with the axes that share it, as they are read; up to 3 come singly."""
    gridded = [ax for ax in figure.axes if ax.get_subplotspec() is not None and ax.get_visible()]
    alone = any(ax.get_subplotspec() is None for ax in figure.axes)  # beside a colour bar there is no room for two
    lines: dict[float, dict[float, list[Axes]]] = {}
    for ax in gridded:
        box = ax.get_position(original=True)
        top = next((y for y in lines if abs(y - box.y1) < _ALIGNED), box.y1)
        places = lines.setdefault(top, {})
        left = next((x for x in places if abs(x - box.x0) < _ALIGNED), box.x0)
        places.setdefault(left, []).append(ax)
    rows: list[list[list[Axes]]] = []
    for _, places in sorted(lines.items(), reverse=True):
        row = [panels for _, panels in sorted(places.items())]
        step = 1 if len(row) <= 3 or alone else 2
        rows += [row[i : i + step] for i in range(0, len(row), step)]
    return rows


def _height(row: list[list[Axes]], bar: float) -> float:
    """Return a row's inches: as equal units ask, else the same for all; more for titles or labels of several lines."""
    wide = (_WIDTH - bar - 0.55 * len(row)) / len(row)
    ax = row[0][0]
    letters = int(_WIDTH / len(row) / _LETTER) - 6
    titles = (_wrap(ax.get_title(loc=where), letters).count("\n") for where in ("left", "center"))
    around = _BETWEEN + 0.17 * (max(titles) + _wrap(ax.get_xlabel(), letters).count("\n"))
    if ax.get_aspect() == "auto":
        return around + _ROW
    (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    return around + wide * float(np.clip((high - low) / (right - left), 0.3, 1.5))


def _label(ax: Axes, *, first: bool, letters: int, height: float) -> None:
    """Wrap titles and labels to the panel; panels that stand alone now show their own scale."""
    titles = {ax.get_title(loc="left"), ax.get_title(loc="center")}
    for text in ax.get_children():
        if isinstance(text, Text) and text.get_text() and text.get_text() in titles:
            text.set_text(_wrap(text.get_text(), letters))
    ax.set_ylabel(_wrap(ax.get_ylabel(), int((height - 0.3) / _LETTER)))
    ax.set_xlabel(_wrap(ax.get_xlabel(), letters))
    ax.tick_params(labelleft=ax.yaxis.get_visible() and first)


def _legend(figure: Figure) -> float:
    """Put all legends of the figure as one under it; return the inches that it takes."""
    legends = [*figure.legends, *(legend for ax in figure.axes if (legend := ax.get_legend()) is not None)]
    entries: dict[str, Any] = {}
    for legend in legends:
        handles = (handle for handle in legend.legend_handles if handle is not None)
        entries |= {text.get_text(): handle for text, handle in zip(legend.get_texts(), handles, strict=True)}
        _remove(figure, legend)
    if not entries:
        return 0.0
    longest = max(len(label) for label in entries)
    columns = 2 if longest <= 16 and len(entries) > 1 else 1
    labels = [_wrap(label, 40) for label in entries]
    figure.legend(list(entries.values()), labels, loc="outside lower left", ncols=columns)
    lines = sum(label.count("\n") + 1 for label in labels)
    return 0.15 + 0.19 * (-(-lines // columns))


def _remove(figure: Figure, legend: Legend) -> None:
    if legend in figure.legends:
        figure.legends.remove(legend)
    else:
        legend.remove()


def _head(figure: Figure) -> float:
    """Wrap the title of the whole figure; return its inches."""
    title = figure.get_suptitle()
    if not title:
        return 0.05
    lines = _wrap(title, int(_WIDTH / _LETTER) - 2)
    figure.suptitle(lines, x=0.01, ha="left", fontsize=10.5)
    return 0.1 + 0.18 * (lines.count("\n") + 1)


def _wrap(text: str, letters: int) -> str:
    """Split into lines of at most so many letters; a formula is one word.

    >>> _wrap("a long title", 8)
    'a long\\ntitle'
    """
    return text if "$" in text else "\n".join(fill(line, max(letters, 8)) for line in text.split("\n"))
