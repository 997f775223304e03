"""x' = A x + B u, y = C x + D u: the four matrices behind a python-control object, real or complex, in its time domain.

A complex mode has no python-control object: its matrices are given as a tuple (A, B, C, D), discrete unless a flag
says otherwise.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_real, to_numpy
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.lazy import loaded
from ctrlattn.linear.boundary import is_marginal, stable_poles
from ctrlattn.linear.cascade import cascade
from ctrlattn.linear.lapack import singular_values, solved
from ctrlattn.linear.state_matrix import require_scale, within_scale
from ctrlattn.linear.time_base import is_continuous
from ctrlattn.linear.transfer import boundary_values
from ctrlattn.loop import Loop, refuse_loop_sequence

if TYPE_CHECKING:
    import control

_SINGULAR = 1e14  # condition of I + D from which the loop is an algebraic one


class Realization(NamedTuple):
    """A (n, n), B (n, m), C (p, n), D (p, m) in float64 or complex128, and the time domain."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    continuous: bool
    marginal: bool = False  # a pole of the transfer function lies on the boundary, as far as its coefficients tell

    def response(self, frequency: float) -> np.ndarray:
        """Return G at z = e^{iw} or s = iw, (p, m); D at an infinite frequency, not finite at a pole."""
        return self.responses(np.array([frequency]))[:, :, 0]

    def responses(self, frequencies: np.ndarray) -> np.ndarray:
        """Return G at many frequencies, (p, m, k)."""
        return boundary_values(*self[:4], frequencies, continuous=self.continuous)

    def is_stable(self) -> bool:
        """Tell whether all poles lie strictly inside the unit circle (left half plane), hidden ones too.

        A pole that rounding may put on the boundary is not inside. It raises ArithmeticError where rounding may move a
        pole anywhere.
        """
        return self.stable_poles()[0]

    def stable_poles(self) -> tuple[bool, np.ndarray]:
        """Return `is_stable`, and with a yes the poles that said so, (n,)."""
        stable, poles = stable_poles(self.a, continuous=self.continuous)
        return stable and not self.marginal, poles

    def real(self) -> bool:
        return "c" not in (self.a.dtype.kind, self.b.dtype.kind, self.c.dtype.kind, self.d.dtype.kind)


def realization(system: Any, quantity: str, *, continuous: bool = False) -> Realization:
    """Return the matrices of a system.

    Parameters
    ----------
    system : control.StateSpace, control.TransferFunction, or a tuple (A, B, C, D)
    quantity : str
        What is asked, for messages.
    continuous : bool
        Time domain of a tuple; that of a system is its own, see `time_base`.

    Returns
    -------
    Realization

    Raises
    ------
    InputTypeError
        Something else; a loop (take `mode` or `loop_transfer` first).
    InputError
        A sequence of loops, an improper transfer function, matrices that do not fit or are not finite, a flag that
        contradicts the system.

    Examples
    --------
    >>> import control
    >>> realization(control.tf([1], [1, 0.5], 1), "poles").a.tolist()
    [[-0.5]]
    """
    if isinstance(system, Loop):
        raise InputTypeError(f"{quantity} takes a linear system: pass mode(loop, a) or loop_transfer(loop, a)")
    refuse_loop_sequence(system, quantity)
    if isinstance(system, loaded("control", "TransferFunction")):
        matrices = _blocks_of(system)
    elif isinstance(system, loaded("control", "StateSpace")):
        matrices = (system.A, system.B, system.C, system.D)
    elif isinstance(system, tuple) and len(system) == 4:
        return _checked_realization([_matrix(m) for m in system], quantity, continuous)
    else:
        raise InputTypeError(
            f"{quantity} takes a StateSpace, a TransferFunction or matrices (A, B, C, D), got {type(system).__name__}"
        )
    domain = is_continuous(system, quantity, True if continuous else None)
    g = _checked_realization(list(matrices), quantity, domain)
    if not isinstance(system, loaded("control", "TransferFunction")):
        return g
    return g._replace(marginal=any(is_marginal(p, continuous=domain) for row in system.den for p in row))


def require_real_system(g: Realization, quantity: str, hint: str = "") -> None:
    """Raise InputError for complex matrices, where the quantity is one of real systems.

    >>> require_real_system(realization(([[0.2j]], [[1.0]], [[1.0]], [[0.0]]), "margins"), "margins")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: margins: the system must be real, got complex values
    """
    if not g.real():
        raise InputError(f"{quantity}: the system must be real, got complex values{hint}")


def square(g: Realization, quantity: str) -> Realization:
    """Return the realization itself, once it has as many inputs as outputs."""
    if g.d.shape[0] != g.d.shape[1] or not len(g.d):
        raise InputError(f"{quantity} closes each output on its own input: got a {g.d.shape} transfer matrix")
    return g


def negative_feedback(g: Realization, quantity: str) -> Realization:
    """Return S = (I + G)^-1 of a square G, from a signal added at the input of the comparator to the error."""
    eye = np.eye(len(g.d))
    direct = eye + g.d
    sizes = singular_values(direct)
    if sizes[-1] == 0 or sizes[0] > _SINGULAR * sizes[-1]:
        raise InputError(f"{quantity}: I + D is singular, the loop is not well posed (an algebraic loop)")
    inverse = solved(direct, eye)
    b, c = g.b @ inverse, inverse @ g.c
    return Realization(g.a - b @ g.c, b, -c, inverse, g.continuous)


def to_control(g: Realization, dt: Any) -> "control.StateSpace":
    """Return a python-control object of real matrices; python-control has none of complex ones."""
    for name, matrix in zip("ABCD", g[:4], strict=True):
        require_real(f"{name} of a python-control system", matrix)
    import control

    return control.ss(*g[:4], dt, remove_useless_states=False)


def _matrix(value: Any) -> np.ndarray:
    if type(value) is np.ndarray and value.dtype == np.float64 and value.ndim == 2:  # what a StateSpace holds
        return value.copy("K")
    m = to_numpy(value)
    m = m.astype(np.complex128 if np.iscomplexobj(m) else np.float64)
    return m if m.ndim == 2 else np.atleast_2d(m)


def _checked_realization(matrices: list[Any], quantity: str, continuous: bool) -> Realization:
    a, b, c, d = (_matrix(m) for m in matrices)
    n, (p, m) = a.shape[0] if a.size else 0, d.shape
    try:
        a, b, c = a.reshape(n, n), b.reshape(n, m), c.reshape(p, n)
    except ValueError:
        shapes = ", ".join(str(x.shape) for x in (a, b, c, d))
        raise InputError(f"{quantity}: A, B, C, D must be (n, n), (n, m), (p, n), (p, m), got {shapes}") from None
    for name, x in zip("ABCD", (a, b, c, d), strict=True):
        if within_scale(x):
            continue
        if not np.isfinite(x).all():
            raise InputError(f"{quantity}: {name} must be finite")
        require_scale(f"{quantity}: {name}", x)
    return Realization(a, b, c, d, continuous)


def _blocks_of(system: "control.TransferFunction") -> tuple[np.ndarray, ...]:
    """Return one cascade for each entry that is not static; python-control needs slycot for several of them."""
    outputs, inputs = system.noutputs, system.ninputs
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]] = []
    d = np.zeros((outputs, inputs))
    for i in range(outputs):
        for j in range(inputs):
            a, b, c, d[i, j] = cascade(system.num[i][j], system.den[i][j])
            columns.append((a, b, c, i, j))
    n = sum(len(block[0]) for block in columns)
    a, b, c, at = np.zeros((n, n)), np.zeros((n, inputs)), np.zeros((outputs, n)), 0
    for block, column, row, i, j in columns:
        span = slice(at, at + len(block))
        a[span, span], b[span, j], c[i, span] = block, column, row
        at += len(block)
    return a, b, c, d
