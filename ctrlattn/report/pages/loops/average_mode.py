"""T(1), the step response and the stable interval of one loop's modes: what several sections say in the same way."""

import numpy as np

from ctrlattn.controllers import PID
from ctrlattn.linear import StepMetrics, mode, open_loop_pole, step_metrics
from ctrlattn.linear.mode_polynomial import static_gain
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.words import number
from ctrlattn.stability import is_stable
from ctrlattn.stability.modes.regions import mode_intervals

OMEGA = np.linspace(0.0, np.pi, 257)  # rad/layer, Nyquist frequency included
HORIZON = 2000  # layers; no network is so deep, but a lightly damped mode settles slowly


def step_response(loop: Loop, a: float, layers: int) -> np.ndarray:
    """Return the state of mode a from rest after a step of its reference beta r to 1, (layers + 1,)."""
    import control

    return control.step_response(mode(loop, a), timepts=np.arange(layers + 1)).outputs


def mode_metrics(loop: Loop, material: Material) -> StepMetrics:
    """Measure the average mode's step response: the end is exact, and the horizon is long enough for settling."""
    a = material.average_mode
    final = reached(loop, a) if is_stable(loop.controller, open_loop_pole(loop, a)) else None
    return step_metrics(step_response(loop, a, HORIZON), 1.0, final=final)


def reached(loop: Loop, a: float) -> float:
    """Return T(1) of one mode, the share of the reference that is reached."""
    num, den = (loop.controller or PID()).fraction()
    return float(static_gain(num, den, open_loop_pole(loop, a)))


def interval_text(loop: Loop) -> str:
    """Say the stable set of real attention eigenvalues in words."""
    intervals = mode_intervals(loop)
    return " ∪ ".join(f"({number(low, 3)}, {number(high, 3)})" for low, high in intervals) or "the empty set"
