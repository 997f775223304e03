"""This module draws what attention does with the predictable part of a state for the scene `18_innovation.py`."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LOOKS = {
    "difference, text, centred": ("text", "#bd1f01", "o", "-"),
    "difference, permuted tokens, centred": ("permuted tokens", "#3f90da", "s", "--"),
    "own token, centred": ("map of the token alone", "#717581", "^", ":"),
}


def draw(networks):
    """g_p - g_v over depth with its controls, and the share of layers in which a planted automaton is seen."""
    measured_networks = {
        name: network for name, network in networks.items() if "own token, centred" in network["intervals"]
    }
    figure = Figure(figsize=(4.6 * len(measured_networks), 7.2), layout="constrained")
    rows = figure.subplots(2, len(measured_networks), squeeze=False)
    for (top, bottom), (name, network) in zip(rows.T, measured_networks.items(), strict=True):
        for key, (label, colour, marker, line) in LOOKS.items():
            if key in network["intervals"]:
                row = {end: np.array(network["intervals"][key][end]) for end in ("mean", "low", "high")}
                layers = np.arange(len(row["mean"]))
                top.plot(layers, row["mean"], color=colour, marker=marker, ls=line, ms=3.5, lw=1.2, label=label)
                top.fill_between(layers, row["low"], row["high"], color=colour, alpha=0.18, lw=0)
        top.axhline(0.0, color="k", lw=0.8)
        top.set_yscale("symlog", linthresh=0.05)
        top.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        top.set(title=f"{name}, centred states", xlabel="layer", ylabel="$g_p - g_v$ (1)")
        top.xaxis.set_major_locator(MaxNLocator(integer=True))
        for state, marker in (("raw", "s"), ("centred", "o")):
            power = network["judgement"]["power"][state]
            shares = [len(layers) / network["judgement"]["layers"] for layers in power.values()]
            bottom.plot(range(len(power)), shares, marker=marker, label=f"{state} states")
        bottom.set_xticks(range(len(power)), list(power))
        bottom.set(xlabel="strength of the planted automaton (1)", ylabel="share of layers (1)", ylim=(-0.03, 1.03))
    rows[0, 0].legend(fontsize=8)
    rows[1, 0].legend(fontsize=8)
    return figure
