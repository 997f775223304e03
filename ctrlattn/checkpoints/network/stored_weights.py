"""name in the network -> tensors of safetensors files that it is made of, and what is done with them.

The names of a file are often those of an older release, or of the authors' own code: transformers renames them, and
joins, splits or turns some tensors. Its own table says how. It is asked with the names and shapes of the headers alone;
what it makes of the shapes is compared with the network, and the numbers are read when they are wanted.
"""

from copy import deepcopy
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ctrlattn.checkpoints.network.headers import safetensors_header
from ctrlattn.checkpoints.network.own_pages import OwnPages

_AT_ONCE = 1 << 26  # numbers that are read of a file before it is opened again


class Held(NamedTuple):
    """Where a tensor of a file is."""

    path: Path
    name: str
    shape: tuple[int, ...]


class Piece(NamedTuple):
    """A tensor of a file, and the part of a weight that it is."""

    path: Path
    name: str
    part: tuple[int | slice, ...]


class Conversion:
    """Weights that transformers makes of one or more tensors of a file by more than putting them side by side."""

    def __init__(self, converter: Any, model: Any, name: str, held: dict[str, list[Held]]) -> None:
        self.converter, self.model, self.name, self.held = converter, model, name, held

    def __call__(self, tensors: dict[Held, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Map name -> weight, of the tensors that are held."""
        converter = deepcopy(self.converter)
        for pattern, members in self.held.items():
            converter.collected_tensors[pattern] = [tensors[source] for source in members]
        weights = converter.convert(self.name, model=self.model, config=self.model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in weights.items()}

    @property
    def sources(self) -> list[Held]:
        """Return all tensors that it takes."""
        return [source for members in self.held.values() for source in members]


Making = list[Piece] | Conversion


def makings(held: dict[str, Held], model: Any) -> dict[str, Making]:
    """Say how each weight of a network without memory is made of the tensors of its files, where their shapes allow it.

    Parameters
    ----------
    held : dict
        Name in a file -> where it is.
    model : transformers model
        On torch's device "meta".

    Examples
    --------
    >>> import transformers
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=9)
    >>> with torch.device("meta"):
    ...     model = transformers.GPT2LMHeadModel(config)
    >>> makings({"h.0.ln_1.bias": Held(Path("a"), "h.0.ln_1.bias", (4,))}, model)["transformer.h.0.ln_1.bias"]
    [Piece(path=PosixPath('a'), name='h.0.ln_1.bias', part=())]
    """
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    makings_by_name: dict[str, tuple[Making, tuple[int, ...]]] = {}
    for name, (converter, members) in _collect(held, model).items():
        if converter is None:
            first = members[""][0]
            makings_by_name.setdefault(name, ([Piece(first.path, first.name, ())], first.shape))
            continue
        pieces = _side_by_side(converter, members, shapes[name])
        if pieces is not None:
            makings_by_name.setdefault(name, (pieces, shapes[name]))
            continue
        conversion = Conversion(converter, model, name, members)
        for each, shape in _shapes(conversion).items():
            makings_by_name.setdefault(each, (conversion, shape))
    for pair in (getattr(model, "all_tied_weights_keys", None) or {}).items():  # one weight in two places
        for name, other in (pair, pair[::-1]):
            if name not in makings_by_name and other in makings_by_name:
                makings_by_name[name] = makings_by_name[other]
    return {name: making for name, (making, shape) in makings_by_name.items() if shapes.get(name) == shape}


def _collect(held: dict[str, Held], model: Any) -> dict[str, tuple[Any | None, dict[str, list[Held]]]]:
    """Map (first) name in the network -> (converter, its sources by their pattern), as transformers collects them."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    table = get_model_conversion_mapping(model)
    renamings = [entry for entry in table if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in table if isinstance(entry, WeightConverter)]
    owner = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    state, base = model.state_dict(), model.base_model_prefix
    collected: dict[str, tuple[Any | None, dict[str, list[Held]]]] = {}
    for stored in sorted(held, key=dot_natural_key):
        name, pattern = rename_source_key(stored, renamings, converters, base, state)
        if name not in state and stored in state:
            name, pattern = rename_source_key(stored, [], [], base, state)
        if name in state:
            _, members = collected.setdefault(name, (None if pattern is None else owner[pattern], {}))
            members.setdefault(pattern or "", []).append(held[stored])
    return collected


def _side_by_side(converter: Any, members: dict[str, list[Held]], shape: tuple[int, ...]) -> list[Piece] | None:
    """Return the pieces of a stack by the patterns of its members, or None where it is made in another way."""
    from transformers.core_model_loading import Concatenate, MergeModulelist

    dims = [(type(op), getattr(op, "dim", None)) for op in converter.operations]
    if dims not in ([(MergeModulelist, 0)], [(MergeModulelist, 0), (Concatenate, 1)]) or len(shape) != 3:
        return None
    patterns = [pattern for pattern in converter.source_patterns if pattern in members]
    if len(patterns) != len(members) or (len(dims) == 1) != (len(patterns) == 1):
        return None
    count, rows, columns = shape
    heights = [members[pattern][0].shape[:1] for pattern in patterns]
    if not all(heights) or sum(height[0] for height in heights) != rows:
        return None
    ends = [0, *accumulate(height[0] for height in heights)]
    pieces = []
    for pattern, (start, end) in zip(patterns, pairwise(ends), strict=True):
        if len(members[pattern]) != count or any(source.shape != (end - start, columns) for source in members[pattern]):
            return None
        part = (slice(start, end),) if len(patterns) > 1 else ()
        pieces += [Piece(source.path, source.name, (i, *part)) for i, source in enumerate(members[pattern])]
    return pieces


def _shapes(conversion: Conversion) -> dict[str, tuple[int, ...]]:
    """Map name -> shape of what a conversion makes; empty where it does not take the tensors that there are."""
    try:
        weights = conversion({source: torch.empty(source.shape, device="meta") for source in conversion.sources})
    except Exception:  # whatever transformers raises: the weights are told as missing
        return {}
    return {name: tuple(weight.shape) for name, weight in weights.items()}


class StoredWeights:
    """Weights of the safetensors files of a directory, which the system maps into memory.

    Parameters
    ----------
    paths : list of Path
        The files.
    model : transformers model
        The whole network that they are of, on torch's device "meta".
    prefix : str
        In front of the names of the part of it that is read.
    """

    def __init__(self, paths: list[Path], model: Any, prefix: str = "") -> None:
        stored = {name: Held(path, name, shape) for path in paths for name, shape in safetensors_header(path).items()}
        state = model.state_dict()
        makings_by_name = makings(stored, model)
        self.makings = {
            name.removeprefix(prefix): making for name, making in makings_by_name.items() if name.startswith(prefix)
        }
        self.shapes = {name: tuple(state[prefix + name].shape) for name in self.makings}
        self.dtypes = {name: state[prefix + name].dtype for name in self.makings}
        self.prefix, self.pages = prefix, OwnPages()

    def names(self) -> set[str]:
        """Return the names of all weights that the files make."""
        return set(self.makings)

    def read(self, names: set[str]) -> dict[str, torch.Tensor]:
        """Read the weights of these names."""
        pieces, weights = [], {}
        conversions: dict[int, Conversion] = {}
        for name in names:
            making = self.makings[name]
            if isinstance(making, Conversion):
                conversions[id(making)] = making
            else:
                weights[name] = self._room(name)
                pieces += [(piece.path, piece.name, weights[name][piece.part]) for piece in making]
        for conversion in conversions.values():
            converted = self._convert(conversion)
            weights |= {name: converted[name] for name in names & converted.keys() if self.makings[name] is conversion}
        _read_into(pieces)
        return weights

    def _room(self, name: str) -> torch.Tensor:
        dtype, shape = self.dtypes[name], self.shapes[name]
        return self.pages.room(shape) if dtype == torch.float32 else torch.empty(shape, dtype=dtype)

    def _convert(self, conversion: Conversion) -> dict[str, torch.Tensor]:
        tensors = {source: torch.empty(source.shape) for source in conversion.sources}
        _read_into([(source.path, source.name, tensor) for source, tensor in tensors.items()])
        converted = conversion(tensors)
        return {name.removeprefix(self.prefix): weight for name, weight in converted.items()}

    def has_members(self, name: str) -> bool:
        """Return whether the members of a stack can be read one at a time."""
        return not isinstance(self.makings[name], Conversion)

    def stack(self, name: str) -> torch.Tensor:
        """Read a whole stack."""
        return self.read({name})[name]

    def expert(self, name: str, i: int) -> torch.Tensor:
        """Read expert i of a stack."""
        from safetensors import safe_open

        weight = self.pages.room(self.shapes[name][1:])
        for path, stored, part in self._pieces(name):
            if part[:1] in ((), (i,)):
                with safe_open(path, "pt") as file:
                    weight[part[1:]].copy_(file.get_tensor(stored) if part else file.get_slice(stored)[i])
        return weight

    def rows(self, name: str, rows: list[int]) -> torch.Tensor:
        """Read rows of a matrix, (len(rows), columns)."""
        from safetensors import safe_open

        if isinstance(self.makings[name], Conversion):
            return self.stack(name)[rows]
        path, stored, _ = self._pieces(name)[0]
        with safe_open(path, "pt") as file:
            part = file.get_slice(stored)
            return torch.cat([part[i : i + 1] for i in rows]).float()

    def _pieces(self, name: str) -> list[Piece]:
        making = self.makings[name]
        return [] if isinstance(making, Conversion) else making


def _read_into(pieces: list[tuple[Path, str, torch.Tensor]]) -> None:
    """Copy tensors of files to their places: (file, name in it, place)."""
    from safetensors import safe_open

    pieces = sorted(pieces, key=lambda piece: piece[:2])
    while pieces:
        path, numbers = pieces[-1][0], 0
        # A file that stays open keeps every page that was read in memory.
        with safe_open(path, "pt") as file:
            while pieces and pieces[-1][0] == path and numbers < _AT_ONCE:
                _, stored, place = pieces.pop()
                place.copy_(file.get_tensor(stored))
                numbers += place.numel()
