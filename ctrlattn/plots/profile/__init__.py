"""Figures of a feedback profile: gain over depth with its spread, heat maps layers x heads, eigenvalues, exponents.

Each figure takes the Dataset of `checkpoints.feedback_profile` and needs the part that it is named after.
"""

from ctrlattn.plots.profile.attention import attention_modes, token_filter
from ctrlattn.plots.profile.jacobians import exponents, gains, nonnormality
from ctrlattn.plots.profile.signs import feedback, heads, value_maps
from ctrlattn.plots.profile.tokens import diversity, sinks

__all__ = [
    "attention_modes",
    "diversity",
    "exponents",
    "feedback",
    "gains",
    "heads",
    "nonnormality",
    "sinks",
    "token_filter",
    "value_maps",
]
