"""Torch modules for training: controlled attention in a ViT and a language model; the transformer made of `read`."""

from ctrlattn.nn.attention import ControlledAttention, DepthState
from ctrlattn.nn.blocks import Block, configuration
from ctrlattn.nn.gains import Actuator, LearnedPID, stable_spread
from ctrlattn.nn.lm import ControlledLM
from ctrlattn.nn.memory import ReadLayer, ReadTransformer
from ctrlattn.nn.relatives import AttnScale, Centered, Differential, Shaped, Sinkformer, ValueResidual
from ctrlattn.nn.streams import HyperConnection
from ctrlattn.nn.vit import ControlledViT, deit_base_patch16_224, deit_small_patch16_224, deit_tiny_patch16_224
from ctrlattn.nn.wrap import Places, Wrapped, wrap

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
    "Places",
    "ReadLayer",
    "ReadTransformer",
    "Shaped",
    "Sinkformer",
    "ValueResidual",
    "Wrapped",
    "configuration",
    "deit_base_patch16_224",
    "deit_small_patch16_224",
    "deit_tiny_patch16_224",
    "stable_spread",
    "wrap",
]
