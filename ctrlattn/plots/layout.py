"""The layout of a figure: solved until no panel moves, where each panel is measured once for each place that it takes.

Most of the time of a layout goes into measuring labels. A panel asks for the same ones up to five times: for itself,
for its spines, for the label of the axis and for the title. Nothing but its place changes meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.spines import Spine
from matplotlib.transforms import Bbox

_SOLUTIONS, _AT_REST = 6, 1e-4  # of a layout at most; what a panel still moves by, as a share of the figure


def solve_layout(figure: Figure, dpi: float) -> None:
    """Solve the layout until no panel moves: a smaller panel has other ticks, whose labels may ask for more room.

    One solution, as `savefig` makes it, left the label of an axis outside of the picture. Here the engine asks a model
    of each panel, linear in its size, until all is at rest; then the panels are measured where they came to stand. The
    layout is solved when each of them needs the room that its model gave it. Letters have widths of their own at each
    resolution, which is `dpi` here.

    >>> from ctrlattn.plots.style import figure
    >>> solve_layout(figure(), 160)
    """
    engine = figure.get_layout_engine()
    if engine is None or not figure.axes:
        return
    renderer, panels = _renderer(dpi), [_Panel(ax) for ax in figure.axes]
    with _at_resolution(figure, dpi), measured_once(figure):
        legends = [(legend, "get_tightbbox", _measure_once(legend.get_tightbbox)) for legend in figure.legends]
        models = [(panel.ax, "get_tightbbox", panel) for panel in panels]
        for _ in range(_SOLUTIONS):
            gaps = [panel.measure(renderer) for panel in panels]
            if max(gaps) <= _AT_REST:
                return
            with _replace_methods([*models, *legends]):
                _bring_to_rest(figure, engine)


def _bring_to_rest(figure: Figure, engine: LayoutEngine) -> None:
    """Solve, each time from where the last solution ended: the pad of a colour bar follows the size of its panel."""
    for _ in range(_SOLUTIONS):
        before = _places(figure)
        engine.execute(figure)
        if np.abs(_places(figure) - before).max() <= _AT_REST:
            return


def _measure_once(measure: Callable[..., Any]) -> Callable[..., Any]:
    """Measure the box of a legend beside all panels once: the engine asks for its size alone, which does not change."""
    boxes: list[Any] = []

    def box(renderer: Any = None) -> Any:
        if not boxes:
            boxes.append(measure(renderer))
        return boxes[0]

    return box


def _places(figure: Figure) -> np.ndarray:
    return np.array([ax.get_position(original=True).get_points() for ax in figure.axes])


@cache
def _renderer(dpi: float) -> RendererAgg:
    """Return a renderer that measures text and keeps what it measured: a text is measured once for all figures."""
    return RendererAgg(1, 1, dpi)


class _Panel:
    """What the labels of a panel take around its frame, measured where it stood and linear in its size beside."""

    def __init__(self, ax: Axes) -> None:
        self.ax, self._at = ax, np.full((2, 2), np.nan)
        self._room, self._slope = np.full((2, 2), np.nan), np.zeros((2, 2))

    def __call__(self, renderer: Any = None, **options: Any) -> Bbox:
        """Return the box that `ax.get_tightbbox` would give, by the model."""
        frame = self._frame(renderer)
        return Bbox(frame + self._model(frame)).transformed(self.ax.figure.transFigure)

    def measure(self, renderer: Any) -> float:
        """Measure the panel in its place; return the largest error of the model there, as a share of the figure."""
        frame = self._frame(renderer)
        if np.abs(frame - self._at).max() <= _AT_REST:
            return 0.0
        box = self.ax.get_tightbbox(renderer, for_layout_only=True)
        room = np.zeros((2, 2))  # (corner, coordinate), beyond the frame; a hidden panel takes none
        if box is not None:
            room = box.transformed(self.ax.figure.transFigure.inverted()).get_points() - frame
        error, grown = room - self._model(frame), np.diff(frame - self._at, axis=0)
        if not np.isnan(error).any():
            grew = np.abs(grown) > _AT_REST
            # A legend that stands at a share of the panel moves with its size; a jump is another number of ticks.
            self._slope = np.clip(np.where(grew, (room - self._room) / np.where(grew, grown, 1.0), 0.0), -1.0, 1.0)
        self._at, self._room = frame, room
        return float(np.nan_to_num(np.abs(error), nan=np.inf).max())

    def _frame(self, renderer: Any) -> np.ndarray:
        """Return the panel in its place, as high and wide as equal units or the shape of a colour bar leave it."""
        locator: Any = self.ax.get_axes_locator()  # None for most
        self.ax.apply_aspect(locator(self.ax, renderer) if locator else None)
        return self.ax.get_position().get_points()

    def _model(self, frame: np.ndarray) -> np.ndarray:
        return self._room + self._slope * np.diff(frame - self._at, axis=0)


@contextmanager
def measured_once(figure: Figure) -> Iterator[None]:
    """Measure each spine and axis once in each place in the block; nothing but places may change until the end.

    A spine updates all ticks of its axis whenever it is asked for its extent, and a title those of the vertical axis.
    """
    parts: list[tuple[Artist, str, Callable[..., Any]]] = []
    for ax in figure.axes:
        parts += [(spine, "get_window_extent", _keep_answer(_spine_box(spine), ax)) for spine in ax.spines.values()]
        parts += [(axis, "get_tightbbox", _keep_answer(axis.get_tightbbox, ax)) for axis in (ax.xaxis, ax.yaxis)]
    with _replace_methods(parts):
        yield


def _keep_answer(measure: Callable[..., Any], ax: Axes) -> Callable[..., Any]:
    """Keep the last answer of the measure, as long as the axes stay in their place and the renderer is the same.

    Its options make no difference here: a layout leaves out the length of a label along its axis, and a title asks for
    what is across.
    """
    last: list[Any] = [None, None]

    def kept(renderer: Any = None, **options: Any) -> Any:
        key = (*ax.bbox.extents, id(renderer))
        if last[0] != key:
            last[:] = key, measure(renderer, **options)
        return None if last[1] is None else last[1].frozen()

    return kept


def _spine_box(spine: Spine) -> Callable[..., Any]:
    """Return the extent of a spine with its ticks, which are up to date: its axis is always asked before."""
    axis, side = spine.axis, {"left": 0, "bottom": 1, "right": 2, "top": 3}.get(spine.spine_type)
    if axis is None or side is None or spine.get_position() != ("outward", 0.0) or spine.get_bounds() is not None:
        return spine.get_window_extent  # an outline, a part of a side, or one that stands elsewhere

    def box(renderer: Any = None) -> Bbox:
        extents = list(spine.axes.bbox.extents)
        ticks = [*axis.majorTicks[:1], *axis.minorTicks[:1]] if axis.get_visible() else []
        lines = (tick.tick1line if side < 2 else tick.tick2line for tick in ticks)
        lengths = [tick.get_tick_padding() for tick, line in zip(ticks, lines, strict=True) if line.get_visible()]
        extents[side] += max(lengths, default=0.0) * spine.figure.dpi / 72 * (1 if side >= 2 else -1)
        extents[(side + 2) % 4] = spine.axes.bbox.extents[side]
        return Bbox.from_extents(*extents)

    return box


@contextmanager
def _at_resolution(figure: Figure, dpi: float) -> Iterator[None]:
    before = figure.dpi
    figure.dpi = dpi
    try:
        yield
    finally:
        figure.dpi = before


@contextmanager
def _replace_methods(parts: list[tuple[Artist, str, Callable[..., Any]]]) -> Iterator[None]:
    """Replace methods of single artists in the block."""
    for artist, name, method in parts:
        setattr(artist, name, method)
    try:
        yield
    finally:
        for artist, name, _ in parts:
            delattr(artist, name)
