"""S = 1/(1 + L), T = L/(1 + L), S + T = 1, with L = C(z)/(z - alpha): frequency over depth, in rad/layer.

The loop is broken at the controller: S is the way from beta r to the error, T that to the state. The Nyquist
frequency is pi rad/layer, a sign change from layer to layer.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.controllers import PID, as_controller
from ctrlattn.diagram import DIAGRAM
from ctrlattn.errors import InputError
from ctrlattn.linear import mode
from ctrlattn.linear.mode_polynomial import sensitivity_of
from ctrlattn.linear.realization import Realization
from ctrlattn.loop import Loop
from ctrlattn.stability import is_stable
from ctrlattn.stability.robustness.norms import largest_gain, level_crossings, level_set_peak

if TYPE_CHECKING:
    import control

_BANDWIDTH = 1 / math.sqrt(2)  # -3 dB


class Peaks(NamedTuple):
    """Peaks of |S| and |T|; inf where the loop is unstable, since its response then never settles."""

    ms: float  # max |S|, the inverse of the modulus margin
    ms_frequency: float  # rad/layer
    mt: float  # max |T|
    mt_frequency: float  # rad/layer
    bandwidth: float  # rad/layer up to which |S| < -3 dB; 0 when |S| starts above, pi when it never gets there


def complementary_sensitivity(loop: Loop, a: complex) -> "control.StateSpace":
    """Return T(z) of mode a, from beta r to the state: the closed loop itself.
    {diagram}
        Parameters
        ----------
        loop, a
            As for `mode`; a complex `a` gives the real 2 x 2 realisation.

        Returns
        -------
        control.StateSpace
            dt = 1, input "reference", output "state".

        Raises
        ------
        InputError
            A loop that is not linear and time-invariant.

        Examples
        --------
        >>> from ctrlattn import PID, CausalMean, Loop
        >>> T = complementary_sensitivity(Loop(CausalMean(), controller=PID(0.8, 0.5, 0.05)), 0.5)
        >>> round(float(T.dcgain()), 12)  # integral action
        1.0
    """
    return mode(loop, a)


def sensitivity(loop: Loop, a: complex) -> "control.StateSpace":
    """S(z) = 1 - T(z), from beta r to the error, of mode a.
    {diagram}
        With the printed PID law S = z (z - 1)(z - alpha) / p(z), p the characteristic polynomial of `mode`.

        Parameters
        ----------
        loop, a
            As for `mode`.

        Returns
        -------
        control.StateSpace
            dt = 1, input "reference", output "error".

        Raises
        ------
        InputError
            A loop that is not linear and time-invariant.

        References
        ----------
        Astrom and Murray, Feedback Systems, 2nd edition, section 12.2.

        Examples
        --------
        >>> from ctrlattn import PID, CausalMean, Loop
        >>> S = sensitivity(Loop(CausalMean(), controller=PID(0.6)), 0.5)
        >>> round(float(S.dcgain()), 12)  # 1 - P/(1 - alpha + P), alpha = 0.5
        0.454545454545
    """
    import control

    t = mode(loop, a)
    outputs = [label.replace("state", "error") for label in t.output_labels]
    return control.ss(
        t.A,
        t.B,
        -t.C,
        np.eye(t.noutputs) - t.D,
        1,
        inputs=t.input_labels,
        outputs=outputs,
        states=t.state_labels,
        remove_useless_states=False,
    )


def gang_of_four(loop: Loop, a: complex) -> "dict[str, control.StateSpace]":
    """Return S, T, PS = P S and CS = C S of mode a, with the plant P = 1/(z - alpha).
    {diagram}
        S leads from the reference to the error, T from the reference to the state, PS from a disturbance on the state
        to the state, and CS from the reference to the control.

        Parameters
        ----------
        loop, a
            As for `mode`; real `a`.

        Returns
        -------
        dict of control.StateSpace, keys "S", "T", "PS", "CS"

        Raises
        ------
        InputError
            A loop that is not linear and time-invariant.

        References
        ----------
        Astrom and Murray, Feedback Systems, 2nd edition, section 12.1.

        Examples
        --------
        >>> from ctrlattn import PID, CausalMean, Loop
        >>> four = gang_of_four(Loop(CausalMean(), controller=PID(0.6)), 0.5)
        >>> sorted(four), round(float(four["PS"].dcgain()), 12)  # 1/(1 - alpha + P)
        (['CS', 'PS', 'S', 'T'], 0.909090909091)
    """
    import control

    t = mode(loop, a)
    width = t.noutputs
    c_c, d_c = (np.kron(m, np.eye(width)) for m in (loop.controller or PID()).realization()[2:])
    disturbed = np.eye(t.nstates, width)

    def system(b: np.ndarray, c: np.ndarray, d: np.ndarray, source: str, target: str) -> "control.StateSpace":
        names = [
            [label.replace(old, new) for label in labels]
            for labels, old, new in ((t.input_labels, "reference", source), (t.output_labels, "state", target))
        ]
        return control.ss(
            t.A, b, c, d, 1, inputs=names[0], outputs=names[1], states=t.state_labels, remove_useless_states=False
        )

    return {
        "S": sensitivity(loop, a),
        "T": t,
        "PS": system(disturbed, t.C, np.zeros((width, width)), "disturbance", "state"),
        "CS": system(t.B, np.hstack([-d_c, c_c]), d_c, "reference", "control"),
    }


def sensitivity_response(controller: Any, alpha: Any, omega: Any) -> np.ndarray:
    """S(e^{iw}) = (z - alpha) / (z - alpha + C(z)) for many modes at once.

    Parameters
    ----------
    controller : PID, LTIController, python-control system with dt = 1, or None (then S = 1)
    alpha : real or complex, any shape
        Open-loop poles skip + feedback a.
    omega : (m,)
        rad/layer.

    Returns
    -------
    (..., m) complex
        T is 1 minus it. S is the response of the settled loop: an unstable mode has none.

    Raises
    ------
    InputError
        NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> sensitivity_response(PID(0.6), [0.5, 0.9], [0.0]).real.round(3).ravel().tolist()
    [0.455, 0.143]
    """
    num, den = (as_controller(controller) or PID()).fraction()
    z = np.exp(1j * require_real("omega", omega))
    if not (np.all(np.isfinite(alpha)) and np.all(np.isfinite(z))):
        raise InputError("alpha and omega must be finite")
    return sensitivity_of(num, den, np.asarray(alpha)[..., None], z)


def sensitivity_peaks(controller: Any, alpha: complex) -> Peaks:
    """Return Ms, Mt and the bandwidth of one mode, by level sets: a narrow peak cannot slip through, as on a grid.

    Parameters
    ----------
    controller : as for `sensitivity_response`
    alpha : real or complex
        Open-loop pole; for a complex one negative frequencies count too.

    Returns
    -------
    Peaks
        ms and mt to 2e-9.

    Raises
    ------
    InputError
        An alpha that is not finite.

    References
    ----------
    Astrom and Murray, Feedback Systems, 2nd edition, section 12.2; the level sets: `stability.hinf_norm`.

    Examples
    --------
    >>> peaks = sensitivity_peaks(PID(0.6), 0.5)
    >>> round(peaks.ms, 6), round(peaks.ms_frequency, 4)  # at z = -1: 1.5/(1.5 - 0.6)
    (1.666667, 3.1416)
    """
    if not is_stable(controller, alpha):
        return Peaks(math.inf, math.nan, math.inf, math.nan, math.nan)
    a_c, b_c, c_c, d_c = (as_controller(controller) or PID()).realization()
    matrix = np.block([[alpha - d_c, c_c], [-b_c, a_c]])
    inputs, outputs = np.vstack([d_c, b_c]), np.eye(1, len(matrix))
    t = Realization(matrix, inputs, outputs, np.zeros((1, 1)), False)
    s = Realization(matrix, inputs, -outputs, np.ones((1, 1)), False)
    of_s, of_t = (level_set_peak(system, 1e-9) for system in (s, t))
    return Peaks(of_s.value, abs(of_s.frequency), of_t.value, abs(of_t.frequency), _bandwidth(s))


def _bandwidth(s: Realization) -> float:
    """Return the frequency at which |S|, for either sign of it, first exceeds -3 dB."""
    edges = np.unique(np.concatenate([[0.0, math.pi], np.abs(level_crossings(s, _BANDWIDTH))]))
    for low, high in pairwise(edges):
        if max(largest_gain(s, sign * (low + high) / 2) for sign in (1, -1)) > _BANDWIDTH:
            return float(low)
    return math.pi


for _documented in (complementary_sensitivity, sensitivity, gang_of_four):
    if _documented.__doc__:  # absent under python -OO
        _documented.__doc__ = _documented.__doc__.replace("{diagram}", DIAGRAM)
