"""Real networks as control loops: load a transformers checkpoint and record its signals."""

# Before the modules that import them: the first thing a new user meets is then what to install.
from ctrlattn.errors import require_installed

require_installed("a checkpoint", "transformers", "safetensors", "accelerate")

# ruff: noqa: E402
from ctrlattn.checkpoints.measure.evaluate import Evaluation, evaluate, perplexity
from ctrlattn.checkpoints.measure.heads import head_contributions
from ctrlattn.checkpoints.measure.importance import importance
from ctrlattn.checkpoints.measure.jacobian import layer_jacobian
from ctrlattn.checkpoints.measure.layer_functions import layer_function, layer_functions
from ctrlattn.checkpoints.measure.loop_study import LoopStudy, loop_study
from ctrlattn.checkpoints.measure.own_loop import OwnLoop, own_loop
from ctrlattn.checkpoints.measure.parts.measurement import Effort
from ctrlattn.checkpoints.measure.profile import feedback_profile
from ctrlattn.checkpoints.measure.recompose import recompose
from ctrlattn.checkpoints.measure.span import SpanModes, SpanPasses, span_function, span_modes, span_passes
from ctrlattn.checkpoints.measure.summaries import STATISTICS, stream, summaries
from ctrlattn.checkpoints.measure.tap import tap
from ctrlattn.checkpoints.measure.weights import ValueOutput, value_output
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import FAMILIES, Family, Place, Sublayer
from ctrlattn.checkpoints.network.load import load
from ctrlattn.checkpoints.network.on_disk import on_disk
from ctrlattn.checkpoints.network.repeat import repeat
from ctrlattn.checkpoints.network.save import is_changed, open_changed, save
from ctrlattn.checkpoints.reduce.choose import Choice, choose, compensated_drop
from ctrlattn.checkpoints.reduce.compensate import Calibration
from ctrlattn.checkpoints.reduce.cost import Cost, cost
from ctrlattn.checkpoints.reduce.drop import drop
from ctrlattn.checkpoints.reduce.drop_heads import drop_heads, head_importance
from ctrlattn.checkpoints.reduce.reduction import Reduction, Split, reduce, split_text
from ctrlattn.checkpoints.trace.run import trace
from ctrlattn.checkpoints.trace.structure import Structure

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
    "LoopStudy",
    "OwnLoop",
    "Place",
    "Reduction",
    "SpanModes",
    "SpanPasses",
    "Split",
    "Structure",
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
    "loop_study",
    "on_disk",
    "open_changed",
    "own_loop",
    "perplexity",
    "recompose",
    "reduce",
    "repeat",
    "save",
    "span_function",
    "span_modes",
    "span_passes",
    "split_text",
    "stream",
    "summaries",
    "tap",
    "trace",
    "value_output",
]
