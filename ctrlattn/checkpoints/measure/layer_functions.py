"""f_l(h): each layer of a network as a function of the stream alone, with all other arguments from a recorded pass."""

from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.network.watch import first, watch_calls
from ctrlattn.errors import require_flag

LayerFunction = Callable[[torch.Tensor], torch.Tensor]


def layer_function(checkpoint: Checkpoint, layer: int, ids: Any) -> tuple[LayerFunction, torch.Tensor]:
    """Return a layer as a function of its stream, and the stream it has in the network for this text.

    It is exactly the layer that the network runs: masks, positions and rotations are those of the recorded pass. The
    cache is always off, and attention runs through the math kernel, which forward-mode derivatives need.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
        0 ... layers - 1.
    ids : (n,) token ids, str, or image
        As in `tap`.

    Returns
    -------
    f : callable, (..., n, d) -> (..., n, d)
        It takes at most one batch dimension, in front, and is differentiable in both modes and under `torch.func.vmap`.
    h : (n, d)
        Stream that the layer reads, detached; (n, streams, d) where a network has several streams.

    Raises
    ------
    InputError
        A layer that is not there; bad ids.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> f, h = layer_function(checkpoints.load(transformers.GPT2Model(config)), 1, [1, 2, 3])
    >>> tuple(h.shape), tuple(f(h).shape)
    ((3, 8), (3, 8))
    """
    return layer_functions(checkpoint, ids, layers=(checkpoint.layer_index(layer),))[0]


def layer_functions(
    checkpoint: Checkpoint, ids: Any, *, layers: tuple[int, ...] | None = None, wide: bool = False
) -> list[tuple[LayerFunction, torch.Tensor]]:
    """Return the `layer_function` of several layers (default: all) from one forward pass.

    With `wide`, a layer of a network in half precision is computed in float32, from the same weights and the stream
    that it reads. Its derivatives are those of the function that the layer rounds: in bfloat16 a product with J keeps
    three digits, whose errors are no normal matrix, and in float16 it may overflow where the layer does not.

    Raises
    ------
    InputError
        As for `layer_function`.
    """
    wide = require_flag("wide", wide)
    numbers = range(len(checkpoint.layers)) if layers is None else [checkpoint.layer_index(layer) for layer in layers]
    modules = checkpoint.layers
    with watch_calls(modules, numbers) as calls, torch.no_grad():
        checkpoint.model(**inputs_of(checkpoint, ids))
    return [_layer_and_stream(modules[i], calls[i], checkpoint, wide=wide) for i in numbers]


_HALF = (torch.float16, torch.bfloat16)


def _to_float32(value: Any) -> Any:
    """Return tensors of half precision, in whatever holds them, in float32, and all else as it is."""
    return tree_map(lambda t: t.float() if isinstance(t, torch.Tensor) and t.dtype in _HALF else t, value)


def _in_float32(module: Any) -> Callable[..., Any]:
    """Return a function that calls the module with its weights in float32."""

    def call(**arguments: Any) -> Any:
        weights = _to_float32({**dict(module.named_parameters()), **dict(module.named_buffers())})
        return functional_call(module, weights, (), arguments)

    return call


def _layer_and_stream(
    module: Any, arguments: dict[str, Any], checkpoint: Checkpoint, *, wide: bool
) -> tuple[LayerFunction, torch.Tensor]:
    name = next(iter(arguments))
    run = module
    if wide and arguments[name].dtype in _HALF:
        arguments, run = _to_float32(arguments), _in_float32(module)
    stream = arguments.pop(name)
    traced = isinstance(checkpoint.family, Traced)
    streams = checkpoint.structure.streams if traced else 1
    first_lane = streams > 1 and stream.shape[0] == streams  # (streams, b, n, d), and not (b, n, streams, d)
    layer = RecalledLayer(run, name, arguments, stream.ndim, one_by_one=traced, first_lane=first_lane)
    return layer, (stream.movedim(0, -2) if first_lane else stream)[0].detach()


class RecalledLayer:
    """A layer as a function of its stream, with all else that it was called with."""

    def __init__(
        self,
        run: Callable[..., Any],
        name: str,
        arguments: dict[str, Any],
        dimensions: int,
        *,
        one_by_one: bool,
        first_lane: bool,
    ) -> None:
        self._run, self._name, self._arguments, self._dimensions = run, name, arguments, dimensions
        self._one_by_one, self._first_lane = one_by_one, first_lane

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """Return the stream after the layer, (..., n, d)."""
        if h.ndim < self._dimensions:
            return self._batch(h[None])[0]
        # What the pass of one text has recorded may choose by its tokens: deepseek_v4 finds its experts so.
        return torch.cat([self._batch(x[None]) for x in h]) if self._one_by_one else self._batch(h)

    def _batch(self, h: torch.Tensor) -> torch.Tensor:
        arguments = {self._name: h.movedim(-2, 0) if self._first_lane else h, **self._arguments}
        with sdpa_kernel(SDPBackend.MATH):
            y = first(self._run(**arguments))
        return y.movedim(0, -2) if self._first_lane else y

    def of_tokens(self, tokens: torch.Tensor, n: int) -> "RecalledLayer":
        """Return the same layer on some of n tokens: its other arguments lose the rest of them, as far as shapes tell.

        Its attention still has the other tokens in the columns of a mask. Whoever calls it checks what it gives.
        """
        alone = copy(self)
        alone._arguments = tree_map(lambda value: _of_tokens(value, tokens, n), self._arguments)
        return alone


def _of_tokens(value: Any, tokens: torch.Tensor, n: int) -> Any:
    """Return the rows of a tensor that has a dimension of n; in a mask (batch, heads, queries, keys) they are queries.

    >>> _of_tokens(torch.arange(6).reshape(1, 3, 2), torch.tensor([2, 0]), 3).tolist()
    [[[4, 5], [0, 1]]]
    """
    if not isinstance(value, torch.Tensor):
        return value
    possible = (2,) if value.ndim == 4 else range(value.ndim)
    place = next((i for i in possible if value.shape[i] == n), None)
    return value if place is None else value.index_select(place, tokens.to(value.device))
