"""A network whose weights stay in their file: each layer reads its own when it is called, and gives them back.

The network is built without memory (torch's device "meta"). Hooks on every layer fill it before a call and empty it
behind, so that whatever watches a pass works as on a loaded network. Of an embedding the rows of the text are read, and
of experts in safetensors those that a token takes, one at a time. A network without a row in the table of families is
traced in the same way. Weights that a file has under other names, or in other pieces, become those of the network as
transformers makes them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.describe import Description, describe
from ctrlattn.checkpoints.network.expert_stack import ExpertStack, stacks_of
from ctrlattn.checkpoints.network.foreign import foreign
from ctrlattn.checkpoints.network.gguf import GGUFStore
from ctrlattn.checkpoints.network.headers import shards
from ctrlattn.checkpoints.network.load import in_one_piece, loader
from ctrlattn.checkpoints.network.made_buffers import fill_buffers, stored_buffers
from ctrlattn.checkpoints.network.proved import proved
from ctrlattn.checkpoints.network.save import is_changed
from ctrlattn.checkpoints.network.stored_weights import StoredWeights
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.trace.eager import supported
from ctrlattn.errors import InputError

_WHOLE = "load it as a whole, with checkpoints.load"
_FILL = "_ctrlattn_fill"
_INDEX = "model.safetensors.index.json"


class _Store(Protocol):
    """Weights by their name in the network."""

    def names(self) -> set[str]: ...

    def read(self, names: set[str]) -> dict[str, torch.Tensor]: ...

    def rows(self, name: str, rows: list[int]) -> torch.Tensor: ...


def on_disk(
    source: Any, *, tokenizer: Any | None = None, attention: str = "eager", inputs: dict[str, Any] | None = None
) -> Checkpoint:
    """Open a checkpoint for analysis with the weights of one layer at a time in memory, float32.

    It has no head: it gives the stream, neither the next token nor a class. A pass reads every weight once. What
    watches passes (`tap`, `summaries`, `importance`, `feedback_profile`) works on it, and gives the numbers of a loaded
    network; what changes weights, or saves them, does not. A network without a row in the table of families is traced,
    which takes passes on eight tokens or one image.

    Parameters
    ----------
    source : path
        A directory with config.json and safetensors, in one file or several, or a .gguf file.
    tokenizer : optional
        In place of the one beside the weights.
    attention : "eager" or "sdpa"
    inputs : dict, optional
        Arguments of the network for tracing, where eight tokens of its vocabulary or an image of its size will not do.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        As for `load`; weights that the files lack by transformers' table of names, other than those of a pooler; no
        list of modules that may be its layers; an adapter beside the weights, or a structure that `save` wrote. At a
        pass: a file that was changed since.

    Examples
    --------
    >>> on_disk("no/such/directory")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no/such/directory: no such directory...
    """
    return opened(describe(source), tokenizer, attention, inputs)


def opened(
    description: Description,
    tokenizer: Any | None = None,
    attention: str = "eager",
    inputs: dict[str, Any] | None = None,
) -> Checkpoint:
    """Apply `on_disk` to what was described."""
    _require_plain(description)
    with foreign(description.source):
        whole = _empty(description, attention)
    model = _without_head(whole)
    store = _store(description, whole, model)
    missing = sorted(_weights(model) - store.names() - _poolers(model, store))
    if missing:
        raise InputError(
            f"{description.source}: {len(missing)} weights of the network are not in the file as it has them, the "
            f"first is {missing[0]}: {_WHOLE}"
        )
    in_one_piece(model)
    row = description.family
    layers = _layers(description, model) if row is None else row.layers_of(model)
    _attach(model, layers, store, _Unchanged(files_read(description)))
    family = row or Traced(description.model_type, proved(model.eval(), inputs))
    network = Checkpoint(model.eval(), tokenizer or description.loaded_tokenizer, family, description.name)
    _require_filled(description.source, network)
    for sublayer in network.sublayers():
        filling = getattr(network.layers[sublayer.layer], _FILL, None)
        if sublayer.after is not None and filling is not None:
            filling.keep(sublayer.after)
    return network


def files_read(description: Description) -> tuple[Path, ...]:
    """Return the files that decide a network on disk, all of which are read for it."""
    folder = Path(description.folder)
    if description.header is not None:
        return description.header.paths
    index = [_INDEX] if (folder / _INDEX).is_file() else []
    return tuple(folder / name for name in ("config.json", *index, *_shards(folder)))


@contextmanager
def weights_of(layer: Any) -> Iterator[None]:
    """Give a layer its weights inside the block, whether they are in memory anyway or on disk."""
    with getattr(layer, _FILL, nullcontext)():
        yield


def _require_plain(description: Description) -> None:
    """Raise InputError for what `load` would put on top of the weights, or take out, and nothing here would."""
    folder = Path(description.folder)
    if description.gguf is None and (is_changed(folder) or (folder / "adapter_config.json").exists()):
        raise InputError(f"{description.source}: an adapter or a changed structure belongs to its weights: {_WHOLE}")


def _layers(description: Description, model: Any) -> list[Any]:
    """Return what may be the layers of a network that no row describes: the members of its lists of as many modules.

    Where no list is as long, as in the decoder alone of two stacks, it is the one with the most weights.
    """
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    inside = {id(inner) for each in lists for inner in each.modules() if inner is not each}
    outermost = [_members(each) for each in lists if id(each) not in inside]
    if not outermost:
        raise InputError(f"{description.source}: no list of modules may be its layers: {_WHOLE}")
    layer_lists = [each for each in outermost if len(each) == description.layers] or [max(outermost, key=_numbers)]
    return [layer for each in layer_lists for layer in each]


def _members(modules: Any) -> list[Any]:
    """Return the members of a list of modules, and of lists in it, which nothing calls themselves."""
    return [
        inner
        for module in modules
        for inner in (_members(module) if isinstance(module, torch.nn.ModuleList) else [module])
    ]


def _numbers(modules: list[Any]) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())


def _require_filled(source: str, network: Checkpoint) -> None:
    """Raise InputError where a layer has its weights only while a module around it is called."""
    for i, layer in enumerate(network.layers):
        if not hasattr(layer, _FILL) and any(weight.is_meta for weight in layer.parameters()):
            raise InputError(f"{source}: layer {i} is not a member of the list that is read member by member: {_WHOLE}")


def _weights(model: Any) -> set[str]:
    """Return the names of weights, and of buffers that belong into a file; what stands in two places has both names."""
    return {name for name, _ in model.named_parameters(remove_duplicate=False)} | stored_buffers(model).keys()


def _poolers(model: Any, store: _Store) -> set[str]:
    """Make weights of a pooler that the files lack NaN, and return their names: no layer reads what it makes."""
    names = {name for name, _ in model.named_parameters() if "pooler" in name} - store.names()
    for name in names:
        _set(model, name, torch.tensor(torch.nan).expand(model.get_parameter(name).shape))
    return names


def _empty(description: Any, attention: str) -> Any:
    """Build the network as `load` does, whose parameters have no memory; what it makes of its configuration has."""
    import transformers

    configuration = description.gguf_configuration
    config = description.config if configuration is None else configuration.config
    if config is None:
        raise InputError(f"{description.source}: its configuration cannot be read alone: {_WHOLE}")
    cls = loader(description)
    architecture = getattr(transformers, description.architecture, cls)
    build = cls.from_config if hasattr(cls, "from_config") else cls._from_config
    with torch.device("meta"):
        model = build(config, attn_implementation=supported(architecture, attention), dtype=torch.float32)
    try:
        fill_buffers(model)
    except InputError as error:
        raise InputError(f"{description.source}: {error}: {_WHOLE}") from error
    return model.requires_grad_(False)


def _without_head(network: Any) -> Any:
    """Return the part of a network that gives the stream."""
    import transformers

    headless: Any = transformers.MODEL_MAPPING.get(type(network.config), None)
    if headless is not None and isinstance(network, headless):
        return network
    base = network.base_model
    # A mere shell around the decoder of two stacks does not know what its inputs are.
    return base.decoder if type(base).__name__.endswith("DecoderWrapper") else base


def _store(description: Description, network: Any, model: Any) -> _Store:
    folder = Path(description.folder)
    if description.gguf is not None:
        configuration: Any = description.gguf_configuration
        return GGUFStore(folder / description.gguf, model, torch.float32, configuration)
    prefix = next(name for name, module in network.named_modules() if module is model)
    return StoredWeights([folder / file for file in _shards(folder)], network, prefix + "." * bool(prefix))


def _shards(folder: Path) -> list[str]:
    files = sorted(set(shards(folder / _INDEX).values())) if (folder / _INDEX).is_file() else ["model.safetensors"]
    if not (folder / files[0]).is_file():
        raise InputError(f"{folder}: no safetensors file: {_WHOLE}")
    return files


def _read_rows_when_called(module: torch.nn.Embedding, store: _Store, name: str) -> None:
    """Let an embedding have the rows of a text alone, numbered anew, while it is called.

    Else something stands there that reads what is asked of it: a network may look for the row of its padding.
    """
    shape, padding = tuple(module.weight.shape), module.padding_idx
    stand_in = ExpertStack(shape, lambda i: store.rows(name, [i])[0], lambda: store.read({name})[name])

    def fill(_: Any, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        different, places = arguments[0].unique(return_inverse=True)
        object.__setattr__(module, "weight", store.rows(name, different.tolist()))
        module.padding_idx = None  # it would count among the numbers of the text; it matters to gradients alone
        return (places,)

    def leave(*_: Any) -> None:
        object.__setattr__(module, "weight", stand_in)
        module.padding_idx = padding

    del module._parameters["weight"]
    leave()
    module.register_forward_pre_hook(fill)
    module.register_forward_hook(leave, always_call=True)


class _Unchanged:
    """Raises InputError when it is called and a file is another than before: a pass would mix two networks."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.states = {path: self._state(path) for path in paths}

    def __call__(self) -> None:
        for path, state in self.states.items():
            if self._state(path) != state:
                raise InputError(f"{path}: was changed while it was read: start again when nothing writes to it")

    @staticmethod
    def _state(path: Path) -> tuple[int, ...]:
        fact = path.stat()
        return (fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns)


def _attach(model: Any, layers: list[Any], store: _Store, unchanged: _Unchanged) -> None:
    """Let every layer read its weights when it is called; what is outside of the layers is read once."""
    prefixes = {id(module): name for name, module in model.named_modules()}
    inside: set[str] = set()
    for layer in layers:
        prefix = prefixes[id(layer)] + "."
        names = {name: prefix + name for name, _ in layer.named_parameters(remove_duplicate=False)}
        inside |= set(names.values())
        if isinstance(store, StoredWeights):
            _read_experts_alone(model, stacks_of(layer), names, store)
        _fill_when_called(layer, names, store, unchanged)
    outside = {name for name, _ in model.named_parameters(remove_duplicate=False)} & store.names() - inside
    for name, module in list(model.named_modules()):
        if f"{name}.weight" in inside:
            continue
        scaled = isinstance(module, torch.nn.Embedding) and type(module).__name__.endswith("ScaledWordEmbedding")
        if scaled or type(module) is torch.nn.Embedding:
            _read_rows_when_called(module, store, f"{name}.weight")
            outside.discard(f"{name}.weight")
    for name, weight in store.read(outside).items():
        _set(model, name, weight)
    for module in model.modules():
        if hasattr(module, "_init_weights"):  # transformers asks the first parameter of a network for its device
            module.register_parameter("none", torch.nn.Parameter(torch.zeros(0), requires_grad=False))
    for name, buffer in store.read(set(stored_buffers(model))).items():  # a few numbers each, which stay
        path, _, last = name.rpartition(".")
        buffers = model.get_submodule(path)._buffers
        buffers[last] = buffer.to(buffers[last].dtype)  # a GGUF file gives them all in float32


def _read_experts_alone(
    model: Any, stacks: dict[str, tuple[Any, str]], names: dict[str, str], store: StoredWeights
) -> None:
    """Put a stack that is read by its experts in the place of each, and take it from the names that a layer reads."""
    for name, (module, last) in stacks.items():
        if not store.has_members(names[name]):
            continue
        stored = names.pop(name)
        stack = ExpertStack(store.shapes[stored], partial(store.expert, stored), partial(store.stack, stored))
        del module._parameters[last]
        object.__setattr__(module, last, stack)
    if stacks:
        model.set_experts_implementation("eager")  # the loop, which asks for one expert after the other


class _Filling:
    """The weights of a layer, which are there inside the block that a call begins."""

    brings = ()  # no setting of the layer: layers that differ in this alone are alike

    def __init__(self, layer: Any, names: dict[str, str], store: _Store, unchanged: _Unchanged) -> None:
        self.layer, self.names, self.store, self.unchanged = layer, names, store, unchanged
        self.empty = {name: weight.to("meta") for name, weight in layer.named_parameters(remove_duplicate=False)}

    def fill(self) -> None:
        self.unchanged()
        weights = self.store.read(set(self.names.values()))
        for name, stored in self.names.items():
            _set(self.layer, name, weights[stored])

    def leave(self) -> None:
        for name, weight in self.empty.items():
            _set(self.layer, name, weight)

    def keep(self, module: Any) -> None:
        """Leave a module its weights: a norm behind a sum is asked once more when the call of its layer has ended."""
        prefix = next(name for name, each in self.layer.named_modules() if each is module)
        for name in [name for name in self.names if name.rpartition(".")[0] == prefix]:
            stored = self.names.pop(name)
            _set(self.layer, name, self.store.read({stored})[stored])
            del self.empty[name]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.fill()
        try:
            yield
        finally:
            self.leave()


def _fill_when_called(layer: Any, names: dict[str, str], store: _Store, unchanged: _Unchanged) -> None:
    filling = _Filling(layer, names, store, unchanged)

    def fill(*_: Any) -> None:
        filling.fill()

    def leave(*_: Any) -> None:
        filling.leave()

    layer.register_forward_pre_hook(fill)
    layer.register_forward_hook(leave, always_call=True)  # also where the pass fails, or the next one holds two layers
    object.__setattr__(layer, _FILL, filling)


def _set(module: Any, name: str, weight: torch.Tensor) -> None:
    path, _, last = name.rpartition(".")
    module.get_submodule(path)._parameters[last] = torch.nn.Parameter(weight, requires_grad=False)
