"""Figures from plain arrays, as matplotlib figures or axes. Nothing is shown, and nothing is registered with pyplot."""

from ctrlattn.plots import profile, reduction
from ctrlattn.plots.depth import bode_magnitude, feedback_gain, gang_of_four, time_response
from ctrlattn.plots.design import certificate, trade_off
from ctrlattn.plots.lyapunov import bifurcation, lyapunov_spectra, lyapunov_spectrum
from ctrlattn.plots.nonnormal import pseudospectrum_contours, transient_growth
from ctrlattn.plots.plane import nyquist, pole_zero, root_loci, root_locus, spectrum_over_regions
from ctrlattn.plots.robustness import gain_regions, harmonic_balance, nyquist_disk
from ctrlattn.plots.style import figure, figure_of, inline_svg, save
from ctrlattn.plots.tokens import diversity, heatmap, similarity, token_response

__all__ = [
    "bifurcation",
    "bode_magnitude",
    "certificate",
    "diversity",
    "feedback_gain",
    "figure",
    "figure_of",
    "gain_regions",
    "gang_of_four",
    "harmonic_balance",
    "heatmap",
    "inline_svg",
    "lyapunov_spectra",
    "lyapunov_spectrum",
    "nyquist",
    "nyquist_disk",
    "pole_zero",
    "profile",
    "pseudospectrum_contours",
    "reduction",
    "root_loci",
    "root_locus",
    "save",
    "similarity",
    "spectrum_over_regions",
    "time_response",
    "token_response",
    "trade_off",
    "transient_growth",
]
