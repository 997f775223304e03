"""x + F(x) -> x + G norm(x) + b: what a network is after sublayers were taken out, and what stands in their place.

A structure is a small dictionary that can be written into config.json under the key "ctrlattn": per kind of sublayer
the layers that were dropped, and for each the rank of the static gain in its place, null where nothing is there.
"""

import copy
from itertools import chain
from typing import Any, cast

import torch

from ctrlattn.checkpoints.families import KINDS, Family, Kind, Sublayer, at, sublayers

Structure = dict[Kind, dict[int, int | None]]
KEY = "ctrlattn"


class Gain(torch.nn.Module):
    """y_t = G u_t + b, u the normed stream that the sublayer read: a feedback gain, without a cache.

    Parameters
    ----------
    width : int
        d, features of the stream.
    rank : int
        Of G = out @ into; the whole G is stored in `out` where the two factors would be no smaller.
    pair : bool
        Whether a second output, None in place of the attention matrix, belongs to the answer.
    """

    def __init__(self, width: int, rank: int, *, pair: bool):
        super().__init__()
        self.pair = pair
        factored = 2 * rank < width
        self.into = torch.nn.Linear(width, rank, bias=False) if factored else torch.nn.Identity()
        self.out = torch.nn.Linear(rank if factored else width, width)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        y = self.out(self.into(hidden_states))
        return (y, None) if self.pair else y


class Nothing(torch.nn.Module):
    """y = 0."""

    def __init__(self, *, pair: bool):
        super().__init__()
        self.pair = pair

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        y = torch.zeros_like(hidden_states)
        return (y, None) if self.pair else y


def shared(model: Any) -> Any:
    """A copy of the network's modules and configuration around the same weights."""
    weights = {id(one): one for one in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, weights)


def structure_of(model: Any) -> Structure:
    """What was dropped from a network; empty kinds for one that is whole."""
    return structure_from(getattr(model.config, KEY, None) or {})


def structure_from(kept: dict[str, Any]) -> Structure:
    """A structure from what a config holds.

    >>> structure_from({"attention": {"5": None}})
    {'attention': {5: None}, 'mlp': {}}
    """
    return {kind: {int(layer): rank for layer, rank in kept.get(kind, {}).items()} for kind in KINDS}


def apply(family: Family, model: Any, structure: Structure) -> None:
    """Make a whole network one of this structure, in place; the weights of its gains are zero."""
    for one in sublayers(family, model):
        if one.layer in structure[one.kind]:
            put(family, model, one, structure[one.kind][one.layer])
    record(family, model, structure)


def record(family: Family, model: Any, structure: Structure) -> None:
    """Write the structure into the network's config, and number the caches of what is left."""
    setattr(model.config, KEY, {kind: {str(layer): rank for layer, rank in structure[kind].items()} for kind in KINDS})
    _number_caches(family, model, structure)


def put(family: Family, model: Any, one: Sublayer, rank: int | None) -> None:
    """Replace one sublayer by a gain of this rank, or by nothing."""
    # Of a post-norm network the last linear map of the sublayer is what is replaced.
    pair = one.kind == "attention" and not isinstance(one.module, torch.nn.Linear)
    layer = family.layers_of(model)[one.layer]
    if rank is None:
        layer.set_submodule(one.path, Nothing(pair=pair))
        return
    weight = one.norm.weight
    gain = Gain(weight.shape[0], rank, pair=pair).to(weight)
    torch.nn.init.zeros_(gain.out.weight)
    torch.nn.init.zeros_(gain.out.bias)
    layer.set_submodule(one.path, gain.requires_grad_(False).train(model.training))
    if one.out_path != one.path:
        # A gain is fitted to what is added to the stream, that is, to what the sublayer's last norm gave.
        layer.set_submodule(one.out_path, torch.nn.Identity())


def gain_of(family: Family, model: Any, layer: int, kind: Kind) -> Gain:
    """The gain in the place of a sublayer."""
    module = family.layers_of(model)[layer]
    return cast(Gain, at(module, getattr(family, kind).module))


def _number_caches(family: Family, model: Any, structure: Structure) -> None:
    """Give the first places in the cache, of each type of attention, to the layers that still have attention.

    transformers asks the first layer of the cache, and the first of each type, how many tokens there are: an empty one
    would say none, and the next token would be given position 0.
    """
    layers, gone = family.layers_of(model), structure["attention"]
    types = getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"] * len(layers)
    for name in dict.fromkeys(types):
        places = [i for i, one in enumerate(types) if one == name]
        live = [i for i in places if i not in gone]
        for place, i in zip(places, live, strict=False):
            for module in layers[i].modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = place
