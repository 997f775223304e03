"""places = (0 ... b-1, a ... b-1, ..., b ... L-1): a network with the layers of these places, and all that counts them.

A row of the table says where the list of layers is. A traced network says it by the paths of its layers, and its
structure is unrolled as the layers are. A configuration counts them, and names the type of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from ctrlattn.checkpoints.network.families import Family, leads
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.errors import InputError

# What configurations of transformers say of each layer, and networks look up by its number while they run.
_OF_EACH_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types")
# Of one stack of an encoder-decoder the first name may count the layers of the other.
_COUNTS = ("num_hidden_layers", "decoder_layers", "num_decoder_layers")
_FIRST_SHARING = "first_kv_shared_layer_idx"  # gemma4 looks for it while it runs


def put_layers(family: Family | Traced, model: Any, layers: Sequence[Any], places: Sequence[int]) -> None:
    """Give a network these layers, in place; `places` says where each stood, and its configuration is changed alike.

    Raises
    ------
    InputError
        As `require_list`; a configuration that cannot name these types of layers.
    """
    root, path = require_list(family, model)
    before, configurations = root.get_submodule(path), list(_configurations(family, model))
    sequential = isinstance(before, torch.nn.Sequential)
    root.set_submodule(path, torch.nn.Sequential(*layers) if sequential else torch.nn.ModuleList(layers))
    for config in configurations:
        _count(config, len(before), places)
    owner = root.get_submodule(path.rpartition(".")[0])
    sharing = getattr(owner, _FIRST_SHARING, None)
    if sharing is not None:
        setattr(owner, _FIRST_SHARING, next((i for i, place in enumerate(places) if place >= sharing), len(places)))


def require_list(family: Family | Traced, model: Any) -> tuple[Any, str]:
    """Return (module, path from it to the list of all layers).

    Raises
    ------
    InputError
        Layers of a traced network that are called more than once in a pass, or are not the members of one list.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn.checkpoints import FAMILIES
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> require_list(FAMILIES["gpt2"], transformers.GPT2LMHeadModel(config))[1]
    'h'
    """
    if isinstance(family, Family):
        return model.base_model, next(path for path in family.layers.split("|") if leads(model.base_model, path))
    structure = family.structure
    numbers = [call.layer for call in structure.calls]
    if numbers != list(range(len(structure.layers))):
        raise InputError(
            f"a pass of this network calls {len(structure.layers)} layers {len(numbers)} times, since layers share "
            "their weights: a span of it has no one place in a pass, and cannot be repeated"
        )
    path = structure.layers[0].rpartition(".")[0]
    members = [f"{path}.{i}" for i in range(len(structure.layers))]
    if list(structure.layers) != members or len(model.get_submodule(path)) != len(members):
        raise InputError(
            f"the layers of this network ({structure.layers[0]} to {structure.layers[-1]}) are not all the members of "
            "one list in their order: no longer list can stand for it, and no span can be repeated"
        )
    return model, path


def unrolled(family: Family | Traced, places: Sequence[int]) -> Family | Traced:
    """Return the family of a network with these layers: a row as it is, a traced one with a call for each place.

    >>> from ctrlattn.checkpoints import FAMILIES
    >>> unrolled(FAMILIES["gpt2"], [0, 0, 1]) is FAMILIES["gpt2"]
    True
    """
    if isinstance(family, Family):
        return family
    path = family.structure.layers[0].rpartition(".")[0]
    structure = replace(
        family.structure,
        layers=tuple(f"{path}.{i}" for i in range(len(places))),
        calls=tuple(replace(family.structure.calls[place], layer=i) for i, place in enumerate(places)),
    )
    pairs = [(name.partition("/"), answer) for name, answer in family.answers.items()]
    answers = {
        f"{i}/{path}": answer
        for i, place in enumerate(places)
        for (layer, _, path), answer in pairs
        if int(layer) == place
    }
    return replace(family, structure=structure, answers=answers)


def _configurations(family: Family | Traced, model: Any) -> Iterator[Any]:
    """Yield the configurations that count the layers: in a composite network that of the part with the list."""
    text = model.config.get_text_config()
    if isinstance(family, Family):
        yield from {id(c): c for c in (text, model.base_model.config)}.values()
        return
    path = require_list(family, model)[1].split(".")
    above = (model.get_submodule(".".join(path[:i])) for i in range(len(path) - 1, -1, -1))
    nearest = next(config for module in above if (config := getattr(module, "config", None)) is not None)
    yield nearest
    if type(text) is type(nearest) and text is not nearest:
        yield text


def _count(config: Any, before: int, places: Sequence[int]) -> None:
    counts = {name: getattr(config, name, None) for name in _COUNTS}
    name = next((name for name, count in counts.items() if count == before), None)
    if name is None:
        raise InputError(
            f"the configuration of {config.model_type} says {counts['num_hidden_layers']} layers and the network has "
            f"{before}: it cannot say that some are repeated"
        )
    lists = {name: list(getattr(config, name, None) or ()) for name in _OF_EACH_LAYER}
    setattr(config, name, len(places))
    for name, types in lists.items():
        expected = [types[i] for i in places] if len(types) == before else types
        if list(getattr(config, name, None) or ()) == expected:
            continue
        try:
            setattr(config, name, expected)
        except AttributeError:  # a property: it is computed from a period
            raise InputError(
                f"the configuration of {config.model_type} computes {name} from the number of a layer, and so gives "
                f"other ones than these layers have: {', '.join(map(str, expected))}. Another span may do"
            ) from None
