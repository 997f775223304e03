"""This module draws the errors over slots and over temperature of the scene `04_query_memory.py`."""

import numpy as np
from matplotlib.figure import Figure

from stage.query_memory import pick


def draw(numbers):
    """Error over slots with and without the add, error over temperature, attention moved."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    over_slots, over_temperature, attention = figure.subplots(1, 3)
    styles = {"bound": "k-", "linear": "C0s--", "hot": "C2x", "trained": "C1o-", "trained cold": "C3v-."}
    for kind, style in styles.items():
        slots, rows = zip(*pick(numbers, kind).items(), strict=True)
        mean, low, high = np.array([[r[end] for end in ("mean", "low", "high")] for r in rows]).T
        over_slots.errorbar(slots, mean, (mean - low, high - mean), fmt=style, label=kind, capsize=3)
        if kind not in ("bound", "hot"):
            values = [r["mean"] for r in pick(numbers, kind, column="attention moved").values()]
            attention.plot(slots, values, style, label=kind)
    alone = pick(numbers, "bound", add=False)
    over_slots.plot(alone.keys(), [r["mean"] for r in alone.values()], "k:", label="bound, f(x) alone")
    for m, marker in zip(numbers["size"]["slots"], "osv^D", strict=False):
        values = [pick(numbers, f"T = {tau:g}")[m]["mean"] for tau in numbers["size"]["temperatures"]]
        over_temperature.semilogx(numbers["size"]["temperatures"], values, f"{marker}-", label=f"{m} slots")
        over_temperature.axhline(pick(numbers, "bound")[m]["mean"], color="k", lw=0.6, ls=":")
    error = "error |xW - (x + f(x))| / |xW|"
    over_slots.set(xlabel="slots m (rank of the linear map)", ylabel=error, xscale="log", title="held-out tokens")
    over_temperature.set(xlabel="temperature / mean |x|²", ylabel=error, title="random tokens as keys; dotted: bounds")
    attention.set(xlabel="slots m (rank of the linear map)", ylabel="share of attention moved", xscale="log")
    attention.set(title="what the error does to attention", ylim=(0, None))
    for axes in (over_slots, attention):
        axes.set_xticks(numbers["size"]["slots"], numbers["size"]["slots"])
        axes.minorticks_off()
    for axes in (over_slots, over_temperature, attention):
        axes.legend(fontsize=8)
    return figure
