"""Figures in the complex plane: attention spectra over stability regions, Nyquist, root locus, poles and zeros."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ctrlattn.errors import require_flag
from ctrlattn.plots.style import COLOURS, GREY, axes_of, escape, legend, panels_of, styles, themed

_CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 361))
_CLEAR = "#dbe8f6"
_MODE_LOOKS = (
    {"marker": "o", "color": "#1f4e79"},
    {"marker": "x", "color": "#c05a00"},
    {"marker": "+", "color": "#444"},
)


@themed
def spectrum_over_regions(
    eigenvalues: Mapping[str, np.ndarray],
    regions: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    shares: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Draw eigenvalues of real attention over the stability region of each controller; unstable areas are hatched.

    Parameters
    ----------
    eigenvalues : network -> complex (modes,)
    regions : loop -> (re (m,), im (k,), radius (k, m))
        Largest modulus of a closed-loop pole on a grid of the plane; a value above 1 is unstable.
    shares : loop -> {network -> share of unstable modes}

    Examples
    --------
    >>> import numpy as np
    >>> plane = (np.linspace(-1, 1, 3), np.linspace(-1, 1, 3), np.zeros((3, 3)))
    >>> fig = spectrum_over_regions({"net": np.zeros(2)}, {"neutreno": plane}, shares={"neutreno": {"net": 0.0}})
    >>> fig.axes[0].get_xlabel()
    'Re a'
    """
    fig, panels = panels_of(len(regions), 2, height=2.9, margin=0.9)
    for ax, (name, (re, im, radius)) in zip(panels.flat, regions.items(), strict=False):
        if radius.max() > 1:
            ax.contourf(re, im, radius, levels=[1.0, radius.max()], colors=["#f3f4f6"], hatches=["////"])
            ax.contour(re, im, radius, levels=[1.0], colors=["black"], linewidths=1.1)
        ax.plot(_CIRCLE.real, _CIRCLE.imag, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
        for (network, modes), look in zip(eigenvalues.items(), _MODE_LOOKS * 9, strict=False):
            ax.plot(
                modes.real, modes.imag, linestyle="none", markersize=3.0, alpha=0.6, rasterized=True,
                label=escape(network), **look,
            )  # fmt: skip
        percentages = ", ".join(f"{100 * share:.2g} %" for share in shares[name].values())
        ax.set_title(f"{escape(name)}: unstable {percentages}")
        ax.set(xlim=(re[0], re[-1]), ylim=(im[0], im[-1]), aspect="equal")
    for ax in panels[-1]:
        ax.set_xlabel("Re a")
    for ax in panels[:, 0]:
        ax.set_ylabel("Im a")
    handles, _ = panels[0, 0].get_legend_handles_labels()
    area = Patch(facecolor="#f3f4f6", hatch="////", edgecolor="#b3bac4", label="unstable")
    fig.legend(handles=[*handles, area], loc="outside lower left", ncols=3, markerscale=2)
    return fig


@themed
def nyquist_curves(
    responses: Mapping[str, np.ndarray],
    *,
    margins: Mapping[str, Any] | None = None,
    unit: str = "layers",
    ax: Axes | None = None,
) -> Axes:
    """Draw L(e^{iw}) for w > 0 and its mirror image, with -1, the unit circle and the disks of the modulus margins.

    Parameters
    ----------
    responses : name -> complex (m,)
        Along ascending frequencies.
    margins : name -> ctrlattn.Margins, optional
    unit : str
        Unit of the delay margins.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.linspace(0.1, np.pi, 9)
    >>> nyquist_curves({"neutreno": 0.6 / (np.exp(1j * w) - 0.5)}).get_xlabel()
    'Re L'
    """
    ax = axes_of(ax, height=4.6)
    ax.plot(_CIRCLE.real, _CIRCLE.imag, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)), label="unit circle")
    for name, look in styles(list(responses)).items():
        curve = np.asarray(responses[name])
        margin = (margins or {}).get(name)
        note = "" if margin is None else f": {_margin_words(margin, unit)}"
        line = {**look, "marker": "None"}
        ax.plot(curve.real, curve.imag, label=escape(name) + note, **line)
        ax.plot(curve.real, -curve.imag, **{**line, "linewidth": 0.8})
        _arrow(ax, curve, look["color"])
        if margin is not None and np.isfinite(margin.modulus_margin):
            disk = -1 + margin.modulus_margin * _CIRCLE
            ax.plot(disk.real, disk.imag, color=look["color"], linewidth=0.7, linestyle=(0, (1, 1.5)))
    ax.plot(-1, 0, "+", color="black", markersize=11, markeredgewidth=1.8)
    ax.annotate("−1", (-1, 0), textcoords="offset points", xytext=(5, 5))
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.0, 2.0), aspect="equal", xlabel="Re L", ylabel="Im L")
    ax.set_title("Nyquist curve; dotted: disk of the modulus margin around −1")
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=1, borderaxespad=0)
    return ax


@themed
def nyquist_panels(responses: Mapping[str, np.ndarray], radii: Mapping[str, float]) -> Figure:
    """Draw the Nyquist curve of each loop in a panel of its own, with the disk around -1 that it keeps clear.

    Parameters
    ----------
    responses : name -> complex (m,)
        L(e^{iw}) along ascending frequencies.
    radii : name -> modulus margin

    Examples
    --------
    >>> import numpy as np
    >>> w = np.linspace(0.1, np.pi, 9)
    >>> len(nyquist_panels({"neutreno": 0.6 / (np.exp(1j * w) - 0.5)}, {"neutreno": 0.5}).axes)
    1
    """
    fig, panels = panels_of(len(responses), 3, height=2.4, margin=0.5)
    for ax, (name, look) in zip(panels.flat, styles(list(responses)).items(), strict=False):
        curve = np.asarray(responses[name])
        if np.isfinite(radii[name]) and radii[name] > 0:
            disk = -1 + radii[name] * _CIRCLE
            ax.fill(disk.real, disk.imag, facecolor=_CLEAR, edgecolor="black", linewidth=0.8, label="kept clear")
        ax.plot(_CIRCLE.real, _CIRCLE.imag, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)), label="unit circle")
        ax.plot(curve.real, curve.imag, color=look["color"], linewidth=2.0)
        ax.plot(curve.real, -curve.imag, color=look["color"], linewidth=0.8)
        _arrow(ax, curve, look["color"])
        ax.plot(-1, 0, "+", color="black", markersize=9, markeredgewidth=1.6, label="−1")
        ax.set(xlim=(-2.2, 2.0), ylim=(-1.7, 1.7), aspect="equal", title=escape(name), xlabel="Re L")
    for ax in panels[:, 0]:
        ax.set_ylabel("Im L")
    handles = {
        label: handle for ax in panels.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    fig.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=3)
    return fig


@themed
def root_locus_branches(
    gains: np.ndarray,
    poles: np.ndarray,
    zeros: Any = (),
    *,
    marks: Mapping[str, Any] | None = None,
    title: str = "",
    continuous: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw closed-loop poles as the overall gain grows, in the z-plane (s-plane), with the border of stability.

    Parameters
    ----------
    gains : (m,), ascending
    poles : complex (m, order)
    zeros : complex, optional
        Open-loop zeros, at which branches end.
    marks : label -> poles, optional

    Examples
    --------
    >>> import numpy as np
    >>> k = np.linspace(0, 2, 5)
    >>> root_locus_branches(k, (0.5 - 0.6 * k)[:, None]).get_xlabel()
    'Re z (angles in rad/layer)'
    """
    continuous = require_flag("continuous", continuous)
    ax = axes_of(ax, height=4.2)
    _plane(ax, [np.asarray(poles)[0], zeros, *(marks or {}).values()], continuous)
    for i, branch in enumerate(np.asarray(poles).T):
        ax.plot(branch.real, branch.imag, color=COLOURS[i % len(COLOURS)], linewidth=2.4)
    start = np.asarray(poles)[0]
    ax.plot(start.real, start.imag, "x", color="black", markersize=7, label=f"gain {gains[0]:g}")
    ends = np.atleast_1d(np.asarray(zeros, dtype=complex))
    if ends.size:
        ax.plot(ends.real, ends.imag, "o", color="black", fillstyle="none", markersize=7, label="zeros")
    for (label, values), marker in zip((marks or {}).items(), "sDv^", strict=False):
        points = np.asarray(values)
        ax.plot(
            points.real, points.imag, marker, color="white", markeredgecolor="black", markeredgewidth=1.3,
            markersize=6, label=escape(label),
        )  # fmt: skip
    ax.set_title(escape(title))
    legend(ax)
    return ax


@themed
def root_loci(
    gains: np.ndarray,
    poles: Mapping[str, np.ndarray],
    zeros: Mapping[str, Any],
    *,
    marks: Mapping[str, Mapping[str, Any]],
) -> Figure:
    """Draw `root_locus_branches` of several loops side by side; the arguments are mappings by the name of the loop.

    Examples
    --------
    >>> import numpy as np
    >>> k = np.linspace(0, 2, 5)
    >>> len(root_loci(k, {"a": (0.5 - k)[:, None]}, {"a": []}, marks={"a": {}}).axes)
    1
    """
    fig, panels = panels_of(len(poles), 2, height=3.0, margin=0.4)
    for ax, (name, branches) in zip(panels.flat, poles.items(), strict=False):
        root_locus_branches(gains, branches, zeros[name], marks=marks[name], title=name, ax=ax)
        ax.get_legend().remove()
        ax.set(xlim=(-1.5, 1.5), ylim=(-1.25, 1.25))
    handles = {
        label: handle for ax in panels.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    fig.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=4)
    return fig


@themed
def poles_and_zeros(
    poles: Mapping[str, Any],
    zeros: Mapping[str, Any],
    *,
    continuous: bool = False,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw poles (filled) and zeros (circles); in the z-plane with lines of equal damping and natural frequency.

    Examples
    --------
    >>> poles_and_zeros({"neutreno": [-0.1]}, {"neutreno": []}).get_ylabel()
    'Im z'
    """
    continuous = require_flag("continuous", continuous)
    ax = axes_of(ax, height=4.2)
    _plane(ax, [*poles.values(), *zeros.values()], continuous)
    for name, look in styles(list(poles)).items():
        p, z = (np.atleast_1d(np.asarray(points.get(name, []), dtype=complex)) for points in (poles, zeros))
        shape = {"color": look["color"], "marker": look["marker"], "linestyle": "none"}
        ax.plot(p.real, p.imag, markersize=6.5, label=f"{escape(name)}: poles", **shape)
        if z.size:
            ax.plot(z.real, z.imag, "o", color=look["color"], fillstyle="none", markersize=11)
    ax.plot([], [], "o", color=GREY, fillstyle="none", markersize=9, linestyle="none", label="zeros")
    ax.set_title(escape(title))
    legend(ax)
    return ax


def _plane(ax: Axes, parts: Sequence[Any], continuous: bool) -> None:
    """Draw the z-plane about the unit circle, or the s-plane about what is shown."""
    if not continuous:
        _z_grid(ax)
        ax.set(xlim=(-1.6, 1.6), ylim=(-1.3, 1.3), aspect="equal", ylabel="Im z")
        return
    points = np.concatenate([np.ravel(np.asarray(part, dtype=complex)) for part in parts])
    reach = 1.3 * max(float(np.max(np.abs(points[np.isfinite(points)]), initial=0.0)), 1e-12)
    ax.axvline(0.0, color="black", linewidth=1.1)
    ax.set(xlim=(-reach, 0.7 * reach), ylim=(-reach, reach), aspect="equal", xlabel="Re s", ylabel="Im s")


def _z_grid(ax: Axes) -> None:
    """Draw the unit circle, and z = exp(s) for constant damping ratio and constant natural frequency (rad/layer)."""
    ax.grid(False)
    ax.plot(_CIRCLE.real, _CIRCLE.imag, color="black", linewidth=1.1)
    style: dict[str, Any] = {"color": "#c9ced6", "linewidth": 0.7, "zorder": 0}
    for damping in (0.1, 0.3, 0.5, 0.7, 0.9):
        imaginary = np.linspace(0, np.pi, 120)
        z = np.exp(-imaginary * damping / np.sqrt(1 - damping**2) + 1j * imaginary)
        ax.plot(z.real, z.imag, **style)
        ax.plot(z.real, -z.imag, **style)
        if damping in (0.1, 0.5, 0.9):
            ax.annotate(f"{damping:g}", (z.real[24], z.imag[24]), fontsize=6.5, color=GREY)
    for frequency, label in ((np.pi / 4, "π/4"), (np.pi / 2, "π/2"), (3 * np.pi / 4, "3π/4")):
        angle = np.linspace(np.pi / 2, np.pi, 60)
        z = np.exp(frequency * np.exp(1j * angle))
        ax.plot(z.real, z.imag, **style)
        ax.plot(z.real, -z.imag, **style)
        edge = 1.1 * np.exp(1j * frequency)
        ax.annotate(label, (edge.real, edge.imag), fontsize=7.5, color=GREY, ha="center", va="center")
    ax.annotate("π", (-1.05, 0.06), fontsize=7.5, color=GREY, ha="right")
    ax.set_xlabel("Re z (angles in rad/layer)")


def _arrow(ax: Axes, curve: np.ndarray, colour: str) -> None:
    """Draw an arrow in the direction of growing frequency, at a point of the curve inside the frame."""
    inside = np.flatnonzero(np.abs(curve) < 1.6)
    if len(inside) < 4:
        return
    i = int(inside[len(inside) // 3])
    j = min(i + 1, len(curve) - 1)
    ax.annotate(
        "", (curve[j].real, curve[j].imag), (curve[i].real, curve[i].imag),
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.4},
    )  # fmt: skip


def _margin_words(margin: Any, unit: str) -> str:
    if not margin.stable:
        return "unstable"
    words = (
        f"gain {margin.gain_margin:.2f}, phase {margin.phase_margin:.0f}°, delay {margin.delay_margin:.2f} {unit}, "
        f"modulus {margin.modulus_margin:.2f}"
    )
    return words.replace("inf", "∞")
