"""Looped networks, where depth is time: F pass after pass under a controller, its fixed points, spectra and limits."""

from ctrlattn.looped.analysis import Analysis, analyse
from ctrlattn.looped.anderson import anderson
from ctrlattn.looped.certificate import Ball, contraction_ball
from ctrlattn.looped.closed import Growth, closed_map, closed_matrix, growth
from ctrlattn.looped.exponents import exponents
from ctrlattn.looped.iterate import iterate
from ctrlattn.looped.limits import Limit, Limits, limits
from ctrlattn.looped.pass_map import as_pass_map
from ctrlattn.looped.period import Period, period
from ctrlattn.looped.rest import Basin, RestPoint, basin, fixed_point
from ctrlattn.looped.spectrum import PassSpectrum, spectrum
from ctrlattn.looped.ways import Way, way, ways
from ctrlattn.passes import Passes

__all__ = [
    "Analysis",
    "Ball",
    "Basin",
    "Growth",
    "Limit",
    "Limits",
    "PassSpectrum",
    "Passes",
    "Period",
    "RestPoint",
    "Way",
    "analyse",
    "anderson",
    "as_pass_map",
    "basin",
    "closed_map",
    "closed_matrix",
    "contraction_ball",
    "exponents",
    "fixed_point",
    "growth",
    "iterate",
    "limits",
    "period",
    "spectrum",
    "way",
    "ways",
]
