"""Compiled code: each kernel equals a plain reference, named in its docstring, and is only faster; a test holds it."""

from ctrlattn.kernels import compiling
from ctrlattn.kernels.causal_mean import Scaling, sweep

__all__ = ["Scaling", "sweep"]

compiling.watch()
