"""Which attention modes a controller leaves stable, and how far a loop is from instability."""

from ctrlattn.stability.modes.decomposition import gain_boundary, gain_intervals, gain_lines, gain_radius, gain_region
from ctrlattn.stability.modes.gain_polynomials import PoleSensitivity, pole_sensitivity, root_locus
from ctrlattn.stability.modes.pass_modes import (
    OddNumberLimit,
    odd_number_limit,
    pass_boundary,
    pass_poles,
    passes_stable,
    stable_gains,
    stable_recalls,
)
from ctrlattn.stability.modes.regions import (
    closed_loop_poles,
    is_stable,
    region_boundary,
    spectral_radius,
    stability_interval,
    stability_set,
)
from ctrlattn.stability.modes.spectra import attention_spectrum
from ctrlattn.stability.modes.steps import largest_stable_step, with_step
from ctrlattn.stability.motion.bifurcation import Bifurcation, bifurcation_diagram
from ctrlattn.stability.motion.exponent_intervals import Exponents, exponent_intervals
from ctrlattn.stability.motion.fixed_points import Branch, FixedPoint, continue_fixed_point, fixed_point, layer_map
from ctrlattn.stability.motion.lyapunov import Convergence, convergence, kaplan_yorke_dimension, lyapunov_exponents
from ctrlattn.stability.nonnormal.kreiss import kreiss_constant
from ctrlattn.stability.nonnormal.numerical_range import numerical_abscissa, numerical_radius
from ctrlattn.stability.nonnormal.pseudospectral_bounds import (
    distance_to_instability,
    henrici_departure,
    pseudospectral_abscissa,
    pseudospectral_radius,
)
from ctrlattn.stability.nonnormal.pseudospectrum import pseudospectrum
from ctrlattn.stability.nonnormal.transients import TransientGrowth, transient_growth
from ctrlattn.stability.robustness.attention import AttentionContraction, attention_contraction, attention_lipschitz
from ctrlattn.stability.robustness.contraction import Contraction, contraction_certificate, sector_form
from ctrlattn.stability.robustness.disk import ChannelMargins, DiskMargin, disk_margin, loop_margins
from ctrlattn.stability.robustness.gap import nu_gap
from ctrlattn.stability.robustness.gramians import (
    Truncation,
    balanced_truncation,
    controllability_gramian,
    hankel_singular_values,
    observability_gramian,
)
from ctrlattn.stability.robustness.margins import Crossings, Margins, crossings, gain_margin, margins
from ctrlattn.stability.robustness.norms import PeakGain, h2_norm, hinf_norm, peak_gain
from ctrlattn.stability.robustness.sectors import (
    CircleCriterion,
    LimitCycle,
    circle_criterion,
    describing_function,
    limit_cycles,
    normalizer_sector,
    sector_limit,
    softmax_sector,
)

__all__ = [
    "AttentionContraction",
    "Bifurcation",
    "Branch",
    "ChannelMargins",
    "CircleCriterion",
    "Contraction",
    "Convergence",
    "Crossings",
    "DiskMargin",
    "Exponents",
    "FixedPoint",
    "LimitCycle",
    "Margins",
    "OddNumberLimit",
    "PeakGain",
    "PoleSensitivity",
    "TransientGrowth",
    "Truncation",
    "attention_contraction",
    "attention_lipschitz",
    "attention_spectrum",
    "balanced_truncation",
    "bifurcation_diagram",
    "circle_criterion",
    "closed_loop_poles",
    "continue_fixed_point",
    "contraction_certificate",
    "controllability_gramian",
    "convergence",
    "crossings",
    "describing_function",
    "disk_margin",
    "distance_to_instability",
    "exponent_intervals",
    "fixed_point",
    "gain_boundary",
    "gain_intervals",
    "gain_lines",
    "gain_margin",
    "gain_radius",
    "gain_region",
    "h2_norm",
    "hankel_singular_values",
    "henrici_departure",
    "hinf_norm",
    "is_stable",
    "kaplan_yorke_dimension",
    "kreiss_constant",
    "largest_stable_step",
    "layer_map",
    "limit_cycles",
    "loop_margins",
    "lyapunov_exponents",
    "margins",
    "normalizer_sector",
    "nu_gap",
    "numerical_abscissa",
    "numerical_radius",
    "observability_gramian",
    "odd_number_limit",
    "pass_boundary",
    "pass_poles",
    "passes_stable",
    "peak_gain",
    "pole_sensitivity",
    "pseudospectral_abscissa",
    "pseudospectral_radius",
    "pseudospectrum",
    "region_boundary",
    "root_locus",
    "sector_form",
    "sector_limit",
    "softmax_sector",
    "spectral_radius",
    "stability_interval",
    "stability_set",
    "stable_gains",
    "stable_recalls",
    "transient_growth",
    "with_step",
]
