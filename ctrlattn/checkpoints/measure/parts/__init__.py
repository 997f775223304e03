"""The parts of a feedback profile, one file each, in the order in which they are measured."""

from ctrlattn.checkpoints.measure.parts.attention import attention
from ctrlattn.checkpoints.measure.parts.diversity import diversity
from ctrlattn.checkpoints.measure.parts.exponents import exponents
from ctrlattn.checkpoints.measure.parts.feedback import feedback
from ctrlattn.checkpoints.measure.parts.gain import gain
from ctrlattn.checkpoints.measure.parts.heads import heads
from ctrlattn.checkpoints.measure.parts.measurement import ProfilePart
from ctrlattn.checkpoints.measure.parts.nonnormality import nonnormality
from ctrlattn.checkpoints.measure.parts.sinks import sinks
from ctrlattn.checkpoints.measure.parts.value_output import value_output

# By the name of the function: a part has it in the profile, in its store, on the page and on the command line.
PARTS: dict[str, ProfilePart] = {
    part.__name__: part
    for part in (feedback, heads, value_output, attention, diversity, sinks, gain, nonnormality, exponents)
}

__all__ = ["PARTS"]
