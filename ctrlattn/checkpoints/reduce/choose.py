"""loss(S) - loss ≈ sum_{l in S} <g_l, δ_l> + ½ sum_t (sum_{l in S} <s_l, δ_l>_t)²: choice of sublayers by the loss.

δ_l is the error of the gain that would replace sublayer l. g_l is the gradient of the loss with respect to the
sublayer's contribution. s_l is the same gradient for next tokens that are sampled from the network itself; products of
s_l give the Fisher curvature. One pass gives both for all sublayers and all pairs, and no sublayer has to be removed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ctrlattn.checkpoints.measure.value_paths import with_value_maps
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Kind, Sublayer
from ctrlattn.checkpoints.network.inputs import Windows, in_batches, windows_of
from ctrlattn.checkpoints.network.watch import Watcher, attention, first, watch
from ctrlattn.checkpoints.reduce.compensate import Calibration, SecondMoments, fitted
from ctrlattn.checkpoints.reduce.drop import drop
from ctrlattn.checkpoints.reduce.layerwise import Flow
from ctrlattn.errors import InputError
from ctrlattn.progress import silent

_Stand = Callable[[torch.Tensor], torch.Tensor]
_GRADED = 1024  # tokens per pass with gradients, which holds the intermediate results of every layer


@dataclass(frozen=True, eq=False)
class Choice:
    """Sublayers to replace, and the predicted change of the loss.

    Attributes
    ----------
    layers : tuple of int
        Chosen layers, in order of depth.
    order : tuple of int
        The same layers in the order of choice: the first m of them are the choice of m layers.
    predicted : (count,)
        Predicted change of the loss after each of `order`, in nats per token.
    slope : (layers,)
        First-order change of the loss, layer by layer: of those that have a sublayer of the kind.
    curvature : (layers, layers)
        Second-order change for each pair of them; the diagonal is that of one layer alone.
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
    """Choose the sublayers that gains replace at the least predicted loss: greedily, with the interaction of pairs.

    The choice costs one forward pass over the calibration text (about two for gains with memory), and one forward and
    two backward passes over the selection text.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network with its head.
    count : int
        Number of sublayers to choose.
    calibration : Calibration or (windows, length) ids
        Text that the gains are fitted to.
    selection : (windows, length) ids
        Other text, on which the loss is predicted.
    kind : "attention" or "mlp", in a traced network also "mixer"
    keep : layers
        Layers that may not be chosen.
    seed : int
        Seed of the tokens that are sampled from the network.

    Returns
    -------
    Choice

    Raises
    ------
    InputError
        `count` exceeds the number of layers to choose from, the network does not predict the next token, or ids are
        bad.

    References
    ----------
    Hassibi and Stork, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, NIPS 1992, for the
    second-order expansion; Kunstner, Balles and Hennig, arXiv 1905.12558, for why the curvature takes sampled tokens
    and not those of the text.

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
    if calibration.memory and kind == "attention":
        checkpoint = with_value_maps(checkpoint)
    places = _one_a_layer(checkpoint, kind)
    excluded = {checkpoint.layer_index(layer) for layer in keep}
    free = [i for i, sublayer in enumerate(places) if sublayer.layer not in excluded]
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
        raise InputError("the gradients of the loss are not finite on the selection text: load the network in float32")
    picks, predicted = _greedy(slope, curvature, free, count)
    order = [places[i].layer for i in picks]
    return Choice(tuple(sorted(order)), tuple(order), predicted, slope, curvature)


def _one_a_layer(checkpoint: Checkpoint, kind: Kind) -> tuple[Sublayer, ...]:
    """Return the sublayers of a kind, at most one in a layer, each reading a stream."""
    places = checkpoint.sublayers(kind)
    if not places:
        raise InputError(f"no layer has a sublayer of the kind {kind!r}")
    if len({sublayer.layer for sublayer in places}) < len(places):
        raise InputError(f"a layer has more than one {kind}, and they go together: choose by importance")
    if any(sublayer.stream is None for sublayer in places):
        raise InputError(f"no module reads the stream in front of the {kind}: choose by importance")
    return places


def compensated_drop(
    checkpoint: Checkpoint, count: int, calibration: Any, selection: Any, *, kind: Kind = "attention", seed: int = 0
) -> tuple[Checkpoint, Choice]:
    """Return (smaller network, choice): `choose` picks `count` sublayers, and `drop` puts gains in their place.

    Raises
    ------
    InputError
        As `choose` and `drop`.
    """
    choice = choose(checkpoint, count, calibration, selection, kind=kind, seed=seed)
    layers: dict[str, Any] = {kind: choice.layers}
    return drop(checkpoint, **layers, compensate=calibration), choice


def _gains(
    checkpoint: Checkpoint, places: tuple[Sublayer, ...], windows: Windows, calibration: Calibration
) -> list[_Stand]:
    """Fit the gain that would replace each sublayer, all others left as they are."""
    if not calibration.memory:
        return [_static(moments, calibration) for moments in _moments(checkpoint, places, windows)]
    flow, gains = Flow.start(checkpoint.family, checkpoint.model, windows, 0), list[_Stand]()
    at = 0
    for sublayer in places:
        for layer in range(at, sublayer.layer):
            flow = flow.after(layer)
        at = sublayer.layer
        gains.append(_bare_stand(fitted(checkpoint, sublayer, flow, calibration)))
    return gains


def _static(moments: SecondMoments, calibration: Calibration) -> _Stand:
    matrix, bias = moments.solve(calibration.ridge, calibration.rank)
    return lambda u: u @ matrix.to(u).T + bias.to(u)


def _bare_stand(gain: torch.nn.Module) -> _Stand:
    return lambda u: first(gain(u))


def _moments(checkpoint: Checkpoint, places: tuple[Sublayer, ...], windows: Windows) -> list[SecondMoments]:
    """Return the second moments of every sublayer of the unchanged network, from one pass."""
    moments: dict[int, SecondMoments] = {}

    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        more, before = SecondMoments.of(u, F, x), moments.get(sublayer.layer)
        moments[sublayer.layer] = more if before is None else before + more

    with watch(places, on), attention(checkpoint.model, "sdpa"), torch.no_grad():
        for part in in_batches(windows):
            checkpoint.model.base_model(input_ids=part, use_cache=False)
    return [moments[sublayer.layer] for sublayer in places]


def _expansion(
    checkpoint: Checkpoint,
    places: tuple[Sublayer, ...],
    gains: list[_Stand],
    windows: Windows,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (slope, curvature) of the loss, per predicted token."""
    count = len(places)
    slope, curvature = np.zeros(count), np.zeros((count, count))
    generator = torch.Generator(windows[0].device).manual_seed(seed)
    for part in in_batches(windows, _GRADED):
        errors, probes = [torch.empty(0)] * count, [torch.empty(0)] * count
        with (
            watch(places, _probe(places, gains, errors, probes)),
            attention(checkpoint.model, "sdpa"),
            torch.enable_grad(),
        ):
            logits = checkpoint.model(input_ids=part, use_cache=False).logits[:, :-1].flatten(0, 1)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            tokens = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
            of_text = torch.autograd.grad(_total(logits, part[:, 1:].flatten()), probes, retain_graph=True)
            of_network = torch.autograd.grad(_total(logits, tokens), probes)
        slope += _products(of_text, errors).sum((1, 2)).cpu().numpy()
        fisher = _products(of_network, errors).flatten(1)
        curvature += 0.5 * (fisher @ fisher.T).cpu().numpy()
    predicted = sum(len(window) - 1 for window in windows)
    return slope / predicted, curvature / predicted


def _probe(
    places: tuple[Sublayer, ...], gains: list[_Stand], errors: list[torch.Tensor], probes: list[torch.Tensor]
) -> Watcher:
    """Add a zero probe to each contribution, to have a gradient with respect to it, and record the gain's error δ."""

    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> torch.Tensor:
        i = places.index(sublayer)
        with torch.no_grad():
            errors[i] = gains[i](u.detach().to(F)) - F
        probes[i] = torch.zeros_like(F, requires_grad=True)
        return F + probes[i]

    return on


def _products(gradients: tuple[torch.Tensor, ...], errors: list[torch.Tensor]) -> torch.Tensor:
    """Return <g, δ> of every sublayer and token, (layers, windows, tokens)."""
    return torch.stack([(g.double() * e.double()).sum(-1) for g, e in zip(gradients, errors, strict=True)])


def _total(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, targets, reduction="sum")


def _greedy(slope: np.ndarray, curvature: np.ndarray, free: list[int], count: int) -> tuple[list[int], np.ndarray]:
    """Return (order, predicted loss): each step adds the layer of least predicted increase, with its pairs."""
    order: list[int] = []
    predicted: list[float] = []
    while len(order) < count:
        sets = [[*order, i] for i in free if i not in order]
        costs = [slope[s].sum() + curvature[np.ix_(s, s)].sum() for s in sets]
        order = sets[int(np.argmin(costs))]
        predicted.append(min(costs))
    return order, np.array(predicted)
