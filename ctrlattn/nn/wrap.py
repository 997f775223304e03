"""o_proj(attention + u),  u = C(z)(beta v_0 - v): a controller over depth in a transformers model that is loaded.

Two hooks a layer, no module replaced and no name changed: one reads the values behind their projection (with its
bias), one adds the control before the output projection. What passes from layer to layer lives for one forward pass.
"""

import threading
from operator import attrgetter
from types import TracebackType
from typing import Any, NamedTuple

import torch

from ctrlattn.controllers import as_controller
from ctrlattn.nn.attention import DepthState, control_values, value_loop


class Places(NamedTuple):
    """Attribute paths: from the base model to its list of layers; inside a layer, to two linear maps."""

    layers: str
    value: str
    output: str


_LLAMA = Places("layers", "self_attn.v_proj", "self_attn.o_proj")
_BERT = Places("encoder.layer", "attention.self.value", "attention.output.dense")
_VIT = Places("layers", "attention.v_proj", "attention.o_proj")
_OLDER_VIT = Places("encoder.layer", "attention.attention.value", "attention.output.dense")

PLACES = {
    "llama": (_LLAMA,),
    "mistral": (_LLAMA,),
    "qwen2": (_LLAMA,),
    "bert": (_BERT,),
    "roberta": (_BERT,),
    "vit": (_VIT, _OLDER_VIT),
    "deit": (_VIT, _OLDER_VIT),
}


class Wrapped:
    """A controller inside a model, until `remove` or the end of a `with` block; made by `wrap`."""

    def __init__(self, model: Any, places: Places, controller: Any, reference_gain: float) -> None:
        self.loop = value_loop(as_controller(controller), reference_gain)
        self._pass = threading.local()  # one forward pass a thread
        heads, base = model.config.num_attention_heads, model.base_model
        begin = base.register_forward_pre_hook(self._begin)
        self._hooks = [begin, base.register_forward_hook(self._end, always_call=True)]
        for layer in attrgetter(places.layers)(base):
            value, output = attrgetter(places.value)(layer), attrgetter(places.output)(layer)
            size = output.in_features // heads
            counts = (value.out_features // size, heads)
            self._hooks += [
                value.register_forward_hook(self._reader(size, counts)),
                output.register_forward_pre_hook(self._adder()),
            ]

    def remove(self) -> None:
        """Take the controller out again; the model is what it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> "Wrapped":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _begin(self, module: Any, arguments: Any) -> None:
        self._pass.open, self._pass.depth_state, self._pass.control = True, None, None

    def _end(self, module: Any, arguments: Any, output: Any) -> None:
        self._pass.open, self._pass.depth_state, self._pass.control = False, None, None

    def _reader(self, size: int, counts: tuple[int, int]) -> Any:
        """v of this layer, repeated to the query heads, and what the controller makes of it."""

        def read(module: Any, arguments: Any, v: torch.Tensor) -> None:
            if not getattr(self._pass, "open", False):
                raise RuntimeError(
                    "a wrapped layer was called outside a forward pass of its model (alone, or again by gradient "
                    "checkpointing): its control depends on the layers before; remove the controller first"
                )
            v = v.unflatten(-1, (counts[0], size))
            v = v if counts[0] == counts[1] else v.repeat_interleave(counts[1] // counts[0], -2)
            state: DepthState | None = self._pass.depth_state
            self._pass.control, self._pass.depth_state = control_values(self.loop, v, state)

        return read

    def _adder(self) -> Any:
        def add(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            u = self._pass.control
            return None if u is None else (arguments[0] + u.flatten(-2), *arguments[1:])

        return add


def wrap(model: Any, controller: Any, *, reference_gain: float = 1.0, places: Places | None = None) -> Wrapped:
    """Put a controller over depth into a loaded transformers model, in place.

        softmax(q k^T / sqrt(D)) v + u before the output projection;  e = beta v_0 - v,  u = C(z) e,  off at layer 0

    Nothing of the model is replaced: its attention kernel, cache, names and weights stay, and with gains of 0 its
    outputs do, bit for bit. The control is per token, so that generation with a cache needs nothing more. Gains that
    are learned belong to the controller: give its parameters to the optimizer.

    Parameters
    ----------
    model : transformers model
        BERT, RoBERTa, ViT, DeiT, Llama, Mistral or Qwen2, with or without a head; a Checkpoint's `.model`.
    controller : PID, LTIController, LearnedPID, Actuator or python-control system with dt = 1
    reference_gain : float
        beta.
    places : Places, optional
        Where the linear maps of another architecture are.

    Returns
    -------
    Wrapped
        With `.remove()`; also a context manager.

    Raises
    ------
    TypeError
        No controller, or one of the wrong kind.
    ValueError
        An architecture that is not known, or without the linear maps named; when it runs, layers of different widths.
    RuntimeError
        When it runs: a layer called outside a forward pass, as gradient checkpointing does.

    References
    ----------
    Nguyen, Uribe, Nguyen, Baraniuk, PIDformer, ICML 2024, arXiv 2402.15989, section 3.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import PID
    >>> config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
    ...                                  intermediate_size=8)
    >>> model = transformers.BertModel(config).eval()
    >>> before = model(torch.tensor([[1, 2, 3]])).last_hidden_state
    >>> with wrap(model, PID(0.6)):
    ...     during = model(torch.tensor([[1, 2, 3]])).last_hidden_state
    >>> bool((before == during).all()), bool((before == model(torch.tensor([[1, 2, 3]])).last_hidden_state).all())
    (False, True)
    """
    if controller is None:
        raise TypeError("wrap needs a controller: a PID, an LTIController or a LearnedPID")
    return Wrapped(model, _places_of(model, places), controller, reference_gain)


def _places_of(model: Any, places: Places | None) -> Places:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind is None:
        raise ValueError(f"{type(model).__name__} is no transformers model: it has no config.model_type")
    candidates = (places,) if places is not None else PLACES.get(kind, ())
    if not candidates:
        raise ValueError(
            f"unknown architecture {kind!r}: known are {', '.join(PLACES)}; for another one give places=Places(layers, "
            "value, output), the attribute paths of its layers and of two linear maps inside each"
        )
    missing = []
    for candidate in candidates:
        fault = _fault(model, candidate)
        if fault is None:
            return candidate
        missing.append(fault)
    raise ValueError(f"{type(model).__name__} cannot be wrapped: {missing[0]}")


def _fault(model: Any, places: Places) -> str | None:
    """What is not where `places` says, or None."""
    try:
        layers = list(attrgetter(places.layers)(model.base_model))
        maps = [(attrgetter(places.value)(layer), attrgetter(places.output)(layer)) for layer in layers]
    except AttributeError as error:
        return f"{places} does not fit ({error})"
    if not maps:
        return "it has no layer"
    if not all(hasattr(v, "out_features") and hasattr(o, "in_features") for v, o in maps):
        return f"{places.value} and {places.output} must be linear maps"
    heads = model.config.num_attention_heads
    value, output = maps[0][0].out_features, maps[0][1].in_features
    if output % heads or value % (output // heads) or output % value:
        return f"{value} value features and {output} of {heads} heads do not divide into heads of one size"
    return None
