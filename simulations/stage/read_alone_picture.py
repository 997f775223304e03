"""This module draws the learning curves and the losses of the networks of the scene `07_read_alone.py`."""

import numpy as np
from matplotlib.figure import Figure

from stage.read_alone import COLOURS


def draw(numbers):
    """Learning curves, losses of all seeds, the search for the rate."""
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    curves, ends, rates = figure.subplots(1, 3)
    for i, (name, m) in enumerate(numbers["models"].items()):
        colour, marker, line = COLOURS[name]
        steps, losses = np.moveaxis(np.array(m["curves"]), -1, 0)
        curves.plot(steps[0], losses.mean(0), color=colour, ls=line, marker=marker, label=name)
        curves.fill_between(steps[0], losses.min(0), losses.max(0), color=colour, alpha=0.2)
        ends.plot(np.full(len(m["losses"]), i), m["losses"], marker, color=colour, alpha=0.5)
        half = [[m["mean"] - m["low"]], [m["high"] - m["mean"]]]
        ends.errorbar(i + 0.2, m["mean"], half, color=colour, marker=marker, capsize=4)
        loss_pairs = [(float(rate), loss) for rate, loss in m["search"].items() if loss < 1e3]
        rates.semilogx(*zip(*loss_pairs, strict=True), color=colour, ls=line, marker=marker)
    for (name, loss), line in zip(numbers["counting"].items(), ("--", ":"), strict=True):
        for axes in (curves, ends):
            axes.axhline(loss, color="k", lw=0.8, ls=line)
        ends.annotate(f"{name} counts", (0.5, loss), textcoords="offset points", xytext=(0, 2), ha="center", fontsize=8)
    ends.set_xticks(range(len(numbers["models"])), numbers["models"])
    curves.set(xlabel="training step", ylabel="loss, part one (nats a character)", title="mean and range of the seeds")
    ends.set(ylabel="loss, part two (nats a character)", title="seeds, mean and 95 % interval")
    rates.set(xlabel="learning rate", ylabel="loss, part one (nats a character)", title="choice of the rate")
    curves.legend()
    return figure
