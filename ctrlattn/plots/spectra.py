"""Attention spectra over the stable region of a law: real ones as a density, complex ones in the plane."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch

from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.loop import Loop, require_scalar_gains
from ctrlattn.plots.style import GREY, axes_of, escape, figure, legend, styles, themed

if TYPE_CHECKING:
    from matplotlib.gridspec import GridSpecFromSubplotSpec

_CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 361))
_INSIDE = "#dbe8f6"
_MODES = "#1f4e79"
_OTHERS = (("#1f4e79", "o"), ("#c05a00", "x"), ("#444444", "+"))
_BINS = 60
_IN_A_ROW = 4  # panels of laws


@themed
def spectra(given: Any, loop: Loop | None = None, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw eigenvalues a of attention, over the region where a loop is stable.

    Spectra that are real, as those of causal attention are, become a histogram, since their points would hide each
    other; others become points of the plane, with the unit circle.

    Parameters
    ----------
    given : matrices (..., n, n), eigenvalues (m,), a recording, several texts of one, or {name: one of these}
        A recording is a Dataset of `ctrlattn.signals` or of `checkpoints.tap`, with the variable `attention`.
    loop : Loop, optional
        Its stable region is shaded, with an exact outline.
    title : str
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A notebook shows it.

    Raises
    ------
    InputError
        There is nothing to draw, a matrix is not square, a number is not finite, or a gain of the loop is a vector.
    InputTypeError
        What is given is none of these.

    References
    ----------
    Neimark 1948: the outline is the D-decomposition curve alpha(w) = e^{iw} + C(e^{iw}), alpha = skip + feedback a.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import presets, signals
    >>> spectra(signals.load_shipped("smollm2-135m"), presets.get("neutreno")).get_xlabel()
    'Eigenvalue a of attention'
    >>> spectra(np.array([[0.0, 1.0], [-1.0, 0.0]])).get_ylabel()
    'Im a'
    """
    by_name = _spectra_by_name(given)
    if loop is not None:
        require_scalar_gains(loop, "spectra")
    ax = axes_of(ax, height=4.2)
    if all(np.all(values.imag == 0) for values in by_name.values()):
        _density(ax, by_name, loop)
    else:
        _plane(ax, by_name, loop)
    ax.set_title(escape(title))
    if len(by_name) > 1 or loop is not None:
        legend(ax)
    return ax


@themed
def spectra_by_network(
    eigenvalues: Mapping[str, np.ndarray], loops: Mapping[str, Loop], shares: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Draw a row for each network: a density with the stable intervals of all laws, or the plane once for each law.

    Parameters
    ----------
    eigenvalues : network -> complex (modes,)
    loops : name -> Loop
        With scalar gains.
    shares : name of a loop -> {network -> share of its modes that are unstable}

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import presets
    >>> loops, shares = {"neutreno": presets.get("neutreno")}, {"neutreno": {"net": 0.0}}
    >>> len(spectra_by_network({"net": np.zeros(2)}, loops, shares).axes)  # the density and the intervals
    2
    """
    real = {network: bool(np.all(modes.imag == 0)) for network, modes in eigenvalues.items()}
    rows = -(-len(loops) // _IN_A_ROW)
    heights = [1.9 + 0.36 * len(loops) if real[network] else 2.3 * rows for network in eigenvalues]
    fig = figure(height=0.3 + sum(heights))
    grid = fig.add_gridspec(len(eigenvalues), 1, height_ratios=heights)
    for i, (network, modes) in enumerate(eigenvalues.items()):
        unstable_shares = {name: by_network[network] for name, by_network in shares.items()}
        name = f"{network}: {len(modes)} modes"
        if real[network]:
            inner = grid[i].subgridspec(2, 1, height_ratios=(1.4, 0.36 * len(loops)))
            _with_intervals(fig, inner, name, modes, loops, unstable_shares)
        else:
            inner = grid[i].subgridspec(rows, min(len(loops), _IN_A_ROW))
            _law_by_law(fig, inner, name, modes, loops, unstable_shares)
    area = Patch(facecolor=_INSIDE, edgecolor="black", label="stable")
    fig.legend(handles=[area], loc="outside lower left")
    return fig


def _with_intervals(
    fig: Figure,
    grid: "GridSpecFromSubplotSpec",
    name: str,
    modes: np.ndarray,
    loops: Mapping[str, Loop],
    shares: Mapping[str, float],
) -> None:
    """Draw the density above, and below it one bar for each law, where a mode is stable."""
    from ctrlattn.stability.modes.regions import mode_intervals

    upper = fig.add_subplot(grid[0])
    lower = fig.add_subplot(grid[1], sharex=upper)
    _density(upper, {name: modes}, None)
    upper.set(title=escape(name), xlabel="")
    upper.tick_params(labelbottom=False)
    low, high = min(-0.1, float(modes.real.min()) - 0.05), max(1.1, float(modes.real.max()) + 0.05)
    lower.set(xlim=(low, high), ylim=(len(loops) - 0.4, -0.55), xlabel="Eigenvalue a of attention")
    for i, (law, loop) in enumerate(loops.items()):
        clipped = [(max(a, low), min(b, high)) for a, b in mode_intervals(loop)]
        bars = [(a, b - a) for a, b in clipped if a < b]
        lower.broken_barh(bars, (i + 0.05, 0.4), facecolor=_INSIDE, edgecolor="black", linewidth=1.0)
        words = f"{escape(law)}: {_percent(shares[law])} of modes unstable"
        lower.text(0.01, i, words, transform=lower.get_yaxis_transform(), ha="left", va="bottom", fontsize=8.5)
    lower.set_yticks([])


def _law_by_law(
    fig: Figure,
    grid: "GridSpecFromSubplotSpec",
    name: str,
    modes: np.ndarray,
    loops: Mapping[str, Loop],
    shares: Mapping[str, float],
) -> None:
    """Draw the plane once for each law; the panels have one frame."""
    columns = grid.ncols
    for i, (law, loop) in enumerate(loops.items()):
        ax = fig.add_subplot(grid[i // columns, i % columns])
        _plane(ax, {name: modes}, loop)
        head = f"{escape(name)}\n" if i == 0 else "\n" if i < columns else ""
        ax.set_title(f"{head}{escape(law)}\n{_percent(shares[law])} unstable", fontsize=9)
        if i % columns:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)


def _density(ax: Axes, by_name: Mapping[str, np.ndarray], loop: Loop | None) -> None:
    from ctrlattn.stability.modes.regions import mode_intervals

    real_parts = np.concatenate(list(by_name.values())).real
    low, high = float(real_parts.min()), float(real_parts.max())
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    looks = styles(list(by_name)) if len(by_name) > 1 else {name: {"color": _MODES} for name in by_name}
    for name, look in looks.items():
        ax.hist(
            by_name[name].real,
            edges.tolist(),
            color=look["color"],
            alpha=0.75 if len(by_name) > 1 else 1.0,
            label=escape(name),
        )
    for i, (a, b) in enumerate([] if loop is None else mode_intervals(loop)):
        ax.axvspan(a, b, facecolor=_INSIDE, edgecolor="black", zorder=0, label="stable" if i == 0 else None)
    pad = 0.05 * (edges[-1] - edges[0])
    ax.set(xlim=(edges[0] - pad, edges[-1] + pad), xlabel="Eigenvalue a of attention", ylabel="Modes (log scale)")
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.7)


def _plane(ax: Axes, by_name: Mapping[str, np.ndarray], loop: Loop | None) -> None:
    if loop is not None:
        from ctrlattn.plots.outline import (
            compound_path,
            stable_polygons,
        )  # it brings python-control, which needs pyplot
        from ctrlattn.stability.modes.regions import mode_intervals

        polygons = stable_polygons(loop)
        if polygons:
            path = compound_path(polygons)
            ax.add_patch(PathPatch(path, facecolor=_INSIDE, edgecolor="black", label="stable", zorder=0.9))
        elif loop.feedback == 0 and mode_intervals(loop):
            ax.set_facecolor(_INSIDE)
    ax.plot(_CIRCLE.real, _CIRCLE.imag, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    for i, (name, modes) in enumerate(by_name.items()):
        colour, marker = _OTHERS[i % len(_OTHERS)]
        ax.plot(
            modes.real, modes.imag, marker, color=colour, markersize=2.2, markeredgewidth=0.5, alpha=0.5,
            rasterized=len(modes) > 500, label=escape(name),
        )  # fmt: skip
    ax.set(xlim=(-1.5, 2.2), ylim=(-1.4, 1.4), aspect="equal", xlabel="Re a", ylabel="Im a")


def _spectra_by_name(data: Any) -> dict[str, np.ndarray]:
    by_name = {str(name): _eigenvalues(item) for name, item in data.items()} if _is_mapping(data) else None
    if by_name == {}:
        raise InputError("spectra got an empty mapping: give matrices or a recording, or {name: one of these}")
    return {"eigenvalues": _eigenvalues(data)} if by_name is None else by_name


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and not hasattr(value, "data_vars")  # a Dataset is a Mapping too


def _eigenvalues(item: Any) -> np.ndarray:
    """Return the eigenvalues (m,) of what a person has; they are complex."""
    from ctrlattn.stability import attention_spectrum

    if hasattr(item, "data_vars"):
        if "attention" not in item:
            raise InputError(f"spectra: the recording holds {', '.join(map(str, item.data_vars))} and no attention")
        return _eigenvalues(item["attention"].to_numpy())
    if isinstance(item, Sequence) and len(item) and all(hasattr(text, "data_vars") for text in item):
        return np.concatenate([_eigenvalues(text) for text in item])
    values = _numbers(item)
    if values.size == 0:
        raise InputError("spectra: there is no eigenvalue to draw")
    if not np.all(np.isfinite(values)):
        raise InputError("spectra: all numbers must be finite")
    if values.ndim > 1 and values.shape[-1] != values.shape[-2]:
        raise InputError(f"spectra: matrices must be square, (..., n, n), got shape {values.shape}")
    return np.asarray(attention_spectrum(values) if values.ndim > 1 else values, dtype=complex).reshape(-1)


def _numbers(item: Any) -> np.ndarray:
    """Return the numbers of an array of numpy or torch, or of a list; nothing else is one."""
    try:
        values = np.asarray(item.detach().cpu() if hasattr(item, "detach") else item)
    except ValueError:
        values = np.asarray(None)
    if values.dtype.kind not in "iufc":
        raise InputTypeError(
            "spectra takes matrices (..., n, n), eigenvalues (m,), a recording, or {name: one of these}, "
            f"got {type(item).__name__}"
        )
    return np.atleast_1d(values)


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f} %" if value >= 1 or value == 0 else f"{value:.2g} %"
