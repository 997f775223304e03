"""G(z) = C (zI - A)^-1 B + D at many frequencies, z = e^{iw dt} or iw: A is reduced once, each frequency costs n^2.

Triangular A (causal attention) needs no reduction; any other A is brought to Hessenberg form by one orthogonal
transformation, as backward stable as a solve at each frequency. Eigenvectors are not used: a defective A
has too few.
"""

import warnings
from typing import Any

import control
import numpy as np
import scipy.linalg

from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.triangular import is_triangular
from ctrlattn.loop import refuse_loop_sequence

_SMALL = 48  # below, one batched solve is as fast and needs no compiled code
_LOST = 1e-6  # relative accuracy below which the caller is told
_AT_A_POLE = complex(np.inf, np.nan)  # as python-control says it


def frequency_response(system: Any, omega: Any, *, squeeze: bool | None = None) -> control.FrequencyResponseData:
    """The frequency response of a linear system, equal to python-control's and faster for many states.

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
    >>> response = frequency_response(control.ss([[0.5]], [[1]], [[1]], 0, 1), [0.0, np.pi])  # 1/(z - 0.5)
    >>> response.magnitude.round(6).tolist()
    [2.0, 0.666667]
    """
    refuse_loop_sequence(system, "frequency_response")
    w = np.sort(np.atleast_1d(np.asarray(omega, dtype=float)))
    if w.ndim != 1 or not np.all(np.isfinite(w)):
        raise InputError(f"omega must be finite frequencies (m,) in rad per time unit, got {omega!r}")
    if isinstance(system, control.TransferFunction | control.FrequencyResponseData):
        return control.frequency_response(system, w, squeeze=squeeze)
    if not isinstance(system, control.StateSpace):
        raise InputTypeError(
            f"frequency_response takes a linear system of python-control, got {type(system).__name__}: "
            "mode(loop, a), loop_transfer or linearize make one of a Loop"
        )
    points = _on_circle(w * control.timebase(system)) if system.isdtime(strict=True) else 1j * w
    values = transfer_values(system.A, system.B, system.C, system.D, points)
    _warn_of_lost_digits(system, w, values)
    return control.FrequencyResponseData(
        values, w, return_magphase=True, squeeze=squeeze, dt=system.dt, sysname=system.name,
        inputs=system.input_labels, outputs=system.output_labels, plot_type="bode",
    )  # fmt: skip


def _warn_of_lost_digits(system: control.StateSpace, omega: np.ndarray, values: np.ndarray) -> None:
    """||G - D|| <= ||C|| ||(zI - A)^-1|| ||B||, and a relative error eps ||A|| ||(zI - A)^-1|| cannot be avoided."""
    size = np.linalg.norm(system.B) * np.linalg.norm(system.C)
    if not values.size or size == 0 or is_triangular(system.A):
        return
    gains = np.linalg.norm(values - system.D[:, :, None], axis=(0, 1))
    lost = np.where(np.isfinite(gains), gains, 0.0) / size * np.finfo(float).eps * np.linalg.norm(system.A)
    worst = int(np.argmax(lost))
    if lost[worst] > _LOST:
        warnings.warn(
            f"frequency_response: at {omega[worst]:.4g} rad rounding of A alone changes the result by a share of "
            f"{min(lost[worst], 1.0):.0e} or more; give the system in triangular (modal) form",
            RuntimeWarning,
            stacklevel=3,
        )


def _on_circle(angle: np.ndarray) -> np.ndarray:
    """e^{iw}, exactly -1 at the Nyquist frequency, so that a pole at -1 is met."""
    return np.where(np.abs(angle) == np.pi, -1.0, np.exp(1j * angle))


def transfer_values(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, points: np.ndarray) -> np.ndarray:
    """C (zI - A)^-1 B + D at each of the points, (outputs, inputs, m); the matrices may be complex.

    >>> transfer_values(np.array([[0.5]]), np.eye(1), np.eye(1), np.zeros((1, 1)), np.array([1.0])).tolist()
    [[[(2+0j)]]]
    """
    for name, matrix in (("A", a), ("B", b), ("C", c), ("D", d)):
        if not np.all(np.isfinite(matrix)):
            raise InputError(f"frequency_response: {name} of the system holds NaN or infinity")
    direct = np.repeat(d.astype(complex)[:, :, None], len(points), axis=2)
    if not len(a) or not len(points) or not b.shape[1] or not c.shape[0]:
        return direct
    if len(c) < b.shape[1]:  # the transposed system has fewer right-hand sides
        return direct + transfer_values(a.T, c.T, b.T, np.zeros_like(d.T), points).swapaxes(0, 1)
    g = (_batched if len(a) < _SMALL else _structured)(a, b, c, points)
    g[np.isnan(g)] = _AT_A_POLE
    return direct + g


def _batched(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The plain reference: one solve for each frequency, all in one call."""
    try:
        solved = np.linalg.solve(points[:, None, None] * np.eye(len(a)) - a, b.astype(complex))
        return np.moveaxis(c @ solved, 0, -1)
    except np.linalg.LinAlgError:  # some frequency is a pole
        if len(points) == 1:
            return np.full((len(c), b.shape[1], 1), _AT_A_POLE)
        return np.concatenate([_batched(a, b, c, z) for z in points[:, None]], axis=-1)


def _structured(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Back substitution for a triangular A, in either direction; Hessenberg form for the others."""
    from ctrlattn.kernels import shifted

    triangular = is_triangular(a)
    if triangular and np.any(np.tril(a, -1)):  # lower: states in the other order
        a, b, c = a[::-1, ::-1], b[::-1], c[:, ::-1]
    if not triangular:
        a, q = scipy.linalg.hessenberg(a, calc_q=True, check_finite=False)
        b, c = q.conj().T @ b, c @ q
    matrix, into, out = shifted.parts(a), shifted.parts(b), shifted.parts(c)
    values = np.empty((len(c), b.shape[1], len(points)), complex)
    for start in range(0, len(points), shifted.SHIFTS):
        z = points[start : start + shifted.SHIFTS]
        x = shifted.repeated(into, len(z))
        with np.errstate(all="ignore"):
            if triangular:
                shifted.solve_triangular(matrix, z, x)
            else:
                x = shifted.solve_hessenberg(matrix, z, x)
            y = shifted.times(out, slice(None), slice(None), x)
        values[:, :, start : start + len(z)] = y.re + 1j * y.im
    return values
