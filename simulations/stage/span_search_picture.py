"""This module draws stages and comparisons for the scene of the search over spans."""

import numpy as np
from matplotlib.figure import Figure

_LOOKS = {"loops": ("#3f90da", "o"), "single scalings": ("#bd1f01", "^")}


def draw(result):
    """Change of the loss by span in the first stage, and what was finally compared, with its intervals."""
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    spans, differences = figure.subplots(1, 2, width_ratios=(1.2, 1))
    rows = [(a + (b - a) / 2, passes, np.mean(each)) for a, b, passes, _, _, _, _, *each in result["stages"]["coarse"]]
    for name, (colour, marker) in _LOOKS.items():
        points = np.array([(at, mean) for at, passes, mean in rows if (passes > 1) == (name == "loops")])
        spans.plot(*points.T, marker, color=colour, ms=4, mfc="none", label=name)
    spans.axhline(0.0, color="k", lw=0.8)
    spans.set_yscale("symlog", linthresh=0.05)
    spans.set(xlabel="middle of the span (layer)", ylabel="change of the loss (nats/token)", title="stage 1, all spans")
    spans.legend(fontsize=8)
    names = list(result["comparisons"])
    for i, name in enumerate(names):
        row = result["comparisons"][name]
        differences.errorbar(row["mean"], i, xerr=row["half"], fmt="o", color="#3f90da", capsize=3, ms=5)
    differences.axvline(0.0, color="k", lw=0.8)
    differences.set_yticks(range(len(names)), names)
    differences.invert_yaxis()
    differences.set(xlabel="change of the loss (nats/token)", title="held-out documents")
    return figure
