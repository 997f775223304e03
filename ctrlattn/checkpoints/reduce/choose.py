"""loss(S) - loss ≈ sum_{l in S} <g_l, δ_l> + ½ sum_t (sum_{l in S} <s_l, δ_l>_t)²: which sublayers a gain can replace.

δ_l is what the gain of sublayer l does wrongly, g_l the gradient of the loss with respect to its contribution, s_l the
same for next tokens drawn from the network itself, whose squares make Fisher's curvature. One pass gives both for all
sublayers and all pairs; no sublayer is taken out to find out what that costs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ctrlattn.checkpoints.measure.evaluate import windows_of
from ctrlattn.checkpoints.measure.flow import Flow
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Kind, Sublayer
from ctrlattn.checkpoints.network.watch import Hook, attention, first, hooked, stream_of
from ctrlattn.checkpoints.reduce.compensate import Calibration, Moments, fitted
from ctrlattn.checkpoints.reduce.drop import drop
from ctrlattn.errors import InputError
from ctrlattn.progress import silent

_TOKENS = 2048  # in one pass
_Stand = Callable[[torch.Tensor], torch.Tensor]
_GRADED = 1024  # in one pass with gradients, which holds every layer's intermediate results


@dataclass(frozen=True, eq=False)
class Choice:
    """Sublayers to replace, and what that is predicted to cost.

    Attributes
    ----------
    layers : tuple of int
        Chosen layers, in order of depth.
    order : tuple of int
        The same layers in the order they were chosen: each beginning is the choice of fewer.
    predicted : (count,)
        Predicted change of the loss, in nats a token, after each of `order`.
    slope : (layers,)
        First-order change of the loss by each layer's gain alone.
    curvature : (layers, layers)
        Second-order change of pairs; the diagonal belongs to each layer alone.
    """

    layers: tuple[int, ...]
    order: tuple[int, ...]
    predicted: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray


def choose(
    checkpoint: Checkpoint,
    count: int,
    calibration: Any,
    selection: Any,
    *,
    kind: Kind = "attention",
    keep: Iterable[int] = (),
    seed: int = 0,
) -> Choice:
    """Which sublayers static gains replace at the least predicted loss: greedy, with the interaction of pairs.

    Costs one forward pass of the calibration text (about two for gains with memory), and one forward with two backward
    passes of the selection text.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal pre-norm network with its head.
    count : int
        How many.
    calibration : Calibration or (windows, length) ids
        Text that the gains are fitted to.
    selection : (windows, length) ids
        Other text, on which they are judged.
    kind : "attention" or "mlp"
    keep : layers
        Not to be chosen.
    seed : int
        Of the drawn tokens.

    Returns
    -------
    Choice

    Raises
    ------
    InputError
        More layers than there are to choose from; an encoder or a post-norm network; bad ids.

    References
    ----------
    Hassibi and Stork, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, NIPS 1992: the second-order
    expansion; Kunstner, Balles and Hennig, arXiv 1905.12558: why the curvature takes drawn tokens and not the text's.

    Examples
    --------
    >>> import torch, transformers
    >>> from ctrlattn import checkpoints
    >>> _ = torch.manual_seed(0)
    >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9))
    >>> ids = torch.arange(36).reshape(6, 6) % 9
    >>> choice = choose(checkpoints.load(model), 2, ids, ids)
    >>> len(choice.layers), choice.curvature.shape
    (2, (3, 3))
    """
    calibration = Calibration.of(calibration)
    fitting, judging = windows_of(checkpoint, calibration.ids), windows_of(checkpoint, selection)
    if checkpoint.family.norm != "pre":
        raise InputError(f"a gain stands in behind a norm; family {checkpoint.family.name!r} has it after the sublayer")
    places = checkpoint.sublayers(kind)
    free = sorted(set(range(len(places))) - {checkpoint.layer_index(layer) for layer in keep})
    most = len(free) - (kind == "attention" and len(free) == len(places))
    if not 1 <= count <= most:
        raise InputError(f"the number of layers to choose must be one of 1 ... {most}, got {count}")
    tell = calibration.progress or silent
    tell("score", 0, 2)
    gains = _gains(checkpoint, places, fitting, calibration)
    tell("score", 1, 2)
    slope, curvature = _expansion(checkpoint, places, gains, judging, seed)
    tell("score", 2, 2)
    if not (np.isfinite(slope).all() and np.isfinite(curvature).all()):
        raise InputError("the gradients of the loss are not finite on the selection text")
    order, predicted = _greedy(slope, curvature, free, count)
    return Choice(tuple(sorted(order)), tuple(order), predicted, slope, curvature)


def compensated_drop(
    checkpoint: Checkpoint, count: int, calibration: Any, selection: Any, *, kind: Kind = "attention", seed: int = 0
) -> tuple[Checkpoint, Choice]:
    """Choose `count` sublayers and put static gains in their place: `choose`, then `drop`.

    Raises
    ------
    InputError
        As `choose` and `drop`.
    """
    choice = choose(checkpoint, count, calibration, selection, kind=kind, seed=seed)
    gone = {"attention": choice.layers} if kind == "attention" else {"mlp": choice.layers}
    return drop(checkpoint, **gone, compensate=calibration), choice


def _gains(
    checkpoint: Checkpoint, places: tuple[Sublayer, ...], windows: torch.Tensor, calibration: Calibration
) -> list[_Stand]:
    """What would stand for each sublayer alone."""
    if not calibration.memory:
        return [_static(one, calibration) for one in _moments(checkpoint, places, windows)]
    flow, gains = Flow.start(checkpoint.family, checkpoint.model, windows, 0), list[_Stand]()
    for i, one in enumerate(places):
        gains.append(_alone(fitted(checkpoint, one, flow, calibration)))
        if i + 1 < len(places):
            flow = flow.after(i)
    return gains


def _static(moments: Moments, calibration: Calibration) -> _Stand:
    matrix, bias = moments.solve(calibration.ridge, calibration.rank)
    return lambda u: u @ matrix.to(u).T + bias.to(u)


def _alone(gain: torch.nn.Module) -> _Stand:
    return lambda u: first(gain(u))


def _moments(checkpoint: Checkpoint, places: tuple[Sublayer, ...], windows: torch.Tensor) -> list[Moments]:
    """Of every sublayer in the whole network, from one pass."""
    found: list[Moments | None] = [None] * len(places)

    def add(i: int, u: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> None:
        some, before = Moments.of(u, y, x), found[i]
        found[i] = some if before is None else before + some

    hooks = [hook for i, one in enumerate(places) for hook in _reading(one, i, add)]
    rows = max(1, _TOKENS // windows.shape[1])
    with hooked(hooks), attention(checkpoint.model, "sdpa"), torch.no_grad():
        for some in windows.split(rows):
            checkpoint.model.base_model(input_ids=some, use_cache=False)
    return [one for one in found if one is not None]


def _reading(one: Sublayer, i: int, add: Any) -> list[Hook]:
    seen: dict[str, torch.Tensor] = {}

    def normed(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> None:
        seen["x"], seen["u"] = stream_of(args, kwargs), output

    def added(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        add(i, seen.pop("u"), first(output), seen.pop("x"))

    return [(one.norm, normed, False), (one.out, added, False)]


def _expansion(
    checkpoint: Checkpoint,
    places: tuple[Sublayer, ...],
    gains: list[_Stand],
    windows: torch.Tensor,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(slope, curvature) per predicted token."""
    count = len(places)
    slope, curvature = np.zeros(count), np.zeros((count, count))
    generator = torch.Generator(windows.device).manual_seed(seed)
    for some in windows.split(max(1, _GRADED // windows.shape[1])):
        errors, probes = [torch.empty(0)] * count, [torch.empty(0)] * count
        hooks = [hook for i, one in enumerate(places) for hook in _probing(one, i, gains[i], errors, probes)]
        with hooked(hooks), attention(checkpoint.model, "sdpa"), torch.enable_grad():
            logits = checkpoint.model(input_ids=some, use_cache=False).logits[:, :-1].flatten(0, 1)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
            own = torch.autograd.grad(_total(logits, some[:, 1:].flatten()), probes, retain_graph=True)
            fisher = torch.autograd.grad(_total(logits, drawn), probes)
        products = [
            torch.stack([(g * e).sum(-1).double() for g, e in zip(s, errors, strict=True)]) for s in (own, fisher)
        ]
        slope += products[0].sum((1, 2)).cpu().numpy()
        each = products[1].flatten(1)
        curvature += 0.5 * (each @ each.T).cpu().numpy()
    tokens = windows.shape[0] * (windows.shape[1] - 1)
    return slope / tokens, curvature / tokens


def _probing(
    one: Sublayer,
    i: int,
    gain: _Stand,
    errors: list[torch.Tensor],
    probes: list[torch.Tensor],
) -> list[Hook]:
    """Add a zero to the contribution, to have a gradient with respect to it; keep what the gain does wrongly."""
    seen: dict[str, torch.Tensor] = {}

    def normed(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> None:
        seen["u"] = output.detach()

    def added(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        y, u = first(output), seen.pop("u")
        with torch.no_grad():
            errors[i] = gain(u.to(y)) - y
        probes[i] = torch.zeros_like(y, requires_grad=True)
        changed = y + probes[i]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return [(one.norm, normed, False), (one.out, added, False)]


def _products(gradients: tuple[torch.Tensor, ...], errors: list[torch.Tensor]) -> torch.Tensor:
    """<g, δ> of every sublayer and token, (layers, tokens)."""
    return torch.stack([(g * e).sum(-1).flatten().double() for g, e in zip(gradients, errors, strict=True)])


def _total(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, targets, reduction="sum")


def _greedy(slope: np.ndarray, curvature: np.ndarray, free: list[int], count: int) -> tuple[list[int], np.ndarray]:
    """Layer after layer the one that adds least, pairs with those before it counted."""
    order: list[int] = []
    predicted: list[float] = []
    while len(order) < count:
        sets = [[*order, i] for i in free if i not in order]
        costs = [slope[some].sum() + curvature[np.ix_(some, some)].sum() for some in sets]
        order = sets[int(np.argmin(costs))]
        predicted.append(min(costs))
    return order, np.array(predicted)
