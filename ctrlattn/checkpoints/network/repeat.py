"""F = f_{b-1} o ... o f_a, and h_K of the loop over F in the place of F(h_0): layers of a network that run K times.

The loop is that of `ctrlattn.passes`. The network is unrolled: every pass has modules of its own around the same
weights, so that each has its own place in the KV cache and transformers gives each its mask and its positions. The pass
is closed by a hook on the last layer of the span. What a pass hands to the next travels with the stream, as an
attribute of its tensor: no module has a state that a second text could meet.
"""

import copy
import json
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import KEY, sublayers
from ctrlattn.checkpoints.network.repeat_proof import require_repeated
from ctrlattn.checkpoints.network.repeated_span import require_loop
from ctrlattn.checkpoints.network.structure import record, shared, structure_of
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.network.unrolled import put_layers, require_list, unrolled
from ctrlattn.checkpoints.network.watch import first, stream_of, with_first
from ctrlattn.checkpoints.trace.compose import tolerance
from ctrlattn.errors import InputError, require_whole
from ctrlattn.passes import Passes, PassState

_ENTRY = "loop"  # in what config.json says under KEY
_CARRIED = "_ctrlattn_loop"  # name of the attribute with which the stream carries the loop


def repeat(
    checkpoint: Checkpoint, *, layers: tuple[int, int], passes: int, controller: Any = None, recall: float = 0.0
) -> Checkpoint:
    """Return a checkpoint whose span of layers runs K times as a controlled loop; the source is untouched.

    All passes share the weights of the source. Each has its own place in the KV cache, so generation with a cache is
    exact. A span without a controller is stacked K times; where recall is 0 the result is that stack bit for bit.

    Parameters
    ----------
    checkpoint : Checkpoint
    layers : (a, b)
        The span is the layers a, ..., b - 1.
    passes : int
        K, at least 1.
    controller : PID, LTIController or python-control system with dt = 1, optional
        C(z) acts on each element of the error from the first pass on; None is C = 1, naive looping. PID(g) alone is
        h + g e, damped sub-steps.
    recall : float
        k_r >= 0, the pull back to h_0, the stream that entered the first pass.

    Returns
    -------
    Checkpoint
        `model` is a transformers model of the same class with K - 1 further spans, and `model.config.ctrlattn["loop"]`
        says what runs how often. A pass that leaves a stream which is not finite ends with an InputError that names it.

    Raises
    ------
    InputTypeError
        A controller of the wrong kind, numbers that are none.
    InputError
        A span that is empty, out of range or whose ends differ in width; no pass; a recall below 0; a controller of
        continuous time or one that a file cannot hold; a network that is repeated already. A traced network whose
        layers share their weights, or are no list; one that computes something else on eight tokens, with or without a
        cache, than its span run K times by hand, since its layers read more than the stream or know their number.

    References
    ----------
    Training-free loops of damped sub-steps: arXiv 2605.23872. Recall: arXiv 2604.15259. A span of naive passes:
    Ouro, arXiv 2510.25741.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import PID, checkpoints
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> looped = repeat(network, layers=(1, 2), passes=4, controller=PID(0.25))
    >>> len(looped.layers), looped.model.config.ctrlattn["loop"]["controller"]["kp"]
    (6, 0.25)
    """
    law = _law(checkpoint, layers, passes, controller, recall)
    family, model = checkpoint.family, shared(checkpoint.model)
    a, b = law.span
    before = structure_of(model)
    layer_list = family.layers_of(model)
    spans = [layer_list[a:b], *(_around_the_same_weights(model, layer_list[a:b]) for _ in range(law.passes - 1))]
    closing = law.closing()
    for k, span in enumerate(spans):
        for layer in span:
            hook = _PassHook(law, closing, k, starts=layer is span[0], ends=layer is span[-1])
            layer.register_forward_hook(hook, with_kwargs=True)
            layer.register_buffer(_CARRIED, _digits(law), persistent=False)  # it decides what the network computes
    places = [*range(b), *list(range(a, b)) * (law.passes - 1), *range(b, len(layer_list))]
    put_layers(family, model, [*layer_list[:a], *chain(*spans), *layer_list[b:]], places)
    stand_ins = {
        kind: {i: stands[layer] for i, layer in enumerate(places) if layer in stands} for kind, stands in before.items()
    }
    longer = unrolled(family, places)
    record(longer, model, stand_ins)
    getattr(model.config, KEY)[_ENTRY] = law.entry()
    if isinstance(family, Traced):
        limit = tolerance(next(model.parameters()).dtype)
        require_repeated(checkpoint, model, law.span, law.passes, closing, limit)
    return replace(checkpoint, model=model, family=longer)


@dataclass(frozen=True, eq=False)
class SpanLoop:
    """What runs how often, and by which law one pass leads to the next."""

    span: tuple[int, int]
    passes: int
    loop: Passes

    def entry(self) -> dict[str, Any]:
        """Return the law as config.json holds it.

        Raises
        ------
        InputError
            A controller of one's own, which a file cannot hold.
        """
        from ctrlattn.config import loop_to_dict

        controller = self.loop.controller
        entry = None if controller is None else loop_to_dict(_carrier(controller))["controller"]
        return {"layers": list(self.span), "passes": self.passes, "controller": entry, "recall": self.loop.recall}

    def closing(self) -> Passes:
        """Return the loop that closes the passes: C = 1 is F(h) itself, which h + (F(h) - h) is not to the last bit."""
        a, _, _, d = self.loop.law.realization()
        return replace(self.loop, controller=None) if not len(a) and d.item() == 1 else self.loop


def loop_in(entry: Any) -> dict[str, Any] | None:
    """Return the arguments of `repeat` in what config.json says of a network; None where nothing is repeated.

    >>> loop_in({"attention": {}, "mlp": {}}) is None
    True
    """
    arguments = entry.get(_ENTRY) if isinstance(entry, dict) else None
    if arguments is None:
        return None
    return {**arguments, "layers": tuple(arguments["layers"]), "controller": _controller_of(arguments["controller"])}


def entry_of(model: Any) -> dict[str, Any] | None:
    """Return what config.json says of the loop of a network, beside what was dropped; None where there is none."""
    entry = getattr(model.config, KEY, None) or {}
    return {_ENTRY: entry[_ENTRY]} if _ENTRY in entry else None


def loop_of(model: Any) -> dict[str, Any] | None:
    """Return the arguments of `repeat` that made this network; None for one in which nothing is repeated."""
    return loop_in(getattr(model.config, KEY, None))


def pass_ends(model: Any) -> list[int]:
    """Return the layers behind which the law of a repeated network changes the stream; none where it is F(h) alone.

    Behind them the next state is h + C(z) e, and not the sum of what the layer added.
    """
    loop = loop_of(model)
    if loop is None or (loop.get("controller") is None and not loop.get("recall")):
        return []
    first, last = loop["layers"]
    return [first + (last - first) * (k + 1) - 1 for k in range(loop["passes"])]


def require_no_loop(checkpoint: Checkpoint) -> None:
    """Raise InputError for a network that `repeat` has made: its passes share their weights and must stay alike."""
    if loop_of(checkpoint.model) is not None:
        raise InputError("layers of this network are repeated: change the source first, and repeat its layers then")


def unrepeated(family: Any, model: Any) -> tuple[Any, Any]:
    """Return (family, network) without repetition, around the same weights; one without a loop as it is."""
    loop = loop_of(model)
    if loop is None:
        return family, model
    (a, b), passes = loop["layers"], loop["passes"]
    model = shared(model)
    layers, later = family.layers_of(model), (passes - 1) * (b - a)
    places = [*range(b), *range(b + later, len(layers))]
    structure = {
        kind: {places.index(i): stand for i, stand in stands.items() if i in places}
        for kind, stands in structure_of(model).items()
    }
    for layer in layers[a:b]:
        delattr(layer, _CARRIED)
        for number, hook in list(layer._forward_hooks.items()):
            if isinstance(hook, _PassHook):
                del layer._forward_hooks[number], layer._forward_hooks_with_kwargs[number]
    put_layers(family, model, [layers[i] for i in places], places)
    once = unrolled(family, places)
    record(once, model, structure)
    return once, model


class _Carried(NamedTuple):
    """What travels through a pass with the stream."""

    h: torch.Tensor  # at the start of this pass
    state: PassState


@dataclass(frozen=True, eq=False)
class _PassHook:
    """Hands the loop from layer to layer, and closes the pass k behind the last layer of the span."""

    law: SpanLoop
    closing: Passes
    k: int
    starts: bool
    ends: bool

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        x, y = stream_of(args, kwargs), first(output)
        opens = self.starts and self.k == 0
        carry = _Carried(x, self.closing.init(x)) if opens else getattr(x, _CARRIED, None)
        if carry is not None and self.starts:
            carry = carry._replace(h=x)  # here and not where the pass before ended: a tensor would hold itself
        if self.ends:
            if carry is None:
                a, b = self.law.span
                raise InputError(
                    f"a layer that closes a pass of the layers {a} to {b - 1} was called on a stream that did not come "
                    "through that pass: the network changes its stream between these layers, or it was not run as a "
                    "whole, on one device"
                )
            y, carry = self._close(y, carry)
        if carry is not None and not (self.ends and self.k == self.law.passes - 1):
            setattr(y, _CARRIED, carry)
        return with_first(output, y)

    def _close(self, y: torch.Tensor, carry: _Carried) -> tuple[torch.Tensor, _Carried]:
        """Return h_{k+1} for F(h_k) = y."""
        a, b = self.law.span
        if y.shape != carry.h.shape:
            raise InputError(
                f"layers {a} to {b - 1} lead from {tuple(carry.h.shape)} to {tuple(y.shape)}: no loop closes"
            )
        new, _, _, state = self.closing.step(carry.h, y, carry.state)
        if not torch.isfinite(new).all():
            raise InputError(
                f"layers {a} to {b - 1}: the stream is not finite after pass {self.k + 1} of {self.law.passes}; fewer "
                "passes, a smaller gain or more recall would be needed"
            )
        return new, carry._replace(state=state)


def _law(checkpoint: Checkpoint, layers: Any, passes: Any, controller: Any, recall: Any) -> SpanLoop:
    """Return the law, checked against the network."""
    require_no_loop(checkpoint)
    require_list(checkpoint.family, checkpoint.model)
    span, loop = require_loop(layers, passes, controller, recall, len(checkpoint.layers))
    _require_one_width(checkpoint, *span)
    law = SpanLoop(span, require_whole("passes", passes), loop)
    law.entry()
    return law


def _require_one_width(checkpoint: Checkpoint, a: int, b: int) -> None:
    """Raise InputError where the ends of a span differ in width: a norm is as wide as the stream it reads.

    Norms stand inside the span and behind it. The layers of a traced network hand one stream on, as the trace has
    shown.
    """
    if isinstance(checkpoint.family, Traced):
        return
    widths = {len(checkpoint.layers): checkpoint.width}
    for sublayer in sublayers(checkpoint.family, checkpoint.model):
        weight = getattr(sublayer.norm, "weight", None)
        if weight is not None:
            widths.setdefault(sublayer.layer, weight.shape[-1])
    ahead, behind = widths.get(a), widths.get(b)
    if None not in (ahead, behind) and ahead != behind:
        raise InputError(
            f"the stream has width {ahead} in front of layer {a} and {behind} behind layer {b - 1}: the span cannot "
            "read its own output"
        )


def _around_the_same_weights(model: Any, layers: list[Any]) -> list[Any]:
    """Make further modules of these layers, around the same weights and the same configuration."""
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    same = [*model.parameters(), *model.buffers(), *configs, model.config.get_text_config()]
    copies: list[Any] = copy.deepcopy(layers, {id(part): part for part in same})
    return copies


def _digits(law: SpanLoop) -> torch.Tensor:
    """Return the law as bytes."""
    return torch.from_numpy(np.frombuffer(json.dumps(law.entry()).encode(), np.uint8).copy())


def _carrier(controller: Any) -> Any:
    """Return a loop with this controller: a file holds controllers as parts of a loop."""
    from ctrlattn.loop import Loop
    from ctrlattn.predictors import CausalMean

    return Loop(CausalMean(), controller=controller)


def _controller_of(entry: dict[str, Any] | None) -> Any:
    """Return the controller that `SpanLoop.entry` has described."""
    if entry is None:
        return None
    import tomli_w

    from ctrlattn import config

    return config.loads(tomli_w.dumps({"loop": {"predictor": "causal_mean", "controller": entry}})).loop.controller
