"""A changed network on disk: config.json with its structure, weights in safetensors; nothing half-written.

Bare drops are saved as a model of transformers with zeros where a sublayer was: plain transformers computes the same
function, at the old cost, and `checkpoints.load` takes the sublayers out again. With gains or repeated layers no model
of transformers computes the same; such a directory has model_type "ctrlattn" and its weights in ctrlattn.safetensors,
so that plain transformers refuses it. The weights of repeated layers are written once, with the law of the loop.
"""

import json
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import KEY, Family, family_of
from ctrlattn.checkpoints.network.readme import readme
from ctrlattn.checkpoints.network.repeat import entry_of, loop_in, repeat, unrepeated
from ctrlattn.checkpoints.network.structure import DropStructure, apply, structure_from, structure_of, traced_in
from ctrlattn.checkpoints.trace.eager import supported
from ctrlattn.errors import InputError
from ctrlattn.files import atomic, output_directory, visible
from ctrlattn.parsing import read_json

_PLAIN, _OWN = "model.safetensors", "ctrlattn.safetensors"
_UNDER_WAY = ".ctrlattn.saving"  # lists what was in the directory before; it goes once all is written
_LIBRARIES = ("transformers.", "accelerate.", "torch.", "ctrlattn.")


def save(checkpoint: Checkpoint, directory: str | os.PathLike[str]) -> Path:
    """Write a checkpoint, changed by `drop` or `repeat` or whole, so that `checkpoints.load` gives it back.

    Parameters
    ----------
    checkpoint : Checkpoint
    directory : path
        Made if absent. config.json is written last: until then the directory does not load. Weights are written in the
        dtype that they had on disk, where that loses nothing; gains keep theirs. README.md says how to load it.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    InputError
        A directory that cannot be written; one that holds another checkpoint; a network whose weights are not those of
        its configuration, such as one with adapters that are not merged, or whose code was changed: a module of another
        class, another forward, a hook, another number such as the eps of a norm.

    Examples
    --------
    >>> import tempfile
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> smaller = checkpoints.drop(checkpoints.load(transformers.GPT2LMHeadModel(config)), attention=[1])
    >>> sorted(p.name for p in save(smaller, tempfile.mkdtemp()).iterdir())
    ['README.md', 'config.json', 'generation_config.json', 'model.safetensors']
    """
    folder = output_directory(directory)
    if visible(folder, "*.safetensors") or (folder / "config.json").exists():
        raise InputError(f"{folder}: holds a checkpoint already; name an empty or a new directory")
    with _under_way(folder):
        _save(checkpoint, folder)
    return folder


@contextmanager
def _under_way(folder: Path) -> Iterator[None]:
    """Mark a directory while the block writes there; remove what a block that fails has written, and no other file."""
    mark = folder / _UNDER_WAY
    earlier = sorted(path.name for path in folder.iterdir())
    with atomic(mark) as path:
        path.write_text(json.dumps(earlier), encoding="utf-8")
    try:
        yield
    except BaseException:
        discard_unfinished(folder)
        raise
    mark.unlink()


def _save(checkpoint: Checkpoint, folder: Path) -> None:
    model = getattr(checkpoint.model, "_orig_mod", checkpoint.model)  # torch.compile wraps the network
    loop = entry_of(model)
    family, model = unrepeated(checkpoint.family, model)
    custom = _has_gains(structure_of(model)) or loop is not None
    missing = _dropped_weights(family, model)
    weights, dtype = _narrow(model, _weights(model), checkpoint.stored)
    if not custom:
        weights |= {name: torch.zeros(weight.shape, dtype=dtype) for name, weight in missing.items()}
    _write_weights(weights, folder / (_OWN if custom else _PLAIN))
    if checkpoint.tokenizer is not None:
        checkpoint.tokenizer.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)
    network = json.loads(model.config.to_json_string(use_diff=False))
    network |= {"architectures": [type(model).__name__], "dtype": str(dtype).removeprefix("torch.")}
    if loop is not None:
        network[KEY] |= loop
    with atomic(folder / "README.md") as path:
        path.write_text(readme(checkpoint.name, model, checkpoint.tokenizer, custom=custom), encoding="utf-8")
    with atomic(folder / "config.json") as path:
        config = {"model_type": KEY, "network": network} if custom else network
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def discard_unfinished(directory: str | os.PathLike[str]) -> None:
    """Remove what a killed `save` has left: a directory without config.json, which is written last, does not load.

    Raises
    ------
    InputError
        The directory has neither a network nor the mark of a `save` under way: its files are of somebody else.

    Examples
    --------
    >>> discard_unfinished("no/such/directory")
    """
    folder = Path(directory)
    if not folder.is_dir():
        return
    mark = folder / _UNDER_WAY
    if not (folder / "config.json").exists():
        if mark.exists():
            _remove_later(folder, read_json(mark))
        elif visible(folder):
            raise InputError(f"{folder}: holds files that no run of `drop` wrote: move them, or give another --out")
    mark.unlink(missing_ok=True)


def _remove_later(folder: Path, earlier: Container[str]) -> None:
    for path in list(folder.iterdir()):
        if path.name not in earlier and path.name != _UNDER_WAY:
            path.unlink()


def is_changed(directory: str | os.PathLike[str]) -> bool:
    """Tell whether a directory holds a network that `drop` or `repeat` has changed and `save` has written.

    >>> is_changed("no/such/directory")
    False
    """
    return _structure_in(_config_of(Path(directory))) is not None


def open_changed(
    directory: str | os.PathLike[str],
    *,
    tokenizer: Any | None = None,
    family: Family | None = None,
    dtype: torch.dtype = torch.float32,
    attention: str = "eager",
) -> Checkpoint:
    """Open what `save` wrote of a changed network: its sublayers gone, its gains in place, its layers repeated.

    Parameters
    ----------
    directory : path
    tokenizer, family, attention
        As for `load`.
    dtype : torch.dtype

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        A directory that holds no such network; weights that are missing or not those of its structure.
    """
    import transformers

    folder = Path(directory)
    raw = _config_of(folder)
    structure = _structure_in(raw)
    if structure is None:
        raise InputError(f"{folder}: holds no network that was changed by drop or repeat")
    network = raw.get("network", raw)
    loop = loop_in(network[KEY])
    config = type(transformers.AutoConfig.for_model(network["model_type"])).from_dict(network)
    stored = config.dtype  # what it was saved in, before it becomes what it is loaded in
    row = family or traced_in(network[KEY]) or family_of(network["model_type"])
    weights = _read_weights(folder / (_PLAIN if loop is None and not _has_gains(structure) else _OWN))
    model = _build(config, weights, row, structure, dtype=dtype, attention=attention)
    if (folder / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    if tokenizer is None and any("token" in path.name for path in visible(folder)):
        where = {"config": config, "local_files_only": True, "trust_remote_code": False}
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
    checkpoint = Checkpoint(model, tokenizer, row, str(folder), stored)
    return checkpoint if loop is None else repeat(checkpoint, **loop)


def _build(
    config: Any, weights: dict[str, torch.Tensor], family: Any, structure: DropStructure, *, dtype: Any, attention: str
) -> Any:
    empty = _empty(_class_of(config), config)
    state_of_all, tied = empty.state_dict(), set(empty.all_tied_weights_keys)
    # What is gone gets zeros that take no memory, so that nothing is missing, and goes again at once.
    lacking = state_of_all.keys() - weights.keys() - tied
    filled = {name: torch.zeros(()).expand(state_of_all[name].shape) for name in lacking}
    stored = {name: weight for name, weight in weights.items() if name in state_of_all}
    if dtype == torch.float64:  # the grouped products of experts know no doubles
        config._experts_implementation = "eager"
    options = {"config": config, "dtype": dtype, "attn_implementation": supported(empty, attention)}
    model = type(empty).from_pretrained(None, state_dict={**filled, **stored}, **options).eval()
    apply(family, model, structure)
    missing = sorted(model.state_dict().keys() - weights.keys() - tied)
    if missing:
        raise InputError(f"{len(missing)} weights are missing in the file, the first is {missing[0]}")
    model.load_state_dict({name: weight for name, weight in weights.items() if name not in state_of_all}, strict=False)
    return model


def _config_of(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        config = read_json(folder / "config.json")
        return config if isinstance(config, dict) else {}
    return {}


def _structure_in(config: dict[str, Any]) -> DropStructure | None:
    entry = config.get("network", config).get(KEY) if isinstance(config.get("network", {}), dict) else None
    return structure_from(entry) if isinstance(entry, dict) else None


def _has_gains(structure: DropStructure) -> bool:
    return any(stand is not None for layers in structure.values() for stand in layers.values())


def _dropped_weights(family: Any, model: Any) -> dict[str, torch.Tensor]:
    """Return the weights that the structure says are gone; raise InputError where any other is missing or too many.

    Without this check a name that is missing for another reason is written as zeros: whole layers of an adapted,
    compiled or pruned network are then lost without a word.
    """
    remainder = _empty(type(model), model.config)
    state_of_all = remainder.state_dict()
    apply(family, remainder, structure_of(model))
    expected, state = remainder.state_dict(), model.state_dict()
    tied = set(model.all_tied_weights_keys)
    missing, strange = sorted(expected.keys() - state.keys() - tied), sorted(state.keys() - expected.keys())
    misshapen = sorted(name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape)
    if missing or strange or misshapen:
        faults = (("it lacks", missing), ("it has", strange), ("another shape has", misshapen))
        first = next(f"{word} {names[0]}" for word, names in faults if names)
        raise InputError(
            f"the network is no {type(model).__name__} of its configuration: {first}. An adapter has to be merged "
            "(merge_and_unload), a parametrisation removed (remove_parametrizations), and layers are taken out by "
            "checkpoints.drop"
        )
    _require_plain(model, dict(remainder.named_modules()))
    return {name: weight for name, weight in sorted(state_of_all.items()) if name not in expected}


def _require_plain(model: Any, plain: dict[str, Any]) -> None:
    """Raise InputError where a module computes something else than its configuration and its weights say.

    Code is not written: a network whose activation was exchanged, or that a hook changed, would come back as another
    one.
    """
    for name, module in model.named_modules():
        change = _change_in(module, plain.get(name))
        if change is not None:
            raise InputError(
                f"the network is no {type(model).__name__} of its configuration: {change} in "
                f"{name or 'the network'}, which is code and not weights, and would be lost; put it into the "
                "configuration or take it away"
            )


def _change_in(module: Any, plain: Any) -> str | None:
    """Say what is other in a module than in that which its configuration makes; None where nothing is."""
    if type(module) is not type(plain):
        return f"a {type(module).__name__} stands for a {type(plain).__name__}"
    if "forward" in vars(module):
        return "forward was replaced"
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    # Libraries that run a network put hooks there as well, which record and change nothing.
    if any(not str(getattr(hook, "__module__", "")).startswith(_LIBRARIES) for hook in hooks):
        return "there is a hook"
    if hasattr(module, "inv_freq"):  # rotations of a long text set their numbers as they run
        return None
    for key, value in vars(plain).items():
        actual = vars(module).get(key)
        if (
            type(value) is type(actual) is float
            and value != actual
            and "drop" not in key + type(module).__name__.lower()
        ):
            return f"{key} is {actual:g}, and {value:g} by the configuration,"
    return None


def _class_of(config: Any) -> Any:
    """Return the class of transformers that config.json names; the causal one of its type where it names none."""
    import transformers

    cls = getattr(transformers, str((config.architectures or [""])[0]), None)
    if isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel):
        return cls
    return transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def _empty(kind: Any, config: Any) -> Any:
    """Make the network before anything was dropped: it has names and shapes of its weights, and no memory."""
    with torch.device("meta"):
        return kind(deepcopy(config))


def _weights(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights without those that are tied to another."""
    tied = set(model.all_tied_weights_keys)
    return {name: weight.contiguous() for name, weight in model.state_dict().items() if name not in tied}


def _narrow(
    model: Any, weights: dict[str, torch.Tensor], dtype: torch.dtype | None
) -> tuple[dict[str, torch.Tensor], torch.dtype]:
    """Return (weights, dtype): all weights of the network in this dtype, where every one of them is exact in it.

    A network from bfloat16 files is computed in float32, and its weights are those of bfloat16 still.
    """
    if dtype is None:
        return weights, model.dtype
    state_of_all = _empty(type(model), model.config).state_dict()
    names = [name for name in state_of_all if name in weights and weights[name].is_floating_point()]
    narrow = {name: weights[name].to(dtype) for name in names}
    if all(torch.equal(narrow[name].to(weights[name].dtype), weights[name]) for name in names):
        return weights | narrow, dtype
    return weights, model.dtype


def _write_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot read the weights: {error}") from error
