"""Looped networks, where depth is time: F pass after pass under a controller, its fixed points, spectra and limits."""

from ctrlattn.looped.anderson import anderson
from ctrlattn.looped.iterate import iterate
from ctrlattn.looped.pass_map import as_pass_map
from ctrlattn.looped.ways import Way, way, ways
from ctrlattn.passes import Passes

__all__ = [
    "Passes",
    "Way",
    "anderson",
    "as_pass_map",
    "iterate",
    "way",
    "ways",
]
