"""h_{k+1} = F(h_k): the loop that a network with tied weights runs by itself, found by counting calls.

F is the network from the beginning of one pass to that of the next: whatever it does between its modules is in it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ctrlattn.checkpoints.measure.layer_functions import LayerFunction
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.trace.compose import difference, tolerance
from ctrlattn.checkpoints.trace.follow import stream_among
from ctrlattn.checkpoints.trace.layers import Visit, inside, lists_of, visited
from ctrlattn.errors import InputError


class OwnLoop(NamedTuple):
    """The loop that a network runs by itself on one text.

    Attributes
    ----------
    F : callable, (n, d) -> (n, d)
        One pass; differentiable, a pass map of `ctrlattn.looped`.
    states : (passes, n, d)
        h_0, h_1, ...: the stream in front of each pass.
    modules : tuple of str
        Paths of the modules that one pass calls, in order.
    error : float
        The largest difference of a token between what F makes of h_k and what the network does in pass k, relative to
        the stream; over all passes.
    """

    F: LayerFunction
    states: torch.Tensor
    modules: tuple[str, ...]
    error: float


def own_loop(network: Checkpoint | torch.nn.Module, ids: Any, *, scale: Literal["slow", "fast"] = "slow") -> OwnLoop:
    """Find the loop that a network with repeated calls of modules runs by itself, and prove it on each of its passes.

    Parameters
    ----------
    network : Checkpoint or torch module
        A module need not be residual: a network that `load` refuses may be given as it is, in evaluation mode.
    ids : (n,) token ids, str, or image; for a torch module a dict of arguments
    scale : "slow" or "fast"
        The loop that the whole network is, or one inside its pass (the lower level of HRM).

    Returns
    -------
    OwnLoop

    Raises
    ------
    InputError
        No module is called again, or its calls have no period.
    ArithmeticError
        The stream in front of a pass does not decide the next one: the state has more parts, or the pass a number.

    References
    ----------
    Lan et al., ALBERT, arXiv 1909.11942, section 3.1.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.AlbertConfig(vocab_size=9, embedding_size=4, hidden_size=8, num_hidden_layers=3,
    ...                                    num_attention_heads=2, intermediate_size=8)
    >>> loop = own_loop(checkpoints.load(transformers.AlbertModel(config)), [1, 2, 3])
    >>> tuple(loop.states.shape), bool(torch.allclose(loop.F(loop.states[0]), loop.states[1]))
    ((3, 3, 8), True)
    """
    if scale not in ("slow", "fast"):
        raise InputError(f'scale must be "slow" or "fast", got {scale!r}')
    model = network.model if isinstance(network, Checkpoint) else network
    inputs = inputs_of(network, ids) if isinstance(network, Checkpoint) else dict(ids)
    with visited(model, inside(model, lists_of(model))) as visits:
        model(**inputs)
    calls = _repeated_visits(
        [visit for visit in visits if visit.keeps_shape and visit.x is not None and visit.x.ndim == 3]
    )
    names = [visit.path for visit in calls]
    start, period, passes = _period_of(names) if scale == "slow" else _inner(names)
    if passes < 2:
        raise InputError(
            f"{type(model).__name__} has no {scale} loop of its own: no sequence of its modules is called again"
        )
    modules = tuple(names[start : start + period])
    before, repeats = names[:start].count(modules[0]), modules.count(modules[0])
    states = torch.stack([_require_tensor(visit.x)[0] for visit in calls[start : start + period * passes : period]])

    def F(h: torch.Tensor) -> torch.Tensor:
        place = _PassPlace(h if h.ndim == 3 else h[None], before + 1, before + repeats + 1)
        with _run_one_pass(model.get_submodule(modules[0]), place), sdpa_kernel(SDPBackend.MATH):
            model(**inputs)
        return place.reached if h.ndim == 3 else place.reached[0]

    def end(h: torch.Tensor) -> torch.Tensor:
        """Return what the last module of the pass gives, since no later pass shows where the last one leads."""
        with visited(model, sorted(set(names))) as again_visits:
            F(h)
        return _require_tensor(_repeated_visits(again_visits, set(names))[start + period - 1].out)

    ends = [_require_tensor(visit.out) for visit in calls[start + period - 1 : start + period * passes : period]]
    errors = [difference(end(h), expected, expected, ()) for h, expected in zip(states, ends, strict=True)]
    with torch.no_grad():
        errors += [difference(F(h), after, after, ()) for h, after in pairwise(states)]
    limit = tolerance(states.dtype)
    wrong = next((i for i, error in enumerate(errors) if not error <= limit), None)
    if wrong is not None:
        raise ArithmeticError(
            f"pass {wrong % passes} of {type(model).__name__} is not the map of pass 0 at its own stream: they differ "
            f"by {errors[wrong]:.1e} of its size. The state has more parts than the input of {modules[0]}, or a pass "
            "knows its number"
        )
    return OwnLoop(F, states, modules, max(errors))


def _require_tensor(t: torch.Tensor | None) -> torch.Tensor:
    assert t is not None
    return t


def _repeated_visits(visits: Sequence[Visit], names: set[str] | None = None) -> list[Visit]:
    """Return the calls of the outermost modules that are called more than once, or have these names, in order."""
    count = Counter(visit.path for visit in visits)
    repeats = [visit for visit in visits if (count[visit.path] > 1 if names is None else visit.path in names)]
    repeats = [visit for visit in repeats if visit.ended >= 0]
    outermost = [v for v in repeats if not any(u.began < v.began and v.ended < u.ended for u in repeats)]
    return sorted(outermost, key=lambda visit: visit.began)


def _period_of(names: Sequence[str]) -> tuple[int, int, int]:
    """Return (start, length, number) of the shortest sequence whose repetition gives the whole; number 1 for none.

    >>> _period_of("ababab"), _period_of("aaaa"), _period_of("aabb")[2]
    ((0, 2, 3), (0, 1, 4), 1)
    """
    lengths = (p for p in range(1, len(names) // 2 + 1) if len(names) % p == 0)
    period = next((p for p in lengths if list(names) == list(names[:p]) * (len(names) // p)), len(names))
    return 0, period, len(names) // max(period, 1)


def _inner(names: Sequence[str]) -> tuple[int, int, int]:
    """Return (start, length, number) of the shortest sequence repeated inside one period, where it is repeated most.

    >>> _inner("llhllh"), _inner("abababcababcabababcababc"), _inner("abab")[2]
    ((0, 1, 2), (0, 2, 3), 1)
    """
    period = list(names[: _period_of(names)[1]])
    for length in range(1, len(period) // 2 + 1):
        numbers = [_run(period, start, length) for start in range(len(period) - 2 * length + 1)]
        if max(numbers) > 1:
            return numbers.index(max(numbers)), length, max(numbers)
    return 0, len(period), 1


def _run(names: Sequence[str], start: int, length: int) -> int:
    """Count how often the sequence that begins at `start` follows on itself."""
    number = 1
    while names[start + number * length : start + (number + 1) * length] == names[start : start + length]:
        number += 1
    return number


@dataclass(eq=False)
class _PassPlace:
    """Where a pass begins, with h, and where it ends, by the number of the call of its first module."""

    h: torch.Tensor
    begins: int
    ends: int
    reached: Any = None
    calls: int = 0


class _NextPass(Exception):
    """The next pass begins: the rest of the network is not computed."""


@contextmanager
def _run_one_pass(first: Any, place: _PassPlace) -> Iterator[None]:
    """Run the block so that its network takes h where the pass begins, and ends where the next one does."""

    def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place.calls += 1
        x = stream_among(args, kwargs)[0]
        if place.calls == place.ends:
            place.reached = x
            raise _NextPass
        if place.calls != place.begins or x is None:
            return None
        return tuple(place.h if arg is x else arg for arg in args), {
            name: place.h if value is x else value for name, value in kwargs.items()
        }

    handle = first.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        yield
    except _NextPass:
        pass
    finally:
        handle.remove()
