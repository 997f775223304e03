"""A network whose weights stay in their file: each layer reads its own when it is called, and gives them back.

The network is built without memory (torch's device "meta"). Hooks on every layer fill it before a call and empty it
behind, so that whatever watches a pass works as on a loaded network. Of an embedding the rows of the text are read.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.describe import describe
from ctrlattn.checkpoints.network.foreign import foreign
from ctrlattn.checkpoints.network.gguf import GGUFStore
from ctrlattn.checkpoints.network.headers import shards
from ctrlattn.errors import InputError

_WHOLE = "load it as a whole, with checkpoints.load"
_FILL = "_ctrlattn_fill"


class _Store(Protocol):
    """Weights by their name in the network."""

    def names(self) -> set[str]: ...

    def read(self, names: set[str]) -> dict[str, torch.Tensor]: ...

    def rows(self, name: str, rows: list[int]) -> torch.Tensor: ...


def on_disk(source: Any, *, tokenizer: Any | None = None, attention: str = "eager") -> Checkpoint:
    """A checkpoint for analysis with the weights of one layer at a time in memory, float32.

    It has no head: it gives the stream, not the next token. A pass reads every weight once. What watches passes (`tap`,
    `summaries`, `importance`, `feedback_profile`) works on it, and gives the numbers of a loaded network; what changes
    weights, or saves them, does not.

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
        As for `load`; a `model_type` without a row in the table of families; weights that are stored in other pieces
        than the network has.

    Examples
    --------
    >>> on_disk("no/such/directory")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no/such/directory: no such directory...
    """
    description = describe(source, gguf_file=None, family=None, allow_download=False)
    if description.family is None:
        raise InputError(
            f"{description.source}: {description.model_type} has no row in the table of families, and tracing needs "
            f"all weights: {_WHOLE}"
        )
    with foreign(source):
        model = _empty(description, attention)
    store = _store(description, model)
    own = dict(model.named_parameters())
    missing = sorted(own.keys() - store.names())
    if missing:
        raise InputError(
            f"{description.source}: {len(missing)} weights of the network are not in the file as it has them, the "
            f"first is {missing[0]}: {_WHOLE}"
        )
    checkpoint = Checkpoint(model.eval(), tokenizer or description.tokenizer, description.family, description.name)
    _attach(checkpoint, store)
    return checkpoint


@contextmanager
def weights_of(layer: Any) -> Iterator[None]:
    """Inside the block, a layer has its weights, whether they are in memory anyway or on disk."""
    with getattr(layer, _FILL, nullcontext)():
        yield


def _empty(description: Any, attention: str) -> Any:
    """The network without its head, whose parameters have no memory; what it computes from its configuration has."""
    import transformers

    made = description.gguf_configuration
    config = description.config if made is None else made.config
    if config is None:
        raise InputError(f"{description.source}: its configuration cannot be read alone: {_WHOLE}")
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config, attn_implementation=attention, dtype=torch.float32)
    for module in model.modules():
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            if "RotaryEmbedding" not in type(module).__name__:
                raise InputError(f"{description.source}: {type(module).__name__} has numbers of its own: {_WHOLE}")
            module.to_empty(device="cpu", recurse=False)
            with torch.no_grad():
                model._init_weights(module)
    return model.requires_grad_(False)


def _store(description: Any, model: Any) -> _Store:
    folder = Path(description.folder)
    if description.gguf is not None:
        return GGUFStore(folder / description.gguf, model, torch.float32, description.gguf_configuration)
    return _Safetensors(folder, {name: tuple(weight.shape) for name, weight in model.named_parameters()})


class _Safetensors:
    """Weights of the safetensors files of a directory, which the system maps into memory."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
        from safetensors import safe_open

        index = folder / "model.safetensors.index.json"
        files = sorted(set(shards(index).values())) if index.is_file() else ["model.safetensors"]
        if not (folder / files[0]).is_file():
            raise InputError(f"{folder}: no safetensors file: {_WHOLE}")
        self.where: dict[str, tuple[Path, str]] = {}
        for path in (folder / file for file in files):
            with safe_open(path, "pt") as file:
                for stored in file.keys():  # noqa: SIM118
                    name = next((own for own in (stored, stored.partition(".")[2]) if own in shapes), None)
                    if name is not None and tuple(file.get_slice(stored).get_shape()) == shapes[name]:
                        self.where[name] = (path, stored)

    def names(self) -> set[str]:
        return set(self.where)

    def read(self, names: set[str]) -> dict[str, torch.Tensor]:
        from safetensors import safe_open

        weights = {}
        for path in {self.where[name][0] for name in names}:
            # A file that stays open keeps every page that was read.
            with safe_open(path, "pt") as file:
                for name in names:
                    if self.where[name][0] == path:
                        weights[name] = file.get_tensor(self.where[name][1]).float()
        return weights

    def rows(self, name: str, rows: list[int]) -> torch.Tensor:
        from safetensors import safe_open

        path, stored = self.where[name]
        with safe_open(path, "pt") as file:
            part = file.get_slice(stored)
            return torch.cat([part[i : i + 1] for i in rows]).float()


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


def _attach(checkpoint: Checkpoint, store: _Store) -> None:
    """Let every layer read its weights when it is called; what is outside of the layers is read once."""
    model, layers = checkpoint.model, checkpoint.layers
    prefixes = {id(module): name for name, module in model.named_modules()}
    inside: set[str] = set()
    for layer in layers:
        prefix = prefixes[id(layer)] + "."
        names = {name: prefix + name for name, _ in layer.named_parameters()}
        inside |= set(names.values())
        _fill_when_called(layer, names, store)
    outside = {name for name, _ in model.named_parameters()} - inside
    for name, module in list(model.named_modules()):
        if type(module) is torch.nn.Embedding and f"{name}.weight" not in inside:
            model.set_submodule(name, _Rows(store, f"{name}.weight", module))
            outside.discard(f"{name}.weight")
    for name, weight in store.read(outside).items():
        _set(model, name, weight)


def _fill_when_called(layer: Any, names: dict[str, str], store: _Store) -> None:
    empty = dict(layer.named_parameters())

    def fill(*_: Any) -> None:
        weights = store.read(set(names.values()))
        for name, stored in names.items():
            _set(layer, name, weights[stored])

    def leave(*_: Any) -> None:
        for name, weight in empty.items():
            _set(layer, name, weight)

    @contextmanager
    def held() -> Iterator[None]:
        fill()
        try:
            yield
        finally:
            leave()

    layer.register_forward_pre_hook(fill)
    layer.register_forward_hook(leave)
    object.__setattr__(layer, _FILL, held)


def _set(module: Any, name: str, weight: torch.Tensor) -> None:
    path, _, last = name.rpartition(".")
    module.get_submodule(path)._parameters[last] = torch.nn.Parameter(weight, requires_grad=False)
