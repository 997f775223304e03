"""Real networks as control loops: load a transformers checkpoint and record its signals.

The names load on first use: what configuration and headers refuse is told before torch is imported.
"""

from typing import TYPE_CHECKING

from ctrlattn.errors import require_installed
from ctrlattn.lazy import hide_sub_modules, on_first_use

# Before the modules that import them: the first thing a new user meets is then what to install.
require_installed("a checkpoint", "transformers", "safetensors", "accelerate")

if TYPE_CHECKING:
    from ctrlattn.checkpoints.measure.evaluate import Evaluation as Evaluation
    from ctrlattn.checkpoints.measure.evaluate import evaluate as evaluate
    from ctrlattn.checkpoints.measure.evaluate import perplexity as perplexity
    from ctrlattn.checkpoints.measure.heads import head_contributions as head_contributions
    from ctrlattn.checkpoints.measure.importance import importance as importance
    from ctrlattn.checkpoints.measure.jacobian import layer_jacobian as layer_jacobian
    from ctrlattn.checkpoints.measure.layer_functions import layer_function as layer_function
    from ctrlattn.checkpoints.measure.layer_functions import layer_functions as layer_functions
    from ctrlattn.checkpoints.measure.loop_study import LoopStudy as LoopStudy
    from ctrlattn.checkpoints.measure.loop_study import loop_study as loop_study
    from ctrlattn.checkpoints.measure.own_loop import OwnLoop as OwnLoop
    from ctrlattn.checkpoints.measure.own_loop import own_loop as own_loop
    from ctrlattn.checkpoints.measure.parts.measurement import Effort as Effort
    from ctrlattn.checkpoints.measure.profile import feedback_profile as feedback_profile
    from ctrlattn.checkpoints.measure.recompose import recompose as recompose
    from ctrlattn.checkpoints.measure.span import SpanModes as SpanModes
    from ctrlattn.checkpoints.measure.span import SpanPasses as SpanPasses
    from ctrlattn.checkpoints.measure.span import span_function as span_function
    from ctrlattn.checkpoints.measure.span import span_modes as span_modes
    from ctrlattn.checkpoints.measure.span import span_passes as span_passes
    from ctrlattn.checkpoints.measure.summaries import STATISTICS as STATISTICS
    from ctrlattn.checkpoints.measure.summaries import stream as stream
    from ctrlattn.checkpoints.measure.summaries import summaries as summaries
    from ctrlattn.checkpoints.measure.tap import tap as tap
    from ctrlattn.checkpoints.measure.weights import ValueOutput as ValueOutput
    from ctrlattn.checkpoints.measure.weights import value_output as value_output
    from ctrlattn.checkpoints.network.checkpoint import Checkpoint as Checkpoint
    from ctrlattn.checkpoints.network.families import FAMILIES as FAMILIES
    from ctrlattn.checkpoints.network.families import Family as Family
    from ctrlattn.checkpoints.network.families import Place as Place
    from ctrlattn.checkpoints.network.families import Sublayer as Sublayer
    from ctrlattn.checkpoints.network.load import load as load
    from ctrlattn.checkpoints.network.on_disk import on_disk as on_disk
    from ctrlattn.checkpoints.network.repeat import repeat as repeat
    from ctrlattn.checkpoints.network.save import is_changed as is_changed
    from ctrlattn.checkpoints.network.save import open_changed as open_changed
    from ctrlattn.checkpoints.network.save import save as save
    from ctrlattn.checkpoints.reduce.choose import Choice as Choice
    from ctrlattn.checkpoints.reduce.choose import choose as choose
    from ctrlattn.checkpoints.reduce.choose import compensated_drop as compensated_drop
    from ctrlattn.checkpoints.reduce.compensate import Calibration as Calibration
    from ctrlattn.checkpoints.reduce.cost import Cost as Cost
    from ctrlattn.checkpoints.reduce.cost import cost as cost
    from ctrlattn.checkpoints.reduce.drop import drop as drop
    from ctrlattn.checkpoints.reduce.drop_heads import drop_heads as drop_heads
    from ctrlattn.checkpoints.reduce.drop_heads import head_importance as head_importance
    from ctrlattn.checkpoints.reduce.reduction import Reduction as Reduction
    from ctrlattn.checkpoints.reduce.reduction import Split as Split
    from ctrlattn.checkpoints.reduce.reduction import reduce as reduce
    from ctrlattn.checkpoints.reduce.reduction import split_text as split_text
    from ctrlattn.checkpoints.trace.run import trace as trace
    from ctrlattn.checkpoints.trace.structure import Structure as Structure
else:
    __all__, __getattr__, __dir__ = on_first_use(
        __name__,
        {
            "measure.evaluate": "Evaluation evaluate perplexity",
            "measure.heads": "head_contributions",
            "measure.importance": "importance",
            "measure.jacobian": "layer_jacobian",
            "measure.layer_functions": "layer_function layer_functions",
            "measure.loop_study": "LoopStudy loop_study",
            "measure.own_loop": "OwnLoop own_loop",
            "measure.parts.measurement": "Effort",
            "measure.profile": "feedback_profile",
            "measure.recompose": "recompose",
            "measure.span": "SpanModes SpanPasses span_function span_modes span_passes",
            "measure.summaries": "STATISTICS stream summaries",
            "measure.tap": "tap",
            "measure.weights": "ValueOutput value_output",
            "network.checkpoint": "Checkpoint",
            "network.families": "FAMILIES Family Place Sublayer",
            "network.load": "load",
            "network.on_disk": "on_disk",
            "network.repeat": "repeat",
            "network.save": "is_changed open_changed save",
            "reduce.choose": "Choice choose compensated_drop",
            "reduce.compensate": "Calibration",
            "reduce.cost": "Cost cost",
            "reduce.drop": "drop",
            "reduce.drop_heads": "drop_heads head_importance",
            "reduce.reduction": "Reduction Split reduce split_text",
            "trace.run": "trace",
            "trace.structure": "Structure",
        },
    )
    hide_sub_modules(__name__)
