"""Figures of loops, systems and results, and from plain arrays. Nothing is registered with pyplot."""

from ctrlattn.plots import profile, reduction, repeated, sweeps, trained_loops
from ctrlattn.plots.depth import bode_magnitude, feedback_gain, gang_of_four, time_response
from ctrlattn.plots.design import certificate, trade_off
from ctrlattn.plots.loops import bode, gain_region, nyquist, pole_zero, root_locus, step
from ctrlattn.plots.lyapunov import bifurcation, lyapunov_spectra, lyapunov_spectrum
from ctrlattn.plots.narrow import narrow_svg
from ctrlattn.plots.nonnormal import pseudospectrum_contours, transient_growth
from ctrlattn.plots.plane import (
    nyquist_curves,
    nyquist_panels,
    poles_and_zeros,
    root_loci,
    root_locus_branches,
    spectrum_over_regions,
)
from ctrlattn.plots.robustness import gain_regions, harmonic_balance, nyquist_disk, nyquist_disks
from ctrlattn.plots.spectra import spectra, spectra_by_network
from ctrlattn.plots.style import figure, figure_of, inline_svg, save
from ctrlattn.plots.tokens import diversity, heatmap, similarity, token_response
from ctrlattn.plots.views import view

__all__ = [
    "bifurcation",
    "bode",
    "bode_magnitude",
    "certificate",
    "diversity",
    "feedback_gain",
    "figure",
    "figure_of",
    "gain_region",
    "gain_regions",
    "gang_of_four",
    "harmonic_balance",
    "heatmap",
    "inline_svg",
    "lyapunov_spectra",
    "lyapunov_spectrum",
    "narrow_svg",
    "nyquist",
    "nyquist_curves",
    "nyquist_disk",
    "nyquist_disks",
    "nyquist_panels",
    "pole_zero",
    "poles_and_zeros",
    "profile",
    "pseudospectrum_contours",
    "reduction",
    "repeated",
    "root_loci",
    "root_locus",
    "root_locus_branches",
    "save",
    "similarity",
    "spectra",
    "spectra_by_network",
    "spectrum_over_regions",
    "step",
    "sweeps",
    "time_response",
    "token_response",
    "trade_off",
    "trained_loops",
    "transient_growth",
    "view",
]
