"""Figures along the tokens: similarity, heat maps, gain per token frequency, diversity over depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ctrlattn.errors import require_flag
from ctrlattn.plots.style import axes_of, decibel, escape, figure, legend, nyquist_line, sparse_markers, styles, themed

_MANY_LABELS = 40


@themed
def similarity(matrices: Mapping[str, np.ndarray], labels: Sequence[str], *, highlight: int | None = None) -> Figure:
    """Draw token similarity, one heat map per state on the scale -1 to 1; the row `highlight` is framed.

    Parameters
    ----------
    matrices : name -> (n, n)
        Cosines between tokens, by state.
    labels : n strings
        Tokens, which are shown literally.
    highlight : int, optional
        Index of the probe token.

    Examples
    --------
    >>> import numpy as np
    >>> len(similarity({"before": np.eye(2), "after": np.eye(2)}, ["A", "B"]).axes)  # two maps and their scale
    3
    """
    n = len(labels)
    fig = figure(width=max(7.2, 2.6 * len(matrices)), height=3.1)
    panels = np.atleast_1d(fig.subplots(1, len(matrices), sharey=True))
    image: Any = None
    for ax, (title, matrix) in zip(panels, matrices.items(), strict=True):
        image = ax.imshow(matrix, cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(escape(title))
        ax.grid(False)
        ticks = range(0, n, max(1, n // _MANY_LABELS))
        ax.set_xticks(ticks, [escape(labels[i]) for i in ticks], rotation=90 if max(map(len, labels)) > 2 else 0)
        ax.set_yticks(ticks, [escape(labels[i]) for i in ticks])
        if highlight is not None:
            ax.add_patch(Rectangle((-0.5, highlight - 0.5), n, 1, fill=False, edgecolor="black", linewidth=1.6))
    panels[0].set_ylabel("Token")
    fig.colorbar(image, ax=list(panels), label="Cosine similarity", shrink=0.8, pad=0.02)
    return fig


@themed
def heatmap(
    matrix: np.ndarray, *, xlabel: str, ylabel: str, label: str, diverging: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw a matrix as colours with its colour bar; diverging maps are centred on 0.

    Examples
    --------
    >>> import numpy as np
    >>> heatmap(np.eye(2), xlabel="head", ylabel="layer", label="gain").get_ylabel()
    'layer'
    """
    diverging = require_flag("diverging", diverging)
    ax = axes_of(ax, height=4.0)
    finite = np.abs(matrix[np.isfinite(matrix)])
    top = float(finite.max()) if finite.size else 1.0
    scale: dict[str, Any] = {"cmap": "PuOr_r", "vmin": -top, "vmax": top} if diverging else {"cmap": "cividis"}
    image = ax.imshow(matrix, aspect="auto", interpolation="nearest", **scale)
    ax.grid(False)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.figure.colorbar(image, ax=ax, label=label)
    return ax


@themed
def token_response(frequency: np.ndarray, gains: Mapping[str, np.ndarray], *, ax: Axes | None = None) -> Axes:
    """Draw the gain of attention on waves along the tokens, in dB over rad/token; 0 dB passes unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> token_response(np.linspace(0, 3.1, 5), {"layer 0": np.ones(5)}).get_ylabel()
    'Gain (dB)'
    """
    ax = axes_of(ax)
    for i, (name, look) in enumerate(styles(list(gains)).items()):
        ax.plot(frequency, decibel(gains[name]), label=escape(name), **look, **sparse_markers(len(frequency), i))
    ax.axhline(0.0, color="black", linewidth=0.9)
    nyquist_line(ax, unit="token")
    ax.set_ylabel("Gain (dB)")
    ax.set_title("Attention as a filter along the tokens: below 0 dB it smooths")
    legend(ax)
    return ax


@themed
def diversity(depth: np.ndarray, curves: Mapping[str, np.ndarray], *, ylabel: str, ax: Axes | None = None) -> Axes:
    """Draw a measure of diversity over depth, one curve per network or loop.

    Examples
    --------
    >>> import numpy as np
    >>> diversity(np.arange(3), {"network": np.ones(3)}, ylabel="Participation rank").get_xlabel()
    'Depth (layers)'
    """
    ax = axes_of(ax)
    for i, (name, look) in enumerate(styles(list(curves)).items()):
        ax.plot(depth, curves[name], label=escape(name), **look, **sparse_markers(len(depth), i))
    ax.set(xlabel="Depth (layers)", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax
