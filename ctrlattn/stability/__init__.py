"""Which attention modes a controller leaves stable, and how far a loop is from instability."""

from ctrlattn.stability.kreiss import kreiss_constant
from ctrlattn.stability.margins import Margins, gain_margin, margins
from ctrlattn.stability.numerical_range import numerical_abscissa, numerical_radius
from ctrlattn.stability.pseudospectra import (
    distance_to_instability,
    henrici_departure,
    pseudospectral_abscissa,
    pseudospectral_radius,
)
from ctrlattn.stability.pseudospectrum import pseudospectrum
from ctrlattn.stability.regions import (
    closed_loop_poles,
    is_stable,
    region_boundary,
    spectral_radius,
    stability_interval,
    stability_set,
)
from ctrlattn.stability.spectra import attention_spectrum
from ctrlattn.stability.steps import largest_stable_step, with_step
from ctrlattn.stability.transients import TransientGrowth, transient_growth

__all__ = [
    "Margins",
    "TransientGrowth",
    "attention_spectrum",
    "closed_loop_poles",
    "distance_to_instability",
    "gain_margin",
    "henrici_departure",
    "is_stable",
    "kreiss_constant",
    "largest_stable_step",
    "margins",
    "numerical_abscissa",
    "numerical_radius",
    "pseudospectral_abscissa",
    "pseudospectral_radius",
    "pseudospectrum",
    "region_boundary",
    "spectral_radius",
    "stability_interval",
    "stability_set",
    "transient_growth",
    "with_step",
]
