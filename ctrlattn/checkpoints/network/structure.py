"""x + F(x) -> x + G norm(x) + b: the structure of a changed network in its config, and how it is applied to a model.

A structure is a small dictionary that can be written into config.json under the key "ctrlattn": per kind of sublayer
the layers that were dropped, and for each what is in its place: null for nothing, a rank for a static gain, the
settings of a `MemoryGain`.
"""

import copy
from itertools import chain
from typing import Any, cast

import torch

from ctrlattn.checkpoints.network.families import KINDS, Family, Kind, Sublayer, at, sublayers
from ctrlattn.checkpoints.network.stand_ins import Gain, MemoryGain, Nothing

Stand = int | None | dict[str, Any]
Structure = dict[Kind, dict[int, Stand]]
KEY = "ctrlattn"


def shared(model: Any) -> Any:
    """A copy of the network's modules and configuration around the same weights."""
    weights = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, weights)


def structure_of(model: Any) -> Structure:
    """What was dropped from a network; empty kinds for one that is whole."""
    return structure_from(getattr(model.config, KEY, None) or {})


def structure_from(entry: dict[str, Any]) -> Structure:
    """A structure from what a config holds.

    >>> structure_from({"attention": {"5": None}})
    {'attention': {5: None}, 'mlp': {}}
    """
    return {kind: {int(layer): rank for layer, rank in entry.get(kind, {}).items()} for kind in KINDS}


def apply(family: Family, model: Any, structure: Structure) -> None:
    """Make a whole network one of this structure, in place; the weights of its gains are zero."""
    for sublayer in sublayers(family, model):
        if sublayer.layer in structure[sublayer.kind]:
            put(family, model, sublayer, structure[sublayer.kind][sublayer.layer])
    record(family, model, structure)


def record(family: Family, model: Any, structure: Structure) -> None:
    """Write the structure into the network's config, and number the caches of what is left."""
    setattr(model.config, KEY, {kind: {str(layer): rank for layer, rank in structure[kind].items()} for kind in KINDS})
    _number_caches(family, model, structure)


def put(family: Family, model: Any, sublayer: Sublayer, settings: Stand) -> None:
    """Replace one sublayer by a new gain of these settings, or by nothing."""
    place(family, model, sublayer, stand_in(sublayer, settings))


def stand_in(sublayer: Sublayer, settings: Stand) -> torch.nn.Module:
    """What stands for a sublayer, by its entry in a structure; the weights of a gain are zero."""
    # Of a post-norm network the last linear map of the sublayer is what is replaced.
    pair = sublayer.kind == "attention" and not isinstance(sublayer.module, torch.nn.Linear)
    if settings is None:
        return Nothing(pair=pair)
    weight = sublayer.norm.weight
    width = weight.shape[0]
    gain = MemoryGain(width, pair=pair, **settings) if isinstance(settings, dict) else Gain(width, settings, pair=pair)
    for parameter in gain.requires_grad_(False).parameters():
        torch.nn.init.zeros_(parameter)
    return gain.to(weight).train(sublayer.module.training)


def place(family: Family, model: Any, sublayer: Sublayer, stand: torch.nn.Module) -> None:
    """Put it there."""
    layer = family.layers_of(model)[sublayer.layer]
    layer.set_submodule(sublayer.path, stand)
    if isinstance(stand, Gain) and sublayer.out_path != sublayer.path:
        # A gain is fitted to what is added to the stream, that is, to what the sublayer's last norm gave.
        layer.set_submodule(sublayer.out_path, torch.nn.Identity())


def gain_of(family: Family, model: Any, layer: int, kind: Kind) -> Gain:
    """The gain in the place of a sublayer."""
    module = family.layers_of(model)[layer]
    return cast(Gain, at(module, getattr(family, kind).module))


def _number_caches(family: Family, model: Any, structure: Structure) -> None:
    """Give the first places in the cache, of each type of attention, to the layers that still have attention.

    The next ones go to gains with memory. transformers asks the first layer of the cache, and the first of each type,
    how many tokens there are: an empty one would say none, and the next token would be given position 0.
    """
    layers, gone = family.layers_of(model), structure["attention"]
    types = getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"] * len(layers)
    for name in dict.fromkeys(types):
        places = [i for i, kind_of_layer in enumerate(types) if kind_of_layer == name]
        live = [i for i in places if i not in gone] + [i for i in places if isinstance(gone.get(i), dict)]
        for place, i in zip(places, live, strict=False):
            for module in layers[i].modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = place
