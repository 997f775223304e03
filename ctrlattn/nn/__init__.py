"""Torch modules for training: controlled attention in a ViT and a language model, and a transformer made of `read`."""

from ctrlattn.nn.modules.attention import ControlledAttention, DepthState
from ctrlattn.nn.modules.blocks import Block
from ctrlattn.nn.modules.gains import Actuator, LearnedPID
from ctrlattn.nn.modules.hyper_connection import HyperConnection
from ctrlattn.nn.modules.lm import ControlledLM
from ctrlattn.nn.modules.looped import LoopedNetwork, TiedLayer
from ctrlattn.nn.modules.memory import ReadLayer, ReadTransformer
from ctrlattn.nn.modules.pass_radius import pass_radius, squared_norm
from ctrlattn.nn.modules.preset_options import configuration
from ctrlattn.nn.modules.relatives import AttnScale, Centered, Differential, ShapedAttention, Sinkformer, ValueResidual
from ctrlattn.nn.modules.vit import ControlledViT, deit_base_patch16_224, deit_small_patch16_224, deit_tiny_patch16_224
from ctrlattn.nn.modules.wrap import Places, Wrapped, wrap
from ctrlattn.stability.modes.zero_exclusion import stable_spread

__all__ = [
    "Actuator",
    "AttnScale",
    "Block",
    "Centered",
    "ControlledAttention",
    "ControlledLM",
    "ControlledViT",
    "DepthState",
    "Differential",
    "HyperConnection",
    "LearnedPID",
    "LoopedNetwork",
    "Places",
    "ReadLayer",
    "ReadTransformer",
    "ShapedAttention",
    "Sinkformer",
    "TiedLayer",
    "ValueResidual",
    "Wrapped",
    "configuration",
    "deit_base_patch16_224",
    "deit_small_patch16_224",
    "deit_tiny_patch16_224",
    "pass_radius",
    "squared_norm",
    "stable_spread",
    "wrap",
]
