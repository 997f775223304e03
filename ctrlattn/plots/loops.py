"""Bode, Nyquist, root locus, poles, steps, gains: of a Loop, of python-control systems, of several by name.

A Loop is linear mode by mode. Give the mode by its attention eigenvalue `a`; the loop is broken at its controller.
"""

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError, require_flag, require_whole
from ctrlattn.loop import Loop
from ctrlattn.plots.depth import time_response
from ctrlattn.plots.plane import nyquist_curves, poles_and_zeros, root_locus_branches
from ctrlattn.plots.robustness import gain_regions, refine_slices
from ctrlattn.plots.style import (
    decibel,
    escape,
    figure,
    nyquist_line,
    styles,
    themed,
)
from ctrlattn.plots.systems import closed_loops, open_loops, response, sampling, with_states

_STEP = 0.03  # longest way of a pole between two gains of a root locus, in the unit of the frame
_FRAME = 3.0  # a pole beyond this modulus has left the frame
_MOST_GAINS = 1500
_LONGEST = 2000  # layers


@themed
def bode(system: Any, omega: Any = None, *, a: float | None = None, log: bool | None = None, title: str = "") -> Figure:
    """Draw magnitude (dB) and phase (degrees, unwrapped) of L(e^{iw}), or of any system.

    Parameters
    ----------
    system : Loop, python-control system, or mapping name -> one of these
        Single input and output, one time base. A Loop stands for its loop transfer L = C(z)/(z - alpha); for S and T
        give `ctrlattn.sensitivity(loop, a)` and `ctrlattn.complementary_sensitivity(loop, a)`.
    omega : (m,), optional
        rad per unit of time (rad/layer). They gather about poles and zeros by default.
    a : float, optional
        The mode of a Loop: an eigenvalue of its attention, 1 for the mean of all tokens.
    log : bool, optional
        A logarithmic axis of frequency; by default in continuous time only, since a layer is the shortest time.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Two axes; a notebook shows it.

    Raises
    ------
    InputError
        A Loop has no `a` or a complex one, there are several inputs or outputs, or the time bases differ.
    InputTypeError
        It is neither a Loop nor a system of python-control.

    References
    ----------
    Astrom and Murray, Feedback Systems, 2nd edition, section 9.6.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> fig = bode(Loop(CausalMean(), controller=PID(0.6)), a=0.5)
    >>> [ax.get_ylabel() for ax in fig.axes]
    ['Magnitude (dB)', 'Phase (degrees)']
    """
    log = None if log is None else require_flag("log", log)
    systems = open_loops(system, a, "bode")
    base = sampling(systems, "bode")
    fig = figure(height=4.6)
    upper, lower = fig.subplots(2, 1, sharex=True)
    for i, (name, look) in enumerate(styles(list(systems)).items()):
        w, values = response(systems[name], omega, "bode")
        values = np.where(np.isfinite(values), values, np.nan)
        marks: Any = {"markevery": (0.02 * i, 0.09)} if len(systems) > 1 else {"marker": "None"}  # by way on the page
        upper.plot(w, decibel(values), label=escape(name), **{**look, **marks})
        lower.plot(w, _phase(values), **{**look, **marks})
    upper.axhline(0.0, color="black", linewidth=0.9)
    lower.axhline(-180.0, color="black", linewidth=0.9)
    upper.set(ylabel="Magnitude (dB)", title=escape(title))
    lower.set_ylabel("Phase (degrees)")
    logarithmic = log if log is not None else base is None
    _frequency_axis(lower, base, logarithmic)
    if not logarithmic:
        _frame(upper)
    if len(systems) > 1:
        handles, labels = upper.get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower left", ncols=3)
    return fig


@themed
def nyquist(
    system: Any, omega: Any = None, *, a: float | None = None, margins: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw L(e^{iw}) with -1, the unit circle, the margins in words and the disk of the modulus margin.

    Parameters
    ----------
    system, omega, a
        As for `bode`.
    margins : bool
        Compute `ctrlattn.margins` of each system; a measured response has none.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A notebook shows it.

    Raises
    ------
    InputError, InputTypeError
        As for `bode`.
    ArithmeticError
        As `ctrlattn.margins`; `margins=False` draws the curve alone.

    References
    ----------
    Astrom and Murray, Feedback Systems, 2nd edition, section 10.2.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> ax = nyquist(Loop(CausalMean(), controller=PID(0.6)), a=0.5)
    >>> ax.get_legend_handles_labels()[1][1]
    'L: gain 2.50, phase 131°, delay 4.81 layers, modulus 0.60'
    """
    margins = require_flag("margins", margins)
    import control

    from ctrlattn.stability import margins as margins_of

    systems = {name or "L": item for name, item in open_loops(system, a, "nyquist").items()}
    curves = {name: response(item, omega, "nyquist") for name, item in systems.items()}
    measured_names = {name for name, item in systems.items() if isinstance(item, control.FrequencyResponseData)}
    verdicts = {name: margins_of(item) for name, item in systems.items() if margins and name not in measured_names}
    unit = "layers" if sampling(systems, "nyquist") == 1.0 else "of time"
    return nyquist_curves({name: values for name, (_, values) in curves.items()}, margins=verdicts, unit=unit, ax=ax)


@themed
def root_locus(system: Any, gains: Any = None, *, a: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw the poles of 1 + k L = 0 as the gain k grows from 0, with the zeros of L and the poles at k = 1.

    Parameters
    ----------
    system : Loop or python-control system
        One system, with its `a` where it is a Loop.
    gains : (m,), optional
        Ascending. By default from 0 until the poles rest or have left the frame, as dense as smooth branches ask.
    a, ax
        As for `nyquist`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, InputTypeError
        As for `bode`; or there are several systems, a measured response, or gains that do not ascend.

    References
    ----------
    Astrom and Murray, Feedback Systems, 2nd edition, section 12.5.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> ax = root_locus(Loop(CausalMean(), controller=PID(0.6)), a=0.5)
    >>> ax.get_xlabel()
    'Re z (angles in rad/layer)'
    """
    from ctrlattn.stability.modes.gain_polynomials import branches

    systems = with_states(open_loops(system, a, "root_locus"), "root_locus")
    if len(systems) > 1:
        raise InputError("root_locus draws one system: call it once for each, with ax= to draw into one figure")
    name, loop = next(iter(systems.items()))
    continuous = sampling(systems, "root_locus") is None
    k = _gains(loop) if gains is None else require_real("gains", gains)
    if k.ndim != 1 or len(k) < 2 or np.any(np.diff(k) <= 0):
        raise InputError("root_locus: gains must be at least two ascending numbers")
    poles = branches(_closed_poles(loop, k))
    marks = {"k = 1": _closed_poles(loop, np.array([1.0]))[0]}
    return root_locus_branches(k, poles, loop.zeros(), marks=marks, title=name, continuous=continuous, ax=ax)


@themed
def pole_zero(system: Any, *, a: float | None = None, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw poles and zeros in the z-plane (s-plane); of a Loop those of its closed loop.

    Parameters
    ----------
    system, a, ax
        As for `nyquist`; a measured response has no poles.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, InputTypeError
        As for `bode`.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> pole_zero(Loop(CausalMean(), controller=PID(0.6)), a=0.5).get_ylabel()
    'Im z'
    """
    by_name = with_states(closed_loops(system, a, "pole_zero"), "pole_zero")
    systems = {name or "system": item for name, item in by_name.items()}
    return poles_and_zeros(
        {name: item.poles() for name, item in systems.items()},
        {name: item.zeros() for name, item in systems.items()},
        continuous=sampling(systems, "pole_zero") is None,
        title=title,
        ax=ax,
    )


@themed
def step(
    system: Any, layers: int | None = None, *, a: float | None = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw the response to a unit step of the reference (of the input), layer by layer, with the 2 % band about 1.

    Parameters
    ----------
    system, a, ax
        As for `nyquist`, in discrete time; of a Loop the closed loop of mode a.
    layers : int, optional
        Last layer that is drawn. By default the slowest pole has settled to 1 % then, at most 2,000 layers; 40 layers
        where the system is unstable.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, InputTypeError
        As for `bode`; or a system has continuous time or is a measured response.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> step(Loop(CausalMean(), controller=PID(0.6)), a=0.5).get_xlabel()
    'Depth (layers)'
    """
    systems = with_states(closed_loops(system, a, "step"), "step")
    if sampling(systems, "step") is None:
        raise InputError("step draws a response over layers: the system is continuous, sample it first (c2d)")
    last = max(map(_horizon, systems.values())) if layers is None else require_whole("layers", layers, least=1)
    responses = {name or "response": _step_response(item, last) for name, item in systems.items()}
    return time_response(responses, ylabel="Response to a unit step", reference=1.0, title=title, ax=ax)


@themed
def gain_region(
    loop: Loop,
    axes: tuple[str, str],
    spectrum: Any,
    first: tuple[float, float],
    second: tuple[float, float],
    *,
    slices: int = 61,
    title: str = "",
) -> Figure:
    """Draw the two gains for which every mode of a spectrum is stable, by exact slices, and mark the gains of the loop.

    Parameters
    ----------
    loop, axes, spectrum
        As for `ctrlattn.gain_region`; the axes are names of gains. The time grows with the number of modes: the
        outermost ones decide.
    first, second : (low, high)
        The frame.
    slices : int
        Values of the first gain, at least 2.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        As `ctrlattn.gain_region`; or a frame is not (low, high).

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean
    >>> fig = gain_region(Loop(CausalMean(), controller=PID(0.6)), ("kp", "ki"), 0.5, (0, 2), (-0.5, 2), slices=9)
    >>> fig.axes[0].get_xlabel()
    'kp'
    """
    from ctrlattn.stability import gain_region as exact_slices

    frames = [require_real("a frame of gain_region", frame) for frame in (first, second)]
    if any(frame.shape != (2,) or frame[0] >= frame[1] for frame in frames):
        raise InputError(f"gain_region: first and second are frames (low, high), got {first!r} and {second!r}")
    at = np.linspace(frames[0][0], frames[0][1], require_whole("slices", slices, least=2))
    slices_of = partial(exact_slices, loop, axes, spectrum)
    at, regions = refine_slices(at, {title: slices_of(at)}, lambda _, between: slices_of(between))
    gains = {**{name: getattr(loop.controller, name, 0.0) for name in ("kp", "ki", "kd")}, **vars(loop)}
    marks = {"this loop": (gains[axes[0]], gains[axes[1]])} if all(isinstance(name, str) for name in axes) else None
    limits = (float(frames[1][0]), float(frames[1][1]))
    return gain_regions(at, regions, labels=(str(axes[0]), str(axes[1])), second=limits, marks=marks)


def _phase(values: np.ndarray) -> np.ndarray:
    """Return the phase in degrees, without jumps of 360 and with a gap where there is no response."""
    phase = np.full(len(values), np.nan)
    finite = np.isfinite(values)
    phase[finite] = np.degrees(np.unwrap(np.angle(values[finite])))
    return phase


def _frequency_axis(ax: Axes, base: float | None, log: bool) -> None:
    if base is None:
        ax.set_xlabel("Frequency (rad per unit of time)")
    elif log:
        ax.set_xlabel("Frequency (rad/layer), Nyquist at π" if base == 1.0 else "Frequency (rad per unit of time)")
    else:
        nyquist_line(ax, np.pi / base, "layer" if base == 1.0 else "unit of time")
    if log:
        ax.set_xscale("log")


def _frame(ax: Axes) -> None:
    """Limit the magnitude without the first hundredth of the axis, where an integrator grows beyond all limits."""
    curves = [np.asarray(line.get_data()) for line in ax.lines]
    magnitudes = np.concatenate([y[w >= 0.01 * np.max(w)] for w, y in curves])
    low, high = np.nanmin(magnitudes, initial=0.0), np.nanmax(magnitudes, initial=0.0)
    pad = 0.05 * max(high - low, 1.0)
    ax.set_ylim(low - pad, high + pad)


def _closed_poles(loop: Any, gains: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of A - k B (1 + k D)^-1 C for each k, (m, n)."""
    a, b, c, d = loop.A, loop.B, loop.C, float(loop.D[0, 0])
    if np.any(1 + gains * d == 0):
        raise InputError("root_locus: at one of the gains 1 + k D = 0, where the loop is not defined")
    return np.linalg.eigvals(a - (gains / (1 + gains * d))[:, None, None] * (b @ c)).astype(complex)


def _gains(loop: Any) -> np.ndarray:
    """Return gains from 0 to a thousand times that of |L| = 1 nearby, with steps that move no visible pole far."""
    from ctrlattn.stability.modes.gain_polynomials import branches

    scale = 1.0 if loop.dt else float(np.max(np.abs(loop.poles()), initial=1.0))
    w = np.linspace(0.05, 3.0, 60) * scale
    size = np.abs(np.ravel(loop(np.exp(1j * w) if loop.dt else 1j * w, warn_infinite=False)))
    size = size[np.isfinite(size) & (size > 0)]
    typical = 1 / float(np.median(size)) if len(size) else 1.0
    gains = np.concatenate([[0.0], typical * np.geomspace(1e-3, 1e3, 60)])
    while len(gains) < _MOST_GAINS:
        poles = branches(_closed_poles(loop, gains)) / scale
        inside = np.minimum(np.abs(poles[1:]), np.abs(poles[:-1])) < _FRAME
        far = np.any((np.abs(np.diff(poles, axis=0)) > _STEP) & inside, axis=1)
        far &= np.diff(gains) > 1e-12 * gains[1:]
        if not np.any(far):
            break
        gains = np.sort(np.concatenate([gains, ((gains[:-1] + gains[1:]) / 2)[far]]))
    return gains


def _horizon(system: Any) -> int:
    slowest = float(np.max(np.abs(system.poles()), initial=0.0))
    if slowest >= 1 - 1e-9:
        return 40
    return int(min(max(np.ceil(np.log(0.01) / np.log(max(slowest, 1e-3))) + 4, 12), _LONGEST))


def _step_response(system: Any, last: int) -> np.ndarray:
    state, values = np.zeros(len(system.A)), np.empty(last + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(last + 1):
            values[k] = (system.C @ state)[0] + system.D[0, 0] if len(state) else system.D[0, 0]
            state = system.A @ state + system.B[:, 0]
    return values
