"""x' = alpha x + u, u = C(z)(beta r - x), alpha = skip + feedback a: one SISO loop for each attention eigenvalue a.

Valid where the same attention matrix acts in every layer (frozen or weight-tied), in parallel order and without
a norm; identity values, or a times the eigenvalue of the value-output map.
"""

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ctrlattn.arrays import require_numbers
from ctrlattn.controllers import PID, Realization
from ctrlattn.diagram import DIAGRAM
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.loop import Loop, require_scalar_gains

if TYPE_CHECKING:
    import control

Breaking = Literal["control", "prediction"]


def mode(loop: Loop, a: complex) -> "control.StateSpace":
    """Return the closed loop of one attention mode, from beta r to the state.
    {diagram}
        x_{k+1} = alpha x_k + u_k,  u = C(z)(beta r - x),  alpha = skip + feedback a.

        With the printed PID law its characteristic polynomial is
        z^3 + (kp + ki + kd - 1 - alpha) z^2 + (alpha - kp - 2 kd) z + kd. A gain of 0 leaves its state out.

        Parameters
        ----------
        loop : Loop
            Parallel order, no normalizer, no held token; the predictor is not used.
        a : real or complex
            Eigenvalue of the attention matrix (times that of the value-output map where values are projected).

        Returns
        -------
        control.StateSpace
            dt = 1, input "reference" (beta r), output "state". A complex `a` gives the real realisation on
            (Re x, Im x), with two inputs and two outputs: its poles are those of alpha and of its conjugate.

        Raises
        ------
        InputError
            A loop that is not linear and time-invariant, or a value of `a` that is not finite.

        Examples
        --------
        >>> from ctrlattn import CausalMean, Loop
        >>> mode(Loop(CausalMean(), skip=1.0, feedback=-1.0), 0.25).poles().tolist()
        [(0.75+0j)]
    """
    _require_linear(loop, "mode")
    eigenvalue = _real_matrix(a)
    eye = np.eye(len(eigenvalue))
    alpha = loop.skip * eye + loop.feedback * eigenvalue
    a_c, b_c, c_c, d_c = (np.kron(m, eye) for m in _realization(loop))
    matrix = np.block([[alpha - d_c, c_c], [-b_c, a_c]])
    inputs = np.vstack([d_c, b_c])
    outputs = np.hstack([eye, np.zeros_like(c_c)])
    return _system_with_names(matrix, inputs, outputs, np.zeros_like(eye), "reference", "state")


def loop_transfer(loop: Loop, a: complex, at: Breaking = "control") -> "control.StateSpace":
    """Return the loop transfer L(z) of one mode; the closed loop is 1 + L(z) = 0.

    at="control": the loop is broken at the controller, L = C(z)/(z - alpha); it is zero without a controller.
    at="prediction": the loop is broken at the prediction, with the controller's loop closed,
    L = -feedback a / (z - skip + C(z)); without a controller it is the residual integrator -feedback a / (z - skip).
    The two are never the same: the margins of the first tell how far the gain of the controller may change, those of
    the second how far the gain of the attention may.

    Parameters
    ----------
    loop, a
        As for `mode`.
    at : "control" or "prediction"

    Returns
    -------
    control.StateSpace
        dt = 1; a complex `a` gives the real 2 x 2 realisation.

    Raises
    ------
    InputError
        As `mode`; an unknown breaking point.

    Examples
    --------
    >>> from ctrlattn import CausalMean, Loop
    >>> L = loop_transfer(Loop(CausalMean(), skip=1.0, feedback=-1.0), 0.5, at="prediction")
    >>> L(-1.0).real.round(12)  # 0.5 / (z - 1) at z = -1
    np.float64(-0.25)
    """
    matrices = loop_matrices(loop, a, at)
    return _system_with_names(*matrices, *(("error", "state") if at == "control" else ("prediction", "return")))


def loop_matrices(loop: Loop, a: complex, at: Breaking = "control") -> Realization:
    """Return A, B, C, D of `loop_transfer`, without python-control.

    >>> from ctrlattn import CausalMean, Loop
    >>> [m.tolist() for m in loop_matrices(Loop(CausalMean(), skip=1.0, feedback=-1.0, controller=PID(0.3)), 0.5)]
    [[[0.5]], [[0.3]], [[1.0]], [[0.0]]]
    """
    _require_linear(loop, "loop_transfer")
    if at not in get_args(Breaking):
        raise InputError(f'at must be "control" or "prediction", got {at!r}')
    eigenvalue = _real_matrix(a)
    eye = np.eye(len(eigenvalue))
    a_c, b_c, c_c, d_c = (np.kron(m, eye) for m in _realization(loop))
    if at == "control":  # e -> controller -> plant 1/(z - alpha) -> x
        alpha = loop.skip * eye + loop.feedback * eigenvalue
        matrix = np.block([[alpha, c_c], [np.zeros_like(b_c), a_c]])
        inputs = np.vstack([d_c, b_c])
        outputs = np.hstack([eye, np.zeros_like(c_c)])
        return matrix, inputs, outputs, np.zeros_like(eye)
    # y -> x with x' = skip x + feedback y - C x, then -a x back to where y entered.
    matrix = np.block([[loop.skip * eye - d_c, c_c], [-b_c, a_c]])
    inputs = np.vstack([loop.feedback * eye, np.zeros_like(b_c)])
    outputs = np.hstack([-eigenvalue, np.zeros_like(c_c)])
    return matrix, inputs, outputs, np.zeros_like(eye)


def _require_linear(loop: Loop, quantity: str) -> None:
    require_scalar_gains(loop, quantity)
    if loop.order == "sequential":
        raise InputError(
            f"{quantity}: a sequential pass has no scalar modes, it couples the tokens within a layer; "
            "use pass_operator for its matrix"
        )
    if loop.normalizer is not None:
        raise InputError(f"{quantity}: a loop with a normalizer is nonlinear; use linearize at a state")
    if loop.hold_first:
        raise InputError(f"{quantity}: a held first token does not follow the modes; use pass_operator or linearize")


def _real_matrix(a: Any) -> np.ndarray:
    """Return the eigenvalue as a real matrix: (1, 1), or [[re, -im], [im, re]] where it is complex."""
    if isinstance(a, str | list | tuple | dict) or a is None:
        raise InputTypeError(f"a must be one eigenvalue, a real or complex number, got {a!r}")
    if np.ndim(a) != 0:
        raise InputError(f"a must be one eigenvalue, got an array of shape {np.shape(a)}")
    value = complex(require_numbers("the eigenvalue a", a))
    if not np.isfinite(value):
        raise InputError(f"the eigenvalue a must be finite, got {a}")
    if not np.iscomplexobj(a):
        return np.array([[value.real]])
    return np.array([[value.real, -value.imag], [value.imag, value.real]])


def _realization(loop: Loop) -> Realization:
    return (loop.controller or PID()).realization()


def _system_with_names(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, source: str, target: str
) -> "control.StateSpace":
    """Return a python-control object with named signals, which are re and im parts for a complex mode."""
    parts = [""] if len(d) == 1 else [" (re)", " (im)"]
    names = [f"{'x' if i == 0 else f's{i - 1}'}{part}" for i in range(len(a) // len(d)) for part in parts]
    import control

    return control.ss(
        a,
        b,
        c,
        d,
        1,
        inputs=[source + p for p in parts],
        outputs=[target + p for p in parts],
        states=names,
        remove_useless_states=False,
    )


if mode.__doc__:  # absent under python -OO
    mode.__doc__ = mode.__doc__.replace("{diagram}", DIAGRAM)
