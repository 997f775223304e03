"""o_proj(attention + u),  u = C(z)(beta v_0 - v): a controller over depth, hooked into a loaded transformers model.

No module is replaced and no name changes. Each layer has two hooks: one reads the values behind their projection (with
its bias), and one adds the control in front of the output projection. The state that passes from layer to layer lives
for one forward pass.
"""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

import torch

from ctrlattn.checkpoints.measure.value_paths import value_paths, values_in
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import FAMILIES, KEY, at
from ctrlattn.checkpoints.network.structure import traced_in
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.trace.run import trace
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.nn.modules.attention import control_values
from ctrlattn.tracking import Tracking


class Places(NamedTuple):
    """Attribute paths from the base model to its list of layers and, inside a layer, to two linear maps.

    The table `ctrlattn.checkpoints.FAMILIES` has them for known families. `fused` says how q, k and v lie in one map:
    "" (v has its own map), "blocks" or "interleaved".
    """

    layers: str
    value: str
    output: str
    fused: str = ""


class _Entry(NamedTuple):
    """Where a controller enters one attention: the module that gives v, the map that reads o, and how v lies there."""

    value: Any
    output: Any
    fused: str
    heads: int
    size: int
    axis: int = 1


class Wrapped:
    """A controller inside a model, until `remove` or the end of a `with` block; made by `wrap`."""

    def __init__(self, model: Any, entries: Iterable[_Entry], controller: Any, reference_gain: float) -> None:
        self.tracking = Tracking(controller, reference_gain)
        self._pass = threading.local()  # each thread has its own forward pass
        base = model.base_model
        begin = base.register_forward_pre_hook(self._begin)
        self._hooks = [begin, base.register_forward_hook(self._end, always_call=True)]
        for entry in entries:
            self._hooks += [
                entry.value.register_forward_hook(self._read),
                entry.output.register_forward_pre_hook(self._adder(entry)),
            ]

    def remove(self) -> None:
        """Take the controller out again; the model is then as it was before."""
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
        self._pass.open, self._pass.depth_state, self._pass.values = True, None, None

    def _end(self, module: Any, arguments: Any, output: Any) -> None:
        self._pass.open, self._pass.depth_state, self._pass.values = False, None, None

    def _read(self, module: Any, arguments: Any, values: torch.Tensor) -> None:
        if not getattr(self._pass, "open", False):
            raise RuntimeError(
                "a wrapped layer was called outside a forward pass of its model (alone, or again by gradient "
                "checkpointing): its control depends on the layers before; remove the controller first"
            )
        self._pass.values = values

    def _adder(self, entry: _Entry) -> Any:
        """Return a hook that computes u from the values of this layer and adds it to what the output map reads."""

        def add(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            o, state = arguments[0], self._pass.depth_state
            v = values_in(self._pass.values, entry.axis, entry.fused, entry.heads, entry.size)
            tokens = (
                o.numel() // v[:, 0].numel()
            )  # where values are made of a cache, they are those of earlier tokens too
            u, self._pass.depth_state = control_values(self.tracking, v[:, -tokens:], state)
            return None if u is None else (o + u.reshape(o.shape), *arguments[1:])

        return add


def wrap(model: Any, controller: Any, *, reference_gain: float = 1.0, places: Places | None = None) -> Wrapped:
    """Put a controller over depth into a loaded transformers model, in place.

        softmax(q k^T / sqrt(D)) v + u before the output projection;  e = beta v_0 - v,  u = C(z) e,  0 at layer 0

    The attention kernel, the cache, the names and the weights of the model stay. With gains of 0 its outputs stay as
    well, bit for bit. The control acts on each token alone, so that generation with a cache needs nothing more. Learned
    gains are parameters of the controller, which an optimizer must be given.

    Parameters
    ----------
    model : transformers model
        With or without a head, such as the `.model` of a Checkpoint. The families in `ctrlattn.checkpoints.FAMILIES`
        (Llama, GPT-2, BERT, ViT ...) are read by their row. Any other residual network is traced, and the values of its
        attention are those features that reach the output map head by head, seen by changing them. Layers without
        values of their own (a mixer, values that are shared with another layer) get no control; v_0 is that of the
        first layer that has some. Behind a gate, u is added to the gated sum.
    controller : PID, LTIController, LearnedPID, Actuator or python-control system with dt = 1
    reference_gain : float
        beta.
    places : Places, optional
        Attribute paths for another architecture.

    Returns
    -------
    Wrapped
        It has `.remove()` and is a context manager.

    Raises
    ------
    InputTypeError
        The controller is missing or of the wrong kind.
    InputError
        The architecture cannot be traced or lacks the linear maps. In a forward pass: layers have different widths.
    RuntimeError
        A layer is called outside a forward pass of the model, as gradient checkpointing does.

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
        raise InputTypeError("wrap needs a controller: a PID, an LTIController or a LearnedPID")
    return Wrapped(model, _entries(model, places), controller, reference_gain)


def _entries(model: Any, places: Places | None) -> list[_Entry]:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind is None:
        raise InputError(f"{type(model).__name__} is not a transformers model: it has no config.model_type")
    if places is None and kind not in FAMILIES:
        return _traced_entries(model)
    if places is None:
        family = FAMILIES[kind]
        places = Places(family.layers, family.value, family.output, family.fused)
    fault = _fault(model, places)
    if fault is not None:
        raise InputError(f"{type(model).__name__} cannot be wrapped: {fault}")
    heads = model.config.num_attention_heads
    pairs = [(at(layer, places.value), at(layer, places.output)) for layer in at(model.base_model, places.layers)]
    return [_Entry(value, o, places.fused, heads, _features(o)[0] // heads) for value, o in pairs]


def _traced_entries(model: Any) -> list[_Entry]:
    """Find the entries of a network without a row: its structure is traced, or read where it was changed by `drop`."""
    name = model.config.model_type
    traced = traced_in(getattr(model.config, KEY, None) or {}) or Traced(name, trace(model))
    checkpoint = Checkpoint(model, None, traced, name)
    layers = checkpoint.layers
    return [
        _Entry(at(layers[p.layer], p.value), at(layers[p.layer], p.output), p.fused, p.heads, p.size, p.axis)
        for p in value_paths(checkpoint)
    ]


def _features(linear: Any) -> tuple[int, int]:
    """Return (in, out) of a linear map or of a Conv1D of GPT-2; (0, 0) for anything else."""
    if hasattr(linear, "in_features"):
        return linear.in_features, linear.out_features
    return getattr(linear, "nx", 0), getattr(linear, "nf", 0)


def _fault(model: Any, places: Places) -> str | None:
    """Say what does not fit the attribute paths of `places`, or return None."""
    try:
        layers = list(at(model.base_model, places.layers))
        maps = [(at(layer, places.value), at(layer, places.output)) for layer in layers]
    except InputError as error:
        return f"{places} does not fit ({error})"
    if not maps:
        return "it has no layer"
    if not all(_features(linear)[0] for pair in maps for linear in pair):
        return f"{places.value} and {places.output} must be linear maps"
    heads = model.config.num_attention_heads
    value, output = _features(maps[0][0])[1], _features(maps[0][1])[0]
    if places.fused:
        return None if value == 3 * output else f"{places.value} has {value} features where q, k, v take {3 * output}"
    if output % heads or value % (output // heads) or output % value:
        return f"{value} value features and {output} of {heads} heads do not divide into heads of one size"
    return None
