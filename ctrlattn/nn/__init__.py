"""Torch modules for training: controlled attention in a ViT and a language model, and a transformer made of `read`.

The names load on first use, as those of `ctrlattn.checkpoints`.
"""

from typing import TYPE_CHECKING

from ctrlattn.lazy import on_first_use

if TYPE_CHECKING:
    from ctrlattn.nn.modules.attention import ControlledAttention as ControlledAttention
    from ctrlattn.nn.modules.attention import DepthState as DepthState
    from ctrlattn.nn.modules.blocks import Block as Block
    from ctrlattn.nn.modules.gains import Actuator as Actuator
    from ctrlattn.nn.modules.gains import LearnedPID as LearnedPID
    from ctrlattn.nn.modules.hyper_connection import HyperConnection as HyperConnection
    from ctrlattn.nn.modules.lm import ControlledLM as ControlledLM
    from ctrlattn.nn.modules.looped import LoopedNetwork as LoopedNetwork
    from ctrlattn.nn.modules.looped import TiedLayer as TiedLayer
    from ctrlattn.nn.modules.memory import ReadLayer as ReadLayer
    from ctrlattn.nn.modules.memory import ReadTransformer as ReadTransformer
    from ctrlattn.nn.modules.pass_radius import pass_radius as pass_radius
    from ctrlattn.nn.modules.pass_radius import squared_norm as squared_norm
    from ctrlattn.nn.modules.preset_options import configuration as configuration
    from ctrlattn.nn.modules.relatives import AttnScale as AttnScale
    from ctrlattn.nn.modules.relatives import Centered as Centered
    from ctrlattn.nn.modules.relatives import Differential as Differential
    from ctrlattn.nn.modules.relatives import ShapedAttention as ShapedAttention
    from ctrlattn.nn.modules.relatives import Sinkformer as Sinkformer
    from ctrlattn.nn.modules.relatives import ValueResidual as ValueResidual
    from ctrlattn.nn.modules.vit import ControlledViT as ControlledViT
    from ctrlattn.nn.modules.vit import deit_base_patch16_224 as deit_base_patch16_224
    from ctrlattn.nn.modules.vit import deit_small_patch16_224 as deit_small_patch16_224
    from ctrlattn.nn.modules.vit import deit_tiny_patch16_224 as deit_tiny_patch16_224
    from ctrlattn.nn.modules.wrap import Places as Places
    from ctrlattn.nn.modules.wrap import Wrapped as Wrapped
    from ctrlattn.nn.modules.wrap import wrap as wrap
    from ctrlattn.stability.modes.zero_exclusion import stable_spread as stable_spread
else:
    __all__, __getattr__, __dir__ = on_first_use(
        __name__,
        {
            "modules.attention": "ControlledAttention DepthState",
            "modules.blocks": "Block",
            "modules.gains": "Actuator LearnedPID",
            "modules.hyper_connection": "HyperConnection",
            "modules.lm": "ControlledLM",
            "modules.looped": "LoopedNetwork TiedLayer",
            "modules.memory": "ReadLayer ReadTransformer",
            "modules.pass_radius": "pass_radius squared_norm",
            "modules.preset_options": "configuration",
            "modules.relatives": "AttnScale Centered Differential ShapedAttention Sinkformer ValueResidual",
            "modules.vit": "ControlledViT deit_base_patch16_224 deit_small_patch16_224 deit_tiny_patch16_224",
            "modules.wrap": "Places Wrapped wrap",
            "ctrlattn.stability.modes.zero_exclusion": "stable_spread",
        },
    )
