"""A network whose weights stay in their file: each layer reads its own when it is called, and gives them back.

The network is built without memory (torch's device "meta"). Hooks on every layer fill it before a call and empty it
behind, so that whatever watches a pass works as on a loaded network. An embedding reads the rows of the text, and a
stack of experts in safetensors those that a token takes, one at a time. A network without a row in the table of
families is traced in the same way. Experts that a file has one by one become the stacks that transformers makes of
them.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.describe import Description, describe
from ctrlattn.checkpoints.network.expert_stack import ExpertStack, stacks_of
from ctrlattn.checkpoints.network.foreign import foreign
from ctrlattn.checkpoints.network.gguf import GGUFStore
from ctrlattn.checkpoints.network.headers import safetensors_header, shards
from ctrlattn.checkpoints.network.made_buffers import fill_buffers, stored_buffers
from ctrlattn.checkpoints.network.own_pages import OwnPages
from ctrlattn.checkpoints.network.proved import proved
from ctrlattn.checkpoints.network.save import is_changed
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.errors import InputError

_WHOLE = "load it as a whole, with checkpoints.load"
_FILL = "_ctrlattn_fill"
_INDEX = "model.safetensors.index.json"
_AT_ONCE = 1 << 26  # numbers that are read of a file before it is opened again
_MIXTRAL = {"block_sparse_moe": "mlp", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
_EXPERTS = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)")


class _Store(Protocol):
    """Weights by their name in the network."""

    def names(self) -> set[str]: ...

    def read(self, names: set[str]) -> dict[str, torch.Tensor]: ...

    def rows(self, name: str, rows: list[int]) -> torch.Tensor: ...


def on_disk(source: Any, *, tokenizer: Any | None = None, attention: str = "eager") -> Checkpoint:
    """Open a checkpoint for analysis with the weights of one layer at a time in memory, float32.

    It has no head: it gives the stream, not the next token. A pass reads every weight once. What watches passes (`tap`,
    `summaries`, `importance`, `feedback_profile`) works on it, and gives the numbers of a loaded network; what changes
    weights, or saves them, does not. A network without a row in the table of families is traced, which takes passes on
    eight tokens.

    Parameters
    ----------
    source : path
        A directory with config.json and safetensors, in one file or several, or a .gguf file.
    tokenizer : optional
        In place of the one beside the weights.
    attention : "eager" or "sdpa"

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        As for `load`; weights that are stored in other pieces than the network has, other than experts one by one; an
        adapter beside the weights, or a structure that `save` wrote. At a pass: a file that was changed since.

    Examples
    --------
    >>> on_disk("no/such/directory")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no/such/directory: no such directory...
    """
    return opened(describe(source), tokenizer, attention)


def opened(description: Description, tokenizer: Any | None = None, attention: str = "eager") -> Checkpoint:
    """Apply `on_disk` to what was described."""
    _require_plain(description)
    with foreign(description.source):
        model = _empty(description, attention)
    store = _store(description, model)
    missing = sorted((dict(model.named_parameters()).keys() | stored_buffers(model).keys()) - store.names())
    if missing:
        raise InputError(
            f"{description.source}: {len(missing)} weights of the network are not in the file as it has them, the "
            f"first is {missing[0]}: {_WHOLE}"
        )
    row = description.family
    layers = _layers(description, model) if row is None else row.layers_of(model)
    _attach(model, layers, store, _Unchanged(files_read(description)))
    family = row or Traced(description.model_type, proved(model.eval()))
    network = Checkpoint(model.eval(), tokenizer or description.loaded_tokenizer, family, description.name)
    for sublayer in network.sublayers():
        if sublayer.after is not None:
            getattr(layers[sublayer.layer], _FILL).keep(sublayer.after)
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
    """Return the layers of a network that no row describes: the one list of as many modules."""
    lists = [m for m in model.modules() if type(m) is torch.nn.ModuleList and len(m) == description.layers]
    if len(lists) != 1:
        raise InputError(
            f"{description.source}: {len(lists)} lists of modules may be its {description.layers} layers: {_WHOLE}"
        )
    return list(lists[0])


def _empty(description: Any, attention: str) -> Any:
    """Make the network without its head and without memory for its parameters; computed buffers have theirs."""
    import transformers

    made = description.gguf_configuration
    config = description.config if made is None else made.config
    if config is None:
        raise InputError(f"{description.source}: its configuration cannot be read alone: {_WHOLE}")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config, attn_implementation=attention, dtype=torch.float32)
    try:
        fill_buffers(model)
    except InputError as error:
        raise InputError(f"{description.source}: {error}: {_WHOLE}") from error
    return model.requires_grad_(False)


def _store(description: Description, model: Any) -> _Store:
    folder = Path(description.folder)
    if description.gguf is not None:
        made: Any = description.gguf_configuration
        return GGUFStore(folder / description.gguf, model, torch.float32, made)
    shapes = {name: weight.shape for name, weight in model.named_parameters()} | stored_buffers(model)
    return _Safetensors(folder, {name: tuple(shape) for name, shape in shapes.items()})


def _shards(folder: Path) -> list[str]:
    files = sorted(set(shards(folder / _INDEX).values())) if (folder / _INDEX).is_file() else ["model.safetensors"]
    if not (folder / files[0]).is_file():
        raise InputError(f"{folder}: no safetensors file: {_WHOLE}")
    return files


class _Piece(NamedTuple):
    """A tensor of a file, and the part of a weight that it is."""

    path: Path
    stored: str
    part: tuple[int | slice, ...]


class _Safetensors:
    """Weights of the safetensors files of a directory, which the system maps into memory."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes, self.pages = shapes, OwnPages()
        there: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
        for path in (folder / file for file in _shards(folder)):
            for stored, shape in safetensors_header(path).items():
                # A file may have been written with the name of the base model in front, or without it.
                name = _in_network(stored)
                there[name] = there[name.partition(".")[2]] = (path, stored, shape)
        self.pieces: dict[str, list[_Piece]] = {}
        for name, shape in shapes.items():
            for parts in (((name, shape, ()),), tuple(_experts(name, shape))):
                if parts and all(part in there and there[part][2] == size for part, size, _ in parts):
                    self.pieces[name] = [_Piece(*there[part][:2], place) for part, _, place in parts]
                    break

    def names(self) -> set[str]:
        return set(self.pieces)

    def read(self, names: set[str]) -> dict[str, torch.Tensor]:
        from safetensors import safe_open

        weights = {name: self.pages.room(self.shapes[name]) for name in names}
        pieces = sorted((piece.path, name, piece) for name in names for piece in self.pieces[name])
        while pieces:
            path, numbers = pieces[-1][0], 0
            # A file that stays open keeps every page that was read in memory.
            with safe_open(path, "pt") as file:
                while pieces and pieces[-1][0] == path and numbers < _AT_ONCE:
                    _, name, piece = pieces.pop()
                    part = weights[name][piece.part]
                    part.copy_(file.get_tensor(piece.stored))
                    numbers += part.numel()
        return weights

    def stack(self, name: str) -> torch.Tensor:
        return self.read({name})[name]

    def expert(self, name: str, i: int) -> torch.Tensor:
        """Read expert i of a stack."""
        from safetensors import safe_open

        weight = self.pages.room(self.shapes[name][1:])
        for path, stored, part in self.pieces[name]:
            if part[:1] in ((), (i,)):
                with safe_open(path, "pt") as file:
                    weight[part[1:]].copy_(file.get_tensor(stored) if part else file.get_slice(stored)[i])
        return weight

    def rows(self, name: str, rows: list[int]) -> torch.Tensor:
        from safetensors import safe_open

        path, stored, _ = self.pieces[name][0]
        with safe_open(path, "pt") as file:
            part = file.get_slice(stored)
            return torch.cat([part[i : i + 1] for i in rows]).float()


def _in_network(stored: str) -> str:
    """Return the name in the network of a weight of a file; Mixtral's files have other words.

    >>> _in_network("model.layers.0.block_sparse_moe.experts.1.w3.weight")
    'model.layers.0.mlp.experts.1.up_proj.weight'
    """
    if ".block_sparse_moe." not in stored:
        return stored
    return ".".join(_MIXTRAL.get(word, word) for word in stored.split("."))


def _experts(name: str, shape: tuple[int, ...]) -> Iterable[tuple[str, tuple[int, ...], tuple[int | slice, ...]]]:
    """Yield (name in the file, its shape, its part of the stack) of experts that a file has one by one.

    >>> [(name, part) for name, _, part in _experts("mlp.experts.down_proj", (2, 4, 3))]
    [('mlp.experts.0.down_proj.weight', (0,)), ('mlp.experts.1.down_proj.weight', (1,))]
    """
    stack = _EXPERTS.fullmatch(name)
    if stack is None or len(shape) != 3:
        return
    count, rows, columns = shape
    for i in range(count):
        if stack[2] == "down_proj":
            yield f"{stack[1]}.{i}.down_proj.weight", (rows, columns), (i,)
        else:
            half = rows // 2
            yield f"{stack[1]}.{i}.gate_proj.weight", (half, columns), (i, slice(half))
            yield f"{stack[1]}.{i}.up_proj.weight", (half, columns), (i, slice(half, None))


class _Rows(torch.nn.Module):
    """An embedding that reads the rows it is asked for."""

    def __init__(self, store: _Store, name: str, like: torch.nn.Embedding) -> None:
        super().__init__()
        self.store, self.name = store, name
        self.num_embeddings, self.embedding_dim = like.num_embeddings, like.embedding_dim
        # transformers asks the first parameter of a network for its device.
        self.none = torch.nn.Parameter(torch.zeros(0), requires_grad=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        different, places = ids.unique(return_inverse=True)
        return self.store.rows(self.name, different.tolist())[places]


def _read_rows_when_called(module: torch.nn.Embedding, store: _Store, name: str) -> None:
    """Let an embedding that scales its rows have those of a text alone, numbered anew, while it is called."""
    empty = torch.nn.Parameter(torch.zeros(0), requires_grad=False)

    def fill(_: Any, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        different, places = given[0].unique(return_inverse=True)
        _set(module, "weight", store.rows(name, different.tolist()))
        return (places,)

    def leave(*_: Any) -> None:
        _set(module, "weight", empty)

    leave()
    module.padding_idx = None  # it would count among the numbers of the text; it matters to gradients alone
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
        names = {name: prefix + name for name, _ in layer.named_parameters()}
        inside |= set(names.values())
        if isinstance(store, _Safetensors):
            _read_experts_alone(model, stacks_of(layer), names, store)
        _fill_when_called(layer, names, store, unchanged)
    outside = {name for name, _ in model.named_parameters()} - inside
    for name, module in list(model.named_modules()):
        if f"{name}.weight" in inside:
            continue
        if type(module) is torch.nn.Embedding:
            model.set_submodule(name, _Rows(store, f"{name}.weight", module))
        elif isinstance(module, torch.nn.Embedding) and type(module).__name__.endswith("ScaledWordEmbedding"):
            _read_rows_when_called(module, store, f"{name}.weight")
        else:
            continue
        outside.discard(f"{name}.weight")
    for name, weight in store.read(outside).items():
        _set(model, name, weight)
    for name, buffer in store.read(set(stored_buffers(model))).items():  # a few numbers each, which stay
        path, _, last = name.rpartition(".")
        model.get_submodule(path)._buffers[last] = buffer


def _read_experts_alone(
    model: Any, stacks: dict[str, tuple[Any, str]], names: dict[str, str], store: _Safetensors
) -> None:
    """Put a stack that is read by its experts in the place of each, and take it from the names that a layer reads."""
    for name, (module, last) in stacks.items():
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
        self.empty = dict(layer.named_parameters())

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
