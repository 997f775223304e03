"""axes x analyses -> cells: any analysis over a grid or a sample of anything that a configuration holds."""

from ctrlattn.sweep.analyses import ANALYSES
from ctrlattn.sweep.axes import Range, Sample
from ctrlattn.sweep.driver import run
from ctrlattn.sweep.spec import Spec, dumps, load, loads

__all__ = ["ANALYSES", "Range", "Sample", "Spec", "dumps", "load", "loads", "run"]
