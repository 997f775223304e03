"""The frequency response of python-control systems, z = e^{iw dt} or s = iw, with a warning where digits are lost."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError, InputTypeError, require_flag
from ctrlattn.linear.time_base import is_continuous
from ctrlattn.linear.transfer import transfer_values
from ctrlattn.linear.triangular import is_triangular
from ctrlattn.loop import refuse_loop_sequence

if TYPE_CHECKING:
    import control

_LOST = 1e-6  # relative accuracy below which the caller is told


def frequency_response(system: Any, omega: Any, *, squeeze: bool | None = None) -> "control.FrequencyResponseData":
    """Return the frequency response of a linear system, as python-control does, but faster for many states.

    Parameters
    ----------
    system : control.StateSpace, TransferFunction or FrequencyResponseData
        Real or complex, discrete or continuous; only a StateSpace is computed here.
    omega : (m,)
        rad per time unit (rad/layer with dt = 1), sorted in the result.
    squeeze : bool, optional
        As in python-control.

    Returns
    -------
    control.FrequencyResponseData
        Values (outputs, inputs, m) in `.complex` (squeezed for SISO), (inf, nan) at a pole.

    Raises
    ------
    InputTypeError
        Not a linear system.
    InputError
        Frequencies that are not finite or not one-dimensional, a matrix with NaN or infinity, a sequence of loops.

    Warns
    -----
    RuntimeWarning
        Where the resolvent is so large that rounding of A leaves fewer than six digits: no method has more, but
        triangular A by back substitution, which never warns.

    References
    ----------
    Laub, IEEE Trans. Automatic Control 26 (1981) 407; Henry, The shifted Hessenberg system solve computation, 1994.

    Examples
    --------
    >>> import control
    >>> response = frequency_response(control.ss([[0.5]], [[1]], [[1]], 0, 1), [0.0, np.pi])  # 1/(z - 0.5)
    >>> response.magnitude.round(6).tolist()
    [2.0, 0.666667]
    """
    squeeze = None if squeeze is None else require_flag("squeeze", squeeze)
    import control

    refuse_loop_sequence(system, "frequency_response")
    w = np.sort(np.atleast_1d(require_real("omega", omega)))
    if w.ndim != 1 or not np.all(np.isfinite(w)):
        raise InputError(f"omega must be finite frequencies (m,) in rad per time unit, got {omega!r}")
    if isinstance(system, control.TransferFunction | control.FrequencyResponseData):
        return control.frequency_response(system, w, squeeze=squeeze)
    if not isinstance(system, control.StateSpace):
        raise InputTypeError(
            f"frequency_response takes a linear system of python-control, got {type(system).__name__}: "
            "mode(loop, a), loop_transfer or linearize make one of a Loop"
        )
    continuous = is_continuous(system, "frequency_response")
    points = 1j * w if continuous else _on_circle(w * control.timebase(system))
    values = transfer_values(system.A, system.B, system.C, system.D, points)
    _warn_of_lost_digits(system, w, values)
    return control.FrequencyResponseData(
        values, w, return_magphase=True, squeeze=squeeze, dt=system.dt, sysname=system.name,
        inputs=system.input_labels, outputs=system.output_labels, plot_type="bode",
    )  # fmt: skip


def _warn_of_lost_digits(system: "control.StateSpace", omega: np.ndarray, values: np.ndarray) -> None:
    """Warn where rounding of A leaves too few digits: a relative error eps ||A|| ||(zI - A)^-1|| is unavoidable."""
    size = np.linalg.norm(system.B) * np.linalg.norm(system.C)
    if not values.size or size == 0 or is_triangular(system.A):
        return
    gains = np.linalg.norm(values - system.D[:, :, None], axis=(0, 1))
    shares = np.where(np.isfinite(gains), gains, 0.0) / size * np.finfo(float).eps * np.linalg.norm(system.A)
    worst = int(np.argmax(shares))
    if shares[worst] > _LOST:
        warnings.warn(
            f"frequency_response: at {omega[worst]:.4g} rad rounding of A alone changes the result by a share of "
            f"{min(shares[worst], 1.0):.0e} or more; give the system in triangular (modal) form",
            RuntimeWarning,
            stacklevel=3,
        )


def _on_circle(angle: np.ndarray) -> np.ndarray:
    """Return e^{iw}, exactly -1 at the Nyquist frequency, so that a pole at -1 is met."""
    return np.where(np.abs(angle) == np.pi, -1.0, np.exp(1j * angle))
