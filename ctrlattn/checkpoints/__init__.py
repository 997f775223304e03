"""Real networks as control loops: load a transformers checkpoint and record its signals."""

from ctrlattn.checkpoints.families import FAMILIES, Family, Place, Sublayer
from ctrlattn.checkpoints.layers import layer_function, layer_functions
from ctrlattn.checkpoints.load import Checkpoint, load
from ctrlattn.checkpoints.tap import tap
from ctrlattn.checkpoints.weights import ValueOutput, value_output

__all__ = [
    "FAMILIES",
    "Checkpoint",
    "Family",
    "Place",
    "Sublayer",
    "ValueOutput",
    "layer_function",
    "layer_functions",
    "load",
    "tap",
    "value_output",
]
