"""From a loop to a linear system: per attention mode, per pass, or by autodiff. From here on it is control theory."""

from ctrlattn.linear.jacobian import jacobian_operator
from ctrlattn.linear.linearize import linearize
from ctrlattn.linear.mode_polynomial import StepMetrics, open_loop_pole, step_metrics
from ctrlattn.linear.modes import loop_transfer, mode
from ctrlattn.linear.operators import pass_operator
from ctrlattn.linear.triangular import poles, token_system

__all__ = [
    "StepMetrics",
    "jacobian_operator",
    "linearize",
    "loop_transfer",
    "mode",
    "open_loop_pole",
    "pass_operator",
    "poles",
    "step_metrics",
    "token_system",
]
