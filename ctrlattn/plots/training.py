"""Figure of a trained comparison: losses, similarity over depth, and differences of scores with their intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctrlattn.plots.style import GREY, escape, figure, styles, themed

_CURVES = {
    "losses": ("Training loss (nats)", "Epoch", 1),
    "token_similarity": ("Cosine between tokens", "Layer", 0),
    "attention_similarity": ("Cosine of attention with the next layer's", "Layer", 0),
}


@themed
def compared(result: Mapping[str, Any], scores: Sequence[str]) -> Figure:
    """Draw three curves per arm of a comparison, and differences of some scores with 95 % intervals.

    Parameters
    ----------
    result : mapping
        The result of `nn.compare`, with curves, differences and plan.
    scores : names of scores
        Scores that are the rows of the last panel.

    Examples
    --------
    >>> curves = {"losses": [2.0, 1.0], "token_similarity": [0.1, 0.2], "attention_similarity": [0.5]}
    >>> none = {"mean": 0.0, "low": -0.1, "high": 0.1}
    >>> result = {"curves": {"softmax": curves, "neutreno": curves}, "differences": {"neutreno": {"clean": none}},
    ...           "plan": {"against": "softmax"}}
    >>> len(compared(result, ["clean"]).axes)
    4
    """
    arms = list(result["curves"])
    looks = styles(arms)
    fig = figure(width=10.0, height=7.0)
    panels = fig.subplots(2, 2).flat
    for ax, (name, (title, across, start)) in zip(panels, _CURVES.items(), strict=False):
        for arm in arms:
            values = np.asarray(result["curves"][arm][name], dtype=float)
            every = max(len(values) // 8, 1)
            ax.plot(
                np.arange(len(values)) + start, values, **looks[arm], markevery=every, label=escape(_short_name(arm))
            )
        ax.set(xlabel=across, ylabel=title, yscale="log" if name == "losses" else "linear")
    ax = fig.axes[3]
    laws = [arm for arm in arms if arm in result["differences"]]
    for k, arm in enumerate(laws):
        differences = [result["differences"][arm][score] for score in scores]
        middle, low, high = (np.array([float(row[key]) for row in differences]) for key in ("mean", "low", "high"))
        place = np.arange(len(scores)) + (k - (len(laws) - 1) / 2) * 0.15
        bars = [middle - low, high - middle]
        ax.errorbar(middle, place, xerr=bars, color=looks[arm]["color"], marker=looks[arm]["marker"], linestyle="none")
    ax.axvline(0.0, color=GREY, linewidth=1.0)
    ax.set_yticks(range(len(scores)), [escape(score) for score in scores])
    ax.invert_yaxis()
    ax.set_xlabel(f"Difference from {escape(_short_name(result['plan']['against']))}, 95 % over seeds")
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(arms), 6))
    return fig


def _short_name(arm: str) -> str:
    return Path(arm).stem
