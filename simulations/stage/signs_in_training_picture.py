"""This module draws the losses and the learned gains of the scene `15_signs_in_training.py`."""

import numpy as np
from matplotlib.figure import Figure

from stage.signs_in_training import PATTERNS, READS, gains_of

COLOURS = {"-": ("C0", "o"), "+": ("C1", "s")}


def draw(numbers):
    """Losses of the eight patterns, learned gains of the reads, losses and gains of attention."""
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    losses, gains, attention, gain_axes = figure.subplots(1, 4, width_ratios=(1.3, 1.3, 1, 1))
    reads = numbers["reads"]["arms"]
    patterns = sorted(PATTERNS, key=lambda pattern: pattern[1], reverse=True)
    for i, pattern in enumerate(patterns):
        _seeds(losses, i, reads[pattern]["losses"], *COLOURS[pattern[1]])
    losses.set(title="signs of association, context, MLP", ylabel="loss, part two (nats a character)")
    losses.set_xticks(range(len(patterns)), [pattern.replace("-", "\N{MINUS SIGN}") for pattern in patterns])
    arms = list(numbers["reads"]["plan"]["learned"])
    for i, arm in enumerate(arms):
        for j, read in enumerate(READS):
            place = i + 0.25 * (j - 1)
            _seeds(gains, place, gains_of(reads[arm])[:, j], f"C{j}", "os^"[j], read if i == 0 else None)
    gains.set(title="gains of the reads, learned", ylabel="g, mean over layers")
    gains.set_xticks(range(len(arms)), arms, fontsize=8)
    gains.legend(fontsize=8)
    fixed = numbers["attention"]["arms"]
    for i, arm in enumerate(fixed):
        _seeds(attention, i, fixed[arm]["losses"], "0.3", "o")
    attention.set(title="transformer, loss", ylabel="loss, part two (nats a character)")
    attention.set_xticks(range(len(fixed)), fixed, rotation=60, fontsize=8)
    free = [arm for arm in fixed if arm.endswith("from 0")]
    for i, arm in enumerate(free):
        _seeds(gain_axes, i, np.array(fixed[arm]["gains"]).mean(1), "0.3", "o")
    gain_axes.set(title="transformer, g", ylabel="g, mean over layers")
    gain_axes.set_xticks(range(len(free)), free, rotation=60, fontsize=8)
    for axes in (gains, gain_axes):
        axes.axhline(0, color="k", lw=0.8)
    return figure


def _seeds(axes, place, values, colour, marker, label=None):
    """The values of all seeds and their mean."""
    values = np.asarray(values)
    axes.plot(np.full(len(values), place), values, marker, color=colour, alpha=0.4, label=label)
    axes.plot([place - 0.1, place + 0.1], [values.mean()] * 2, color=colour, lw=2)
