"""x + F(x) -> x + G norm(x) + b: the structure of a changed network in its config, and how it is applied to a model.

A structure is a small dictionary that can be written into config.json under the key "ctrlattn": per kind of sublayer
the layers that were dropped, and for each what is in its place: null for nothing, a rank for a static gain, the
settings of a `MemoryGain`.
"""

import copy
from collections import OrderedDict
from itertools import chain
from typing import Any, cast

import torch

from ctrlattn.checkpoints.network.families import KEY, KINDS, Kind, Sublayer, at, sublayers
from ctrlattn.checkpoints.network.stand_ins import Beside, Gain, MemoryGain, Nothing
from ctrlattn.checkpoints.network.traced_family import Traced, traced_from

Stand = int | None | dict[str, Any]
DropStructure = dict[Kind, dict[int, Stand]]
_MORE_KINDS: tuple[Kind, ...] = ("mixer", "cross")  # which the table's families do not have
_STATES = ("conv", "linear_attention")  # layer types whose place in the cache holds a state, and counts no tokens


def shared(model: Any) -> Any:
    """Copy the network's modules and configuration around the same weights."""
    done: dict[int, Any] = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    # Most of what a module holds are places for hooks, all empty, and to copy them takes half of the time.
    places = (value for module in model.modules() for value in vars(module).values())
    done |= {id(place): OrderedDict() for place in places if type(place) is OrderedDict and not place}
    return copy.deepcopy(model, done)


def structure_of(model: Any) -> DropStructure:
    """Return what was dropped from a network; empty kinds for one that is whole."""
    return structure_from(getattr(model.config, KEY, None) or {})


def structure_from(entry: dict[str, Any]) -> DropStructure:
    """Make a structure from what a config holds.

    >>> structure_from({"attention": {"5": None}})
    {'attention': {5: None}, 'mlp': {}}
    """
    kinds = (*KINDS, *(kind for kind in _MORE_KINDS if kind in entry))
    return {kind: {int(layer): rank for layer, rank in entry.get(kind, {}).items()} for kind in kinds}


def traced_in(entry: dict[str, Any]) -> Traced | None:
    """Return the traced structure of the whole network, where a config holds one.

    >>> traced_in({"attention": {}}) is None
    True
    """
    return traced_from(entry["traced"]) if "traced" in entry else None


def apply(family: Any, model: Any, structure: DropStructure) -> None:
    """Make a whole network one of this structure, in place; the weights of its gains are zero."""
    for sublayer in sublayers(family, model):
        if sublayer.layer in structure.get(sublayer.kind, {}):
            put(family, model, sublayer, structure[sublayer.kind][sublayer.layer])
    record(family, model, structure)


def record(family: Any, model: Any, structure: DropStructure) -> None:
    """Write the structure into the network's config, and number the caches of what is left."""
    kinds = (*KINDS, *(kind for kind in _MORE_KINDS if structure.get(kind)))
    entry: dict[str, Any] = {kind: {str(i): rank for i, rank in structure.get(kind, {}).items()} for kind in kinds}
    if isinstance(family, Traced):
        entry["traced"] = family.as_dict()
    setattr(model.config, KEY, entry)
    _number_caches(family, model, structure)


def put(family: Any, model: Any, sublayer: Sublayer, settings: Stand) -> None:
    """Replace one sublayer by a new gain of these settings, or by nothing."""
    place(family, model, sublayer, stand_in(sublayer, settings))


def stand_in(sublayer: Sublayer, settings: Stand) -> torch.nn.Module:
    """Make what stands for a sublayer, by its entry in a structure; the weights of a gain are zero."""
    if isinstance(settings, dict) and "kept" in settings:
        return Beside(sublayer.module, stand_in(sublayer, settings["kept"]))
    # A row may also name the last linear map of a post-norm sublayer, which returns no matrix.
    pair = int(sublayer.kind == "attention" and not isinstance(sublayer.module, torch.nn.Linear))
    more = pair if sublayer.answer is None else sublayer.answer.more
    if settings is None or (sublayer.answer is not None and not sublayer.answer.direct):
        last = sublayer.module.out_features if isinstance(sublayer.module, torch.nn.Linear) else None
        if sublayer.answer is not None:  # what reads it as it is goes as well, so that it is what is added
            last = sublayer.width if sublayer.answer.direct else sublayer.answer.width
        return Nothing(last, pair=more)
    width = sublayer.norm.weight.shape[0] if sublayer.width is None else sublayer.width
    gain = MemoryGain(width, pair=more, **settings) if isinstance(settings, dict) else Gain(width, settings, pair=more)
    for parameter in gain.requires_grad_(False).parameters():
        torch.nn.init.zeros_(parameter)
    weight = next(chain.from_iterable(m.parameters() for m in _with_weights(sublayer)))
    return gain.to(weight).train(sublayer.module.training)


def _with_weights(sublayer: Sublayer) -> list[Any]:
    """Return modules of a sublayer; the first weight of them tells where a gain lives, and in which precision."""
    return [m for m in (sublayer.norm, sublayer.module, sublayer.after, sublayer.out) if m is not None]


def place(family: Any, model: Any, sublayer: Sublayer, stand: torch.nn.Module) -> None:
    """Put a stand-in where the sublayer is."""
    layer = family.layers_of(model)[sublayer.layer]
    layer.set_submodule(sublayer.path, stand)
    if sublayer.out_path == sublayer.path:
        return
    if sublayer.answer is not None and not sublayer.answer.direct:
        # What lies between would make something of a zero, such as its bias.
        layer.set_submodule(sublayer.out_path, Nothing(cast(int, sublayer.width), pair=0))
    elif sublayer.width is not None or sublayer.after is not None or isinstance(stand, Gain):
        # A gain is fitted to what is added to the stream, that is, to what the sublayer's last norm or map gave.
        layer.set_submodule(sublayer.out_path, torch.nn.Identity())


def gain_of(family: Any, model: Any, layer: int, kind: Kind) -> Gain:
    """Return the gain in the place of a sublayer."""
    if isinstance(family, Traced):
        module = next(s.module for s in family.sublayers_of(model) if (s.layer, s.kind) == (layer, kind))
        return cast(Gain, module.stand if isinstance(module, Beside) else module)
    return cast(Gain, at(family.layers_of(model)[layer], getattr(family, kind).module))


def _number_caches(family: Any, model: Any, structure: DropStructure) -> None:
    """Give the first places in the cache, of each type of attention, to the layers that still have attention.

    The next ones go to gains with memory. transformers asks the first layer of the cache, and the first of each type,
    how many tokens there are: an empty one would say none, and the next token would be given position 0. Among layers
    with a state it asks the last one whether there is any: they have the last places.
    """
    layers, stands = family.layers_of(model), _without_cache(family, model, structure)
    types = _cache_types(model, len(layers))
    for name in dict.fromkeys(types):
        places = [i for i, kind_of_layer in enumerate(types) if kind_of_layer == name]
        live = [i for i in places if i not in stands] + [i for i in places if isinstance(stands.get(i), dict)]
        if name in _STATES:
            places = places[len(places) - len(live) :]
        for place, i in zip(places, live, strict=False):
            for module in layers[i].modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = place


def _cache_types(model: Any, count: int) -> list[str]:
    """Return the type of each layer's place in the cache."""
    types = getattr(model.config.get_text_config(), "layer_types", None) or []
    return list(types) if len(types) == count else ["full_attention"] * count


def _without_cache(family: Any, model: Any, structure: DropStructure) -> dict[int, Stand]:
    """Return the layers in which nothing that mixes tokens is left, and what is in its place."""
    replaced: dict[int, Stand] = {}
    remaining: set[int] = set()
    for sublayer in sublayers(family, model):
        if sublayer.kind in ("mlp", "cross"):
            continue
        stands = structure.get(sublayer.kind, {})
        stand = stands.get(sublayer.layer)
        if sublayer.layer in stands and not (isinstance(stand, dict) and "kept" in stand):
            replaced[sublayer.layer] = stand
        else:
            remaining.add(sublayer.layer)
    return {layer: stand for layer, stand in replaced.items() if layer not in remaining}
