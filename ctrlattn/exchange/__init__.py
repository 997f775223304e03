"""Linear systems to and from the files and objects of other tools: MATLAB, Octave, scipy, python-control, JSON."""

from ctrlattn.exchange.files import load, save
from ctrlattn.exchange.system import System, as_system

__all__ = ["System", "as_system", "load", "save"]
