"""Real networks as control loops: load a transformers checkpoint and record its signals."""

from ctrlattn.checkpoints.families import FAMILIES, Family
from ctrlattn.checkpoints.load import Checkpoint, load
from ctrlattn.checkpoints.tap import tap

__all__ = ["FAMILIES", "Checkpoint", "Family", "load", "tap"]
