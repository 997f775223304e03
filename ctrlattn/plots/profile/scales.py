"""Heat maps and logarithmic axes that the figures of a feedback profile share."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)
_COUNTED = ("Layer", "Head", "Depth")
_LINEAR = 0.1  # larger gains are drawn on a logarithmic scale: those of the first layers are often tenfold


def map_of(
    ax: Axes, matrix: np.ndarray, label: str, *, diverging: bool = False, limit: float | None = None,
    limits: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """Draw a matrix as colours. A diverging map is centred on 0 and saturates at its largest 2 %, or at `limit`."""
    scale: dict[str, Any] = {"cmap": "cividis"}
    if diverging:
        finite = np.abs(matrix[np.isfinite(matrix)])
        top = limit or (float(np.quantile(finite, 0.98)) if finite.size else 0.0) or 1.0
        scale = {"cmap": "PuOr_r", "vmin": -top, "vmax": top}
    elif limits is not None:
        scale |= {"vmin": limits[0], "vmax": limits[1]}
    image = ax.imshow(matrix, aspect="auto", interpolation="nearest", **scale)
    ax.grid(False)
    clipped = diverging and limit is None
    ax.figure.colorbar(image, ax=ax, label=label, extend="both" if clipped else "neither")


def whole_numbers(fig: Figure) -> Figure:
    """Set ticks at whole layers, heads or depths alone."""
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if axis.get_label_text().split(" ")[0] in _COUNTED:
                axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return fig


def log_scale(ax: Axes, *values: np.ndarray) -> None:
    """Make the axis logarithmic where every value is positive."""
    if all(np.all(np.isfinite(v)) and np.all(v > 0) for v in values):
        ax.set_yscale("log")


def signed_scale(ax: Axes) -> None:
    """Make the axis linear to 0.1 and logarithmic beyond, with plain numbers."""
    low, high = ax.get_ylim()
    reach = max(abs(low), abs(high))
    if reach <= 2 * _LINEAR:
        return
    ax.set_yscale("symlog", linthresh=_LINEAR)
    ticks = [v for v in _TICKS if _LINEAR / 2 <= v <= reach]
    ax.set_yticks([v for v in (*(-v for v in ticks[::-1]), 0.0, *ticks) if low <= v <= high])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_locator(NullLocator())
