"""Which attention modes a controller leaves stable, and how far a loop is from instability."""

from ctrlattn.stability.margins import Margins, gain_margin, margins
from ctrlattn.stability.regions import (
    closed_loop_poles,
    is_stable,
    region_boundary,
    spectral_radius,
    stability_interval,
    stability_set,
)
from ctrlattn.stability.spectra import attention_spectrum

__all__ = [
    "Margins",
    "attention_spectrum",
    "closed_loop_poles",
    "gain_margin",
    "is_stable",
    "margins",
    "region_boundary",
    "spectral_radius",
    "stability_interval",
    "stability_set",
]
