"""Real networks as control loops: load a transformers checkpoint and record its signals."""

from ctrlattn.checkpoints.evaluate import Evaluation, evaluate, perplexity
from ctrlattn.checkpoints.families import FAMILIES, Family, Place, Sublayer
from ctrlattn.checkpoints.heads import head_contributions
from ctrlattn.checkpoints.importance import importance
from ctrlattn.checkpoints.jacobian import layer_jacobian
from ctrlattn.checkpoints.layers import layer_function, layer_functions
from ctrlattn.checkpoints.load import Checkpoint, load
from ctrlattn.checkpoints.parts import Effort
from ctrlattn.checkpoints.profile import feedback_profile
from ctrlattn.checkpoints.tap import tap
from ctrlattn.checkpoints.weights import ValueOutput, value_output

__all__ = [
    "FAMILIES",
    "Checkpoint",
    "Effort",
    "Evaluation",
    "Family",
    "Place",
    "Sublayer",
    "ValueOutput",
    "evaluate",
    "feedback_profile",
    "head_contributions",
    "importance",
    "layer_function",
    "layer_functions",
    "layer_jacobian",
    "load",
    "perplexity",
    "tap",
    "value_output",
]
