"""Frequency response over depth (S, T, gang of four) and along the tokens (low-pass, high-pass, diversity)."""

from ctrlattn.frequency.response import frequency_response
from ctrlattn.frequency.sensitivity_functions import (
    Peaks,
    complementary_sensitivity,
    gang_of_four,
    sensitivity,
    sensitivity_peaks,
    sensitivity_response,
)
from ctrlattn.frequency.tokens import (
    difference_gain,
    mean_cosine,
    participation_rank,
    token_frequency_response,
)

__all__ = [
    "Peaks",
    "complementary_sensitivity",
    "difference_gain",
    "frequency_response",
    "gang_of_four",
    "mean_cosine",
    "participation_rank",
    "sensitivity",
    "sensitivity_peaks",
    "sensitivity_response",
    "token_frequency_response",
]
