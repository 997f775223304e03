"""Real networks as control loops: load a transformers checkpoint and record its signals."""

from ctrlattn.checkpoints.choose import Choice, choose, compensated_drop
from ctrlattn.checkpoints.compensate import Calibration
from ctrlattn.checkpoints.cost import Cost, cost
from ctrlattn.checkpoints.drop import drop
from ctrlattn.checkpoints.drop_heads import drop_heads, head_importance
from ctrlattn.checkpoints.evaluate import Evaluation, evaluate, perplexity
from ctrlattn.checkpoints.families import FAMILIES, Family, Place, Sublayer
from ctrlattn.checkpoints.heads import head_contributions
from ctrlattn.checkpoints.importance import importance
from ctrlattn.checkpoints.jacobian import layer_jacobian
from ctrlattn.checkpoints.layers import layer_function, layer_functions
from ctrlattn.checkpoints.load import Checkpoint, load
from ctrlattn.checkpoints.parts import Effort
from ctrlattn.checkpoints.profile import feedback_profile
from ctrlattn.checkpoints.reduction import Reduction, Split, reduce, split_text
from ctrlattn.checkpoints.save import is_changed, open_changed, save
from ctrlattn.checkpoints.streaming import STATISTICS, stream, summaries
from ctrlattn.checkpoints.tap import tap
from ctrlattn.checkpoints.weights import ValueOutput, value_output

__all__ = [
    "FAMILIES",
    "STATISTICS",
    "Calibration",
    "Checkpoint",
    "Choice",
    "Cost",
    "Effort",
    "Evaluation",
    "Family",
    "Place",
    "Reduction",
    "Split",
    "Sublayer",
    "ValueOutput",
    "choose",
    "compensated_drop",
    "cost",
    "drop",
    "drop_heads",
    "evaluate",
    "feedback_profile",
    "head_contributions",
    "head_importance",
    "importance",
    "is_changed",
    "layer_function",
    "layer_functions",
    "layer_jacobian",
    "load",
    "open_changed",
    "perplexity",
    "reduce",
    "save",
    "split_text",
    "stream",
    "summaries",
    "tap",
    "value_output",
]
