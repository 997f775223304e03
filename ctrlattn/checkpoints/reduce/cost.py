"""parameters, KV cache in bytes per token, tokens per second in prefill and cached generation: cost of a network."""

import inspect
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.inputs import windows_of
from ctrlattn.checkpoints.network.watch import attention
from ctrlattn.errors import InputError

_NAMES = ("cache", "past_key_values")  # name of the KV cache from transformers 5.24 on, and before


class Cost(NamedTuple):
    """Size and speed of one network on one machine.

    Attributes
    ----------
    parameters : int
        Number of parameters; tied ones count once.
    cache_bytes : float
        Size of the KV cache in bytes per token.
    prefill : float
        Tokens per second when a whole text is read at once.
    generation : float
        Tokens per second in generation with the cache, summed over the texts of the batch.
    """

    parameters: int
    cache_bytes: float
    prefill: float
    generation: float


def cost(networks: Mapping[str, Checkpoint], ids: Any, *, new_tokens: int = 16, repeat: int = 3) -> dict[str, Cost]:
    """Measure networks in turn, so that other load on the machine affects all of them alike.

    Parameters
    ----------
    networks : name -> Checkpoint
        Causal networks with a head.
    ids : (batch, n) or (n,) token ids
        Text that is read at once (prefill); greedy generation continues it.
    new_tokens : int
        Number of generated tokens.
    repeat : int
        Number of rounds; the rates are those of the median time.

    Returns
    -------
    name -> Cost

    Raises
    ------
    InputError
        There is fewer than one new token or round, texts have different lengths, or `evaluate` refuses a network or
        the ids.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> smaller = checkpoints.drop(network, attention=[0])
    >>> costs = cost({"whole": network, "smaller": smaller}, [[1, 2, 3]], new_tokens=2, repeat=1)
    >>> costs["whole"].cache_bytes, costs["smaller"].cache_bytes  # 8 float32 keys and as many values per layer
    (128.0, 64.0)
    """
    if min(new_tokens, repeat) < 1:
        raise InputError(f"new_tokens and repeat must be at least 1, got {new_tokens} and {repeat}")
    windows = {name: _of_one_length(network, ids) for name, network in networks.items()}
    prefill: dict[str, list[float]] = {name: [] for name in networks}
    generation: dict[str, list[float]] = {name: [] for name in networks}
    size: dict[str, float] = {}
    for _ in range(repeat):
        for name, network in networks.items():
            with attention(network.model, "sdpa"), torch.inference_mode():
                seconds, output = _time_prefill(network, windows[name])
                prefill[name].append(seconds)
                size[name] = _bytes(_cache(output)) / windows[name].numel()
                generation[name].append(_generate(network, output, windows[name], new_tokens))
    return {
        name: Cost(
            sum(p.numel() for p in network.model.parameters()),
            size[name],
            windows[name].numel() / median(prefill[name]),
            len(windows[name]) * new_tokens / median(generation[name]),
        )
        for name, network in networks.items()
    }


def _of_one_length(network: Checkpoint, ids: Any) -> torch.Tensor:
    windows = windows_of(network, ids)
    if not isinstance(windows, torch.Tensor):
        raise InputError(f"speed is measured on texts of one length, got {sorted({len(text) for text in windows})}")
    return windows


def _time_prefill(network: Checkpoint, windows: torch.Tensor) -> tuple[float, Any]:
    return _seconds(lambda: network.model(input_ids=windows, use_cache=True))


def _generate(network: Checkpoint, output: Any, windows: torch.Tensor, count: int) -> float:
    """Return the seconds that `count` greedy steps take after a prefill."""
    name = next(name for name in _NAMES if name in inspect.signature(network.model.forward).parameters)

    def steps() -> None:
        logits, cache, length = output.logits, _cache(output), windows.shape[1]
        for i in range(count):
            token = logits[:, -1:].argmax(-1)
            place = torch.tensor([length + i], device=token.device)
            result = network.model(input_ids=token, use_cache=True, position_ids=place[None], **{name: cache})
            logits, cache = result.logits, _cache(result)

    return _seconds(steps)[0]


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    output = work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, output


def _cache(output: Any) -> Any:
    """Return the KV cache in the output of a model, under whichever name this transformers version gives it."""
    return next(output[name] for name in _NAMES if name in output)


def _bytes(cache: Any) -> int:
    tensors = [t for layer in cache.layers for t in (getattr(layer, "keys", None), getattr(layer, "values", None))]
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)
