"""o_i = g_i * sum_j A_ij v_j: where in an attention its values v are, and the linear map that reads o; seen by running.

The module is called again on eight tokens with c added to some features of the first token. Exactly where these are
values, o changes by g_i A_i0 c: by one factor for every c, feature by feature and head by head, and at other tokens
too. Names are not asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, Literal, NamedTuple

import torch

from ctrlattn.checkpoints.measure.weights import value_rows
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.network.watch import Hook, arguments_of, attention, first, hooked, stream_of
from ctrlattn.checkpoints.trace.compose import tolerance
from ctrlattn.checkpoints.trace.inputs import short_inputs
from ctrlattn.errors import InputError

Layout = Literal["", "blocks", "interleaved", "grouped"]


class ValuePath(NamedTuple):
    """Where the values of one attention are.

    Attributes
    ----------
    layer : int
    value, output : str
        Paths from the layer to the module whose output has the values, and to the linear map that reads o.
    fused : "", "blocks", "interleaved" or "grouped"
        How values lie in that output, as in `Family`.
    heads : int
        Number of query heads.
    size : int
        Features of a head.
    axis : int
        Axis of the tokens in what `value` gives: 2 where latent maps of a cache have an axis of one head in front.
    plain : bool
        Whether o = A v for the matrix A that the layer shows, and v is a linear map of what the attention reads: there
        is no gate, norm or latent map between.
    """

    layer: int
    value: str
    output: str
    fused: Layout
    heads: int
    size: int
    axis: int
    plain: bool

    def values(self, output: torch.Tensor) -> torch.Tensor:
        """Return (batch, n, query heads, size) of what `value` gives; n may count tokens of a cache as well."""
        return values_in(output, self.axis, self.fused, self.heads, self.size)


def values_in(output: torch.Tensor, axis: int, fused: str, heads: int, size: int) -> torch.Tensor:
    """Return the values (batch, n, heads, size) in what a module gives, repeated to the query heads.

    >>> values_in(torch.arange(4.0).reshape(1, 1, 4), 1, "", 2, 2)[0, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    rows = value_rows(fused, _features(output, axis).movedim(-1, 0), heads, size).movedim((0, 1), (-2, -1))
    return rows if rows.shape[-2] == heads else rows.repeat_interleave(heads // rows.shape[-2], -2)


def _features(output: torch.Tensor, axis: int) -> torch.Tensor:
    """Return (batch, n, features) of (batch, n, ...), or of (batch, 1, n, features) where tokens are axis 2."""
    return output.squeeze(1) if axis == 2 else output.flatten(2)


def value_paths(checkpoint: Checkpoint) -> tuple[ValuePath, ...]:
    """Find the values of every attention that has some of its own; layers that share those of another are left out.

    Raises
    ------
    InputError
        No attention with values that reach a linear map was seen.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.Olmo2Config(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, vocab_size=9,
    ...                                   intermediate_size=8, pad_token_id=0, eos_token_id=1)
    >>> value_paths(checkpoints.load(transformers.Olmo2Model(config)))[0].value
    'self_attn.v_proj'
    """
    model, sublayers = checkpoint.model, checkpoint.sublayers("attention")
    calls: dict[int, dict[str, Any]] = {}

    def keep(i: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(i, arguments_of(module, args, kwargs))

        return hook

    layers = checkpoint.layers
    holders = [_holder(layers[sublayer.layer], sublayer) for sublayer in sublayers]
    hooks: list[Hook] = [(module, keep(i), True) for i, (_, module) in enumerate(holders)]
    with attention(model, "eager"), torch.no_grad():
        with hooked(hooks):
            model(**short_inputs(model)[0])
        candidates = [_path(checkpoint, sublayers[i], *holders[i], call) for i, call in sorted(calls.items())]
    paths = tuple(path for path in candidates if path is not None)
    if not paths:
        raise InputError(
            f"no attention of {checkpoint.family.name!r} has values that a linear map reads head by head: a row of the "
            "family may say where they are"
        )
    return paths


def with_value_maps(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with paths of W_V and W_O in its traced family, where every attention has the same paths.

    Raises
    ------
    InputError
        An attention whose heads do not sum to what it gives, or other paths in other layers.
    """
    family = checkpoint.family
    if not isinstance(family, Traced) or (family.value and family.output):
        return checkpoint
    paths, sublayers = value_paths(checkpoint), checkpoint.sublayers("attention")
    strange = [path.layer for path in paths if not path.plain]
    lacking = sorted({s.layer for s in sublayers if s.module is not None} - {path.layer for path in paths})
    if strange or lacking or len({(path.value, path.output, path.fused) for path in paths}) > 1:
        layer = (strange or lacking or [paths[0].layer])[0]
        raise InputError(
            f"the attention of layer {layer} of {family.name!r} is not sum_h W_O A_h W_V u (a gate, a latent map, a "
            "norm or shared values stand between), and a memory is made of these maps: compensate without memory"
        )
    path, matrix = paths[0], sublayers[0].matrix
    new_family = replace(family, value=path.value, output=path.output, fused=path.fused, matrix=matrix)
    return replace(checkpoint, family=new_family)


class _Attention(NamedTuple):
    """One attention module that can be called again."""

    module: Any
    call: dict[str, Any]
    output: Any  # the map that reads o
    heads: int

    def run(self, hooks: Sequence[Hook] = ()) -> torch.Tensor:
        """Return o, (n, heads, size), with these hooks."""
        streams: list[torch.Tensor] = []

        def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            streams.append(stream_of(args, kwargs))

        with hooked([*hooks, (self.output, read, True)], until=self.output):
            self.module(**self.call)
        return streams[-1].reshape(streams[-1].shape[-2], self.heads, -1)


class _InnerModule(NamedTuple):
    """A module inside an attention, and what it read and gave."""

    name: str
    module: Any
    read: torch.Tensor
    output: torch.Tensor
    axis: int

    @property
    def features(self) -> int:
        return _features(self.output, self.axis).shape[-1]

    def shifted(self, shift: torch.Tensor) -> Hook:
        """Return a hook that adds `shift` to the features of the first token."""

        def add(module: Any, args: Any, kwargs: Any, output: torch.Tensor) -> torch.Tensor:
            features = _features(output, self.axis)
            first_token = (features[:, :1] + shift, features[:, 1:])
            return torch.cat(first_token, 1).reshape(output.shape)

        return self.module, add, False


def _holder(layer: Any, sublayer: Sublayer) -> tuple[str, Any]:
    """Return (path, module) of the smallest module around the values and the map that reads o."""
    if sublayer.out is sublayer.module or not _inputs_of(sublayer.out):
        return sublayer.path, sublayer.module
    pairs = zip(sublayer.path.split("."), sublayer.out_path.split("."), strict=False)
    path = ".".join(a for a, b in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return path, layer.get_submodule(path)


def _path(checkpoint: Checkpoint, sublayer: Sublayer, path: str, module: Any, call: dict[str, Any]) -> ValuePath | None:
    candidates, matrix, result = _inner_modules(module, call)
    output = _output_map(candidates, result, sublayer.out)
    heads = matrix.shape[1] if matrix is not None else checkpoint.heads
    size, remainder = divmod(0 if output is None else _inputs_of(output.module), heads)
    if output is None or remainder or not size:
        return None
    attn = _Attention(module, call, output.module, heads)
    o = attn.run()
    for candidate in candidates:
        for fused in _layouts(candidate.features, heads, size):
            if candidate is not output and _are_values(attn, o, candidate, fused):
                v = values_in(candidate.output, candidate.axis, fused, heads, size)[0]
                plain = candidate.read is next(iter(call.values())) and _is_plain(o, v, matrix)
                value, reader = (f"{path}.{inner.name}".removeprefix(".") for inner in (candidate, output))
                return ValuePath(sublayer.layer, value, reader, fused, heads, size, candidate.axis, plain)
    return None


def _inner_modules(module: Any, call: dict[str, Any]) -> tuple[list[_InnerModule], torch.Tensor | None, torch.Tensor]:
    """Return (the inner modules that give features of tokens, the attention matrix, what the module returns)."""
    candidates: list[_InnerModule] = []
    tokens = next(iter(call.values())).shape[-2]

    def keep(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.is_floating_point() and output.ndim > 2 and args:
                shape = output.shape
                axis = 1 if shape[1] == tokens else 2 if shape[1] == 1 and shape[2] == tokens else 0
                if axis:
                    candidates.append(_InnerModule(name, module, args[0], output, axis))

        return hook

    leaves = [(name, inner) for name, inner in module.named_modules() if name and not list(inner.children())]
    with hooked([(inner, keep(name), False) for name, inner in leaves]):
        result = module(**call)
    more = result[1:] if isinstance(result, tuple) else ()
    square = [a for a in more if isinstance(a, torch.Tensor) and a.ndim == 4 and a.shape[-1] == a.shape[-2]]
    return candidates, square[0] if square else None, first(result)


def _output_map(candidates: list[_InnerModule], result: torch.Tensor, target: Any) -> _InnerModule | None:
    """Return the linear map that gives the contribution, or whose output is what the attention returns."""
    linear = [inner for inner in reversed(candidates) if _inputs_of(inner.module)]
    same = [inner for inner in linear if inner.output.shape == result.shape and torch.equal(inner.output, result)]
    return next((inner for inner in linear if inner.module is target), same[0] if same else None)


def _inputs_of(module: Any) -> int:
    """Return how many features a linear map, or a Conv1D of GPT-2, reads; 0 for anything else."""
    return int(getattr(module, "in_features", 0) or getattr(module, "nx", 0))


def _layouts(features: int, heads: int, size: int) -> Iterator[Layout]:
    """Yield how values of these heads may lie in so many features."""
    parts, remainder = divmod(features, size)
    if remainder == 0 and parts and heads % parts == 0:
        yield ""
    shared, odd = divmod(parts - heads, 2)
    if remainder == 0 and odd == 0 and shared > 0 and heads % shared == 0:
        yield "blocks"
    if features % heads == 0 and features > heads * size:
        yield "interleaved"
    if remainder == 0 and odd == 0 and 0 < shared < heads and heads % shared == 0:
        yield "grouped"


def _are_values(attn: _Attention, o: torch.Tensor, candidate: _InnerModule, fused: Layout) -> bool:
    """Tell whether o changes by one factor for every c, and behind the first token as well."""
    places = value_rows(fused, torch.arange(candidate.features), attn.heads, o.shape[-1])
    factors = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        c = (1 + torch.rand(places.shape, generator=generator, dtype=torch.float64)).to(o)
        shift = c.new_zeros(candidate.features)
        shift[places.flatten()] = c.flatten()
        factors.append((attn.run([candidate.shifted(shift)]) - o) / c.repeat_interleave(attn.heads // len(c), 0))
    largest = float(factors[0].abs().max())
    limit = tolerance(o.dtype) * max(largest, float(o.abs().max()))
    return float(factors[0][1:].abs().max()) > limit and float((factors[0] - factors[1]).abs().max()) <= limit


def _is_plain(o: torch.Tensor, v: torch.Tensor, matrix: torch.Tensor | None) -> bool:
    """Tell whether o = A v."""
    if matrix is None:
        return False
    expected = torch.einsum("hij,jhs->ihs", matrix[0].to(v), v)
    return float((expected - o).abs().max()) <= tolerance(o.dtype) * float(o.abs().max())
