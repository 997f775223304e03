"""The parts of a feedback profile, one file each, in the order in which they are measured."""

from ctrlattn.checkpoints.measure.parts.attention import attention
from ctrlattn.checkpoints.measure.parts.diversity import diversity
from ctrlattn.checkpoints.measure.parts.exponents import exponents
from ctrlattn.checkpoints.measure.parts.feedback import feedback
from ctrlattn.checkpoints.measure.parts.gain import gain
from ctrlattn.checkpoints.measure.parts.heads import heads
from ctrlattn.checkpoints.measure.parts.measurement import Part
from ctrlattn.checkpoints.measure.parts.nonnormality import nonnormality
from ctrlattn.checkpoints.measure.parts.sinks import sinks
from ctrlattn.checkpoints.measure.parts.value_output import value_output

PARTS: dict[str, Part] = {
    "feedback": feedback,
    "heads": heads,
    "value_output": value_output,
    "attention": attention,
    "diversity": diversity,
    "sinks": sinks,
    "gain": gain,
    "nonnormality": nonnormality,
    "exponents": exponents,
}

__all__ = ["PARTS"]
