"""This module draws losses, eigenvalues and motion of repeated spans for the scene of repeated spans."""

import numpy as np
from matplotlib.figure import Figure

from stage.repeated_span import LAWS, eigenvalues_of

_LAW_LOOKS = (("#3f90da", "o"), ("#bd1f01", "s"), ("#832db6", "^"), ("#717581", "D"))
_MOTION_LOOKS = {"naive": ("#bd1f01", "-"), "gain 1/4": ("#3f90da", "--"), "recall": ("#000000", ":")}
_MARKERS = "osD^vP"


def draw(changes, forecasts):
    """Change of the loss by span and law; eigenvalues of every span; residual and norm over passes."""
    figure = Figure(figsize=(11.5, 8.2), layout="constrained")
    (losses, plane), (error, norm) = figure.subplots(2, 2)
    spans = list(changes)
    for i, (law, (colour, marker)) in enumerate(zip(LAWS, _LAW_LOOKS, strict=True)):
        at = np.arange(len(spans)) + 0.14 * (i - 1.5)
        mean, half = np.array([changes[span][law] for span in spans]).T
        losses.errorbar(at, mean, yerr=half, fmt=marker, color=colour, ms=5, capsize=2, lw=1.1, label=law)
    losses.axhline(0.0, color="k", lw=0.8)
    losses.set_yscale("symlog", linthresh=0.1)
    losses.set_yticks([0, 0.05, 0.1, 0.2, 0.5, 1, 2, 3], ["0", "0.05", "0.1", "0.2", "0.5", "1", "2", "3"])
    losses.set_xticks(range(len(spans)), spans)
    losses.set(xlabel="layers that are repeated", ylabel="change of the loss (nats/token)", title="what a loop costs")
    losses.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, -0.42))
    for i, span in enumerate(spans):
        values = eigenvalues_of(forecasts[span])
        shade = f"{0.75 * i / max(len(spans) - 1, 1):.2f}"
        plane.plot(values.real, values.imag, _MARKERS[i % 6], color=shade, ms=4, mfc="none", label=f"layers {span}")
        for name, (colour, line) in _MOTION_LOOKS.items():
            motion = forecasts[span]["motion"][name]
            label = {"recall": "recall as the eigenvalues ask"}.get(name, name) if i == 0 else None
            passes = np.arange(len(motion["error"]))
            error.plot(passes, motion["error"], line, color=colour, lw=1.2, label=label)
            norm.plot(np.arange(len(motion["norm"])), motion["norm"], line, color=colour, lw=1.2, label=label)
    plane.axvline(1.0, color="#bd1f01", lw=1.2, ls="--", label="Re = 1: beyond it no small gain")
    plane.plot(np.cos(np.linspace(0, 6.3, 200)), np.sin(np.linspace(0, 6.3, 200)), color="k", lw=0.8)
    plane.set(xlabel="Re λ", ylabel="Im λ", title="eigenvalues of J at the span's own input")
    plane.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, -0.46))
    error.set(
        xlabel="pass", ylabel="error |e|/|h|, median token", yscale="log", title="how far from rest, one line a span"
    )
    norm.set(xlabel="passes made", ylabel="|h|/|h_0|, median token", yscale="log", title="norm of the stream")
    for axes in (error, norm):
        axes.legend(fontsize=8)
    return figure
