"""This module draws the largest pole against the eigenvalue, and a run, for the scene of the odd-number limit."""

from matplotlib.figure import Figure


def draw(stable, unstable, runs):
    """Largest |pole| of stable and of unstable controllers on both sides of the edge; errors over passes."""
    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    stable_axes, unstable_axes, recall_axes = figure.subplots(1, 3)
    for ax, rows, title in (
        (stable_axes, stable, "stable C with C(1) > 0"),
        (unstable_axes, unstable, "unstable C with C(1) > 0"),
    ):
        holds = rows[:, 1] < 1
        ax.plot(*rows[~holds].T, ".", color="#94a4a2", ms=3, label="a pole outside the circle")
        ax.plot(*rows[holds].T, "o", color="#3f90da", ms=3, mfc="none", label="stable")
        ax.axvline(0.0, color="#bd1f01", lw=1.2, ls="--")
        ax.axhline(1.0, color="k", lw=0.8)
        ax.set(xlabel="λ − 1 − k_r, λ real", ylabel="largest |pole|", title=title, yscale="log", ylim=(0.05, 20))
        ax.legend(fontsize=8, loc="lower left")
    for (name, run), look in zip(runs.items(), ("-", "--", ":"), strict=False):
        recall_axes.plot(run, look, lw=1.4, label=name)
    recall_axes.set(xlabel="pass", ylabel="|e|", yscale="log", title="λ = 1.5: only recall helps")
    recall_axes.legend(fontsize=8)
    return figure
