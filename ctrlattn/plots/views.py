"""view(result) -> its picture: which plot suits a trajectory, margins, a design, a growth."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ctrlattn.arrays import to_numpy
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.loop import Trajectory
from ctrlattn.plots.depth import time_response
from ctrlattn.plots.design import certificate
from ctrlattn.plots.loops import nyquist
from ctrlattn.plots.nonnormal import transient_growth
from ctrlattn.plots.robustness import nyquist_disk
from ctrlattn.plots.systems import open_loops, response, sampling


def view(result: Any, **options: Any) -> Any:
    """Draw the picture of a result; the same as `result.plot(**options)`.

    Parameters
    ----------
    result : Trajectory, Margins, DiskMargin, Design or TransientGrowth
        A Trajectory is drawn as the root mean square of each token over depth, quartiles and median of the tokens.
        Margins stand in the Nyquist plot of their loop, a disk margin beside its disk. A Design shows its certificate.
    options
        Those of the plot that is chosen, such as `ax` or `title`.

    Returns
    -------
    matplotlib Axes or Figure
        A notebook shows it.

    Raises
    ------
    InputTypeError
        The result has no picture of its own.
    InputError
        A trajectory has no layers (record="last"), margins do not know their loop, or a disk margin has several
        channels.

    Examples
    --------
    >>> import control
    >>> from ctrlattn import margins
    >>> view(margins(control.tf([0.5], [1, -0.5], 1))).get_xlabel()
    'Re L'
    """
    for kind in type(result).__mro__:
        if kind.__name__ in _VIEWS and kind.__module__.startswith("ctrlattn."):
            return _VIEWS[kind.__name__](result, **options)
    raise InputTypeError(f"plots.view draws {', '.join(_VIEWS)}, got {type(result).__name__}")


def _trajectory(trajectory: Trajectory, **options: Any) -> Any:
    if trajectory.error is None:
        raise InputError('a trajectory of record="last" has no layers to draw: simulate with record="all"')
    names = {"state x": "state", "error e": "error", "control u": "control"}
    curves = {name: _sizes(to_numpy(getattr(trajectory, field))) for name, field in names.items()}
    return time_response(curves, **{"ylabel": "Root mean square of a token", **options})


def _sizes(signal: np.ndarray) -> np.ndarray:
    """Return quartiles over all tokens of the root mean square of each, (layers, 3); nan where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.sqrt(np.mean(np.abs(signal) ** 2, axis=-1)).reshape(len(signal), -1)
        quartiles = np.quantile(size, [0.25, 0.5, 0.75], axis=1).T
    return np.where(np.isfinite(quartiles), quartiles, np.nan)


def _margins(margins: Any, **options: Any) -> Any:
    return nyquist(_system_of(margins), **options)


def _disk(disk: Any, **options: Any) -> Any:
    system = _system_of(disk)
    if len(disk.perturbation) != 1:
        raise InputError(
            f"a disk margin of {len(disk.perturbation)} channels has no single Nyquist curve: "
            "loop_margins gives the disk of each channel"
        )
    loops = open_loops({"L": system}, None, "view")
    _, values = response(loops["L"], None, "view")
    return nyquist_disk({"L": values}, {"L": disk}, discrete=sampling(loops, "view") is not None, **options)


def _system_of(result: Any) -> Any:
    if result.system is None:
        raise InputError("these margins do not know their loop: margins and disk_margin return margins that do")
    return result.system


def _design(design: Any, **options: Any) -> Any:
    figures = design.performance
    limits = design.spec.asked()
    options = {"title": f"{design.controller!r}", **options}
    return certificate(figures.a, {name: getattr(figures, name) for name in limits}, limits, **options)


_VIEWS: dict[str, Callable[..., Any]] = {
    "Trajectory": _trajectory,
    "Margins": _margins,
    "DiskMargin": _disk,
    "Design": _design,
    "TransientGrowth": transient_growth,
}
