"""x' = A x + B u, y = C x + D u: the four matrices behind a python-control object, real or complex, in its time domain.

A complex mode has no python-control object: its matrices are given as a tuple (A, B, C, D), discrete unless a flag
says otherwise.
"""

from typing import Any, NamedTuple

import control
import numpy as np
from scipy.linalg import eig, matrix_balance

from ctrlattn.arrays import to_numpy
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.cascade import cascade
from ctrlattn.linear.state_matrix import require_scale
from ctrlattn.loop import Loop, refuse_loop_sequence

_SURE = 1e-8  # relative distance from the boundary beyond which a well-conditioned eigenvalue is no matter of rounding


class Realization(NamedTuple):
    """A (n, n), B (n, m), C (p, n), D (p, m) in float64 or complex128, and the time domain."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    continuous: bool

    def response(self, frequency: float) -> np.ndarray:
        """G at z = e^{iw} or s = iw, (p, m); D at an infinite frequency."""
        if not np.isfinite(frequency) or not len(self.a):
            return self.d.astype(complex)
        point = 1j * frequency if self.continuous else np.exp(1j * frequency)
        return self.c @ np.linalg.solve(point * np.eye(len(self.a)) - self.a, self.b) + self.d

    def is_stable(self) -> bool:
        """All eigenvalues of A strictly inside the unit circle (left half plane), hidden ones too.

        Raises ArithmeticError where a change of A in its last digit decides, since the computed eigenvalues of a dense,
        nearly defective matrix are far off. Those of a triangular matrix are its diagonal, exactly.
        """
        a = self.a
        if not len(a):
            return True
        if not np.any(np.triu(a, 1)) or not np.any(np.tril(a, -1)):
            return bool(np.max(self._growth(np.diagonal(a))) < 0)
        poles = np.linalg.eigvals(a)
        growth = self._growth(poles)
        first = int(np.argmax(growth))
        if abs(growth[first]) > _SURE * abs(poles[first]):
            self._require_decided(poles[first])
        return bool(growth[first] < 0)

    def _growth(self, poles: Any) -> Any:
        return poles.real if self.continuous else np.abs(poles) - 1

    def _require_decided(self, pole: complex) -> None:
        """The distance from a singular zI - A on the boundary, next to the pole, is above rounding."""
        balanced = matrix_balance(self.a, permute=False)[0]
        point = 1j * pole.imag if self.continuous else np.exp(1j * np.angle(pole))
        smallest = np.linalg.svd(point * np.eye(len(balanced)) - balanced, compute_uv=False)[-1]
        rounding = np.finfo(float).eps * np.linalg.norm(balanced, 2)
        # The distance is also 0 where another pole lies on the boundary in this direction: then ask the pole itself.
        if smallest <= rounding and 10 * len(balanced) * rounding >= _cosine(balanced, pole) * abs(self._growth(pole)):
            raise ArithmeticError(
                f"stability cannot be decided in double precision: the computed eigenvalue {pole:.4g} is so sensitive "
                "that rounding moves it across the boundary. Give the system in triangular (modal) form"
            )

    def real(self) -> bool:
        return not any(np.iscomplexobj(m) for m in self[:4])


def realization(system: Any, quantity: str, *, continuous: bool = False) -> Realization:
    """The matrices of a system.

    Parameters
    ----------
    system : control.StateSpace, control.TransferFunction, or a tuple (A, B, C, D)
    quantity : str
        What is asked, for messages.
    continuous : bool
        Time domain of a tuple, and of a system without time base (dt = None).

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
    >>> realization(control.tf([1], [1, 0.5], 1), "poles").a.tolist()
    [[-0.5]]
    """
    if isinstance(system, Loop):
        raise InputTypeError(f"{quantity} takes a linear system: pass mode(loop, a) or loop_transfer(loop, a)")
    refuse_loop_sequence(system, quantity)
    if isinstance(system, control.TransferFunction):
        matrices = _blocks_of(system)
    elif isinstance(system, control.StateSpace):
        matrices = (system.A, system.B, system.C, system.D)
    elif isinstance(system, tuple) and len(system) == 4:
        return _checked([_matrix(m) for m in system], quantity, continuous)
    else:
        raise InputTypeError(
            f"{quantity} takes a StateSpace, a TransferFunction or matrices (A, B, C, D), got {type(system).__name__}"
        )
    domain = continuous if system.dt is None else system.dt == 0
    if continuous and not domain:
        raise InputError(f"{quantity}: continuous=True contradicts the system, which is discrete (dt = {system.dt})")
    return _checked(list(matrices), quantity, domain)


def square(g: Realization, quantity: str) -> Realization:
    """The realization itself, once it has as many inputs as outputs."""
    if g.d.shape[0] != g.d.shape[1] or not len(g.d):
        raise InputError(f"{quantity} closes each output on its own input: got a {g.d.shape} transfer matrix")
    return g


def negative_feedback(g: Realization, quantity: str) -> Realization:
    """S = (I + G)^-1 of a square G, from a signal added at the input of the comparator to the error."""
    eye = np.eye(len(g.d))
    direct = eye + g.d
    if np.linalg.cond(direct) > 1e14:
        raise InputError(f"{quantity}: I + D is singular, the loop is not well posed (an algebraic loop)")
    inverse = np.linalg.inv(direct)
    b, c = g.b @ inverse, inverse @ g.c
    return Realization(g.a - b @ g.c, b, -c, inverse, g.continuous)


def to_control(g: Realization, dt: Any) -> control.StateSpace:
    """A python-control object of real matrices."""
    return control.ss(*g[:4], dt, remove_useless_states=False)


def _cosine(a: np.ndarray, pole: complex) -> float:
    """|y* x| of the unit left and right eigenvectors: a change E of A moves the eigenvalue by ||E||/cosine, about."""
    values, left, right = eig(a, left=True)
    at = int(np.argmin(np.abs(values - pole)))
    return float(np.abs(np.vdot(left[:, at], right[:, at])))


def _matrix(value: Any) -> np.ndarray:
    m = to_numpy(value)
    m = m.astype(np.complex128 if np.iscomplexobj(m) else np.float64)
    return m if m.ndim == 2 else np.atleast_2d(m)


def _checked(matrices: list[Any], quantity: str, continuous: bool) -> Realization:
    a, b, c, d = (_matrix(m) for m in matrices)
    n, (p, m) = a.shape[0] if a.size else 0, d.shape
    try:
        a, b, c = a.reshape(n, n), b.reshape(n, m), c.reshape(p, n)
    except ValueError:
        shapes = ", ".join(str(x.shape) for x in (a, b, c, d))
        raise InputError(f"{quantity}: A, B, C, D must be (n, n), (n, m), (p, n), (p, m), got {shapes}") from None
    for name, x in zip("ABCD", (a, b, c, d), strict=True):
        if not np.all(np.isfinite(x)):
            raise InputError(f"{quantity}: {name} must be finite")
        require_scale(f"{quantity}: {name}", x)
    return Realization(a, b, c, d, continuous)


def _blocks_of(system: control.TransferFunction) -> tuple[np.ndarray, ...]:
    """One cascade for each entry that is not static; python-control needs slycot for several of them."""
    outputs, inputs = system.noutputs, system.ninputs
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]] = []
    d = np.zeros((outputs, inputs))
    for i in range(outputs):
        for j in range(inputs):
            a, b, c, d[i, j] = cascade(system.num[i][j], system.den[i][j])
            columns.append((a, b, c, i, j))
    n = sum(len(block[0]) for block in columns)
    a, b, c, at = np.zeros((n, n)), np.zeros((n, inputs)), np.zeros((outputs, n)), 0
    for block, into, out, i, j in columns:
        span = slice(at, at + len(block))
        a[span, span], b[span, j], c[i, span] = block, into, out
        at += len(block)
    return a, b, c, d
