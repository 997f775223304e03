"""This module draws the growth, the response and the hidden spectrum of one pass for the scene `02_operator.py`."""

import math
from itertools import product

import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from ctrlattn import pass_operator
from stage.operator import ALPHAS, DISKS, GRID, INSIDE, OMEGA, ORDERS, OUTSIDE


def draw_growth(axes, numbers):
    """||L^p||, the slopes of its logarithm, and in which tokens it lives."""
    for order, dash in (("sequential", "-"), ("parallel", ":")):
        for k, n in enumerate(numbers["sizes"]):
            look = {"color": f"C{k}", "marker": "osv^DPX"[k], "markevery": (k % 4, 4), "ms": 4}
            axes[0].semilogy(range(1, 21), numbers["growth"][order][k], dash, **look, label=f"{n} tokens, {order}")
    axes[0].set(xlabel="passes p", ylabel="norm of L^p", title="all eigenvalues are 1, yet the norm grows")
    for k, (g, curve) in enumerate(numbers["exponent"].items()):
        axes[1].semilogx(curve["p"], curve["slopes"], "osv"[k] + "-", color=f"C{k}", base=2, label=f"g = {g}")
        axes[1].axhline(2 * math.sqrt(float(g) * math.log(2)), color=f"C{k}", ls=":")
    axes[1].set(
        xlabel="passes p", ylabel="slope of ln norm over sqrt(p)", title="subexponential (dotted: 2 sqrt(g ln 2))"
    )
    for k, p in enumerate((1, 2, 5, 10, 20)):
        axes[2].loglog(numbers["tokens"][p - 1], "osv^D"[k] + "-", color=f"C{k}", ms=4, label=f"p = {p}")
    axes[2].set(xlabel="token", ylabel="norm of its row of L^p", title="a boundary effect: the first tokens amplify")


def draw_response(axes, numbers):
    """One pass on powers of the place, four passes on waves."""
    for k, (order, dash) in enumerate((("sequential", "-"), ("parallel", ":"))):
        fine = np.linspace(0, 3, 50)
        axes[0].plot(fine, (fine + 1) / (fine + 2) if k == 0 else fine / (fine + 1), f"C{k}" + dash)
        axes[0].plot(ALPHAS, numbers["powers of i"][order], f"C{k}" + "os"[k], label=f"{order}, token 3999")
        for j, token in enumerate((8, 64, 511)):
            gain = np.array(numbers["waves"][order][0])[:, token]
            axes[1].semilogx(OMEGA, gain, f"C{k}" + dash, marker="osv"[j], ms=4, label=f"{order}, token {token}")
    axes[0].set(xlabel="a", ylabel="factor of one pass", title="signal i^a: constants (a = 0) are halved or removed")
    axes[1].set(
        xlabel="frequency (rad/token)", ylabel="gain of 4 passes", title="waves pass: a high-pass along the tokens"
    )


def draw_spectrum(axes, numbers):
    """The resolvent on the plane and over the number of tokens."""
    real, imaginary = GRID[0], np.concatenate([-GRID[1][:0:-1], GRID[1]])
    values, levels = np.array(numbers["map"], dtype=float), (-0.1, 0.1, 0.25, 0.5, 1, 2, 4, 8)
    spectrum, scale = np.concatenate([values[:0:-1], values]), BoundaryNorm(levels, 256)
    contours = axes[0].contourf(real, imaginary, spectrum, levels, cmap="Blues", norm=scale, extend="max")
    axes[0].figure.colorbar(contours, ax=axes[0], label="power of n in the norm of (z - L)^-1")
    circle = DISKS["sequential"][0] + DISKS["sequential"][1] * np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    axes[0].plot(circle.real, circle.imag, "k--", label="infinite spectrum")
    axes[0].plot([1], [0], "r*", ms=12, label="only eigenvalue")
    small, large = numbers["sizes"][-2:]
    axes[0].set(xlabel="Re z", ylabel="Im z", aspect="equal", title=f"hidden spectrum, {small} to {large} tokens")
    sides = ("inside", INSIDE, "-"), ("outside", OUTSIDE, ":")
    for (side, points, dash), (order, colour) in product(sides, zip(ORDERS, ("C0", "C1"), strict=True)):
        for k, (z, norms) in enumerate(zip(points[order], numbers["resolvent"][side][order], strict=True)):
            axes[1].loglog(numbers["sizes"], norms, colour + dash, marker="osv"[k], ms=4, label=f"{order}, z = {z:.2g}")
    axes[1].minorticks_off()
    axes[1].set_xticks(numbers["sizes"], numbers["sizes"])
    axes[1].set(
        xlabel="tokens", ylabel="norm of (z - L)^-1", title="grows inside the disk (solid), not outside (dotted)"
    )


def draw(numbers):
    """The operator, its growth, its response along the tokens, its hidden spectrum, the normed attractor."""
    figure = Figure(figsize=(19, 15), layout="constrained")
    axes = figure.subplot_mosaic("abBBCC;DDEEFF;GGHHII")
    for key, (order, loop) in zip("ab", ORDERS.items(), strict=True):
        axes[key].imshow(pass_operator(loop, 12), cmap="PuOr_r", vmin=-1, vmax=1)
        axes[key].set(xlabel="from token", ylabel="to token", title=f"{order} (-1 to 1)", xticks=range(0, 12, 2))
    draw_growth([axes[k] for k in "BCD"], numbers)
    draw_response([axes[k] for k in "EF"], numbers)
    draw_spectrum([axes[k] for k in "GH"], numbers)
    for k, gap in enumerate(numbers["attractor"]["gap"]):
        label = f"tokens {2 * k}, {2 * k + 1}"
        axes["I"].semilogy(np.maximum(gap, 1e-16)[:301], "osv^"[k] + "-", markevery=(5 * k, 20), ms=4, label=label)
    axes["I"].set(xlabel="passes", ylabel="|x_2k + x_2k+1| / sqrt(d)", ylim=(1e-16, 10))
    axes["I"].set_title("RMS norm on all tokens: antipodal pairs, rate i/(i+1)")
    for key in "BCDEFGHI":
        axes[key].legend(fontsize=7, ncols=2 if key in "BH" else 1)
    return figure
