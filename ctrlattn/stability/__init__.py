"""Which attention modes a controller leaves stable, and how far a loop is from instability."""

from ctrlattn.stability.bifurcation import Bifurcation, bifurcation_diagram
from ctrlattn.stability.fixed_points import Branch, FixedPoint, continue_fixed_point, fixed_point, layer_map
from ctrlattn.stability.kreiss import kreiss_constant
from ctrlattn.stability.lyapunov import Convergence, convergence, kaplan_yorke_dimension, lyapunov_exponents
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
    "Bifurcation",
    "Branch",
    "Convergence",
    "FixedPoint",
    "Margins",
    "TransientGrowth",
    "attention_spectrum",
    "bifurcation_diagram",
    "closed_loop_poles",
    "continue_fixed_point",
    "convergence",
    "distance_to_instability",
    "fixed_point",
    "gain_margin",
    "henrici_departure",
    "is_stable",
    "kaplan_yorke_dimension",
    "kreiss_constant",
    "largest_stable_step",
    "layer_map",
    "lyapunov_exponents",
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
