"""o_proj(attention + u),  u = C(z)(beta v_0 - v): a controller over depth, hooked into a loaded transformers model.

No module is replaced and no name changes. Each layer has two hooks: one reads the values behind their projection (with
its bias), and one adds the control in front of the output projection. The state that passes from layer to layer lives
for one forward pass.
"""

import threading
from types import TracebackType
from typing import Any, NamedTuple

import torch

from ctrlattn.checkpoints.measure.weights import value_rows
from ctrlattn.checkpoints.network.families import FAMILIES, at
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.nn.modules.attention import DepthState, control_values
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


class Wrapped:
    """A controller inside a model, until `remove` or the end of a `with` block; made by `wrap`."""

    def __init__(self, model: Any, places: Places, controller: Any, reference_gain: float) -> None:
        self.tracking = Tracking(controller, reference_gain)
        self._pass = threading.local()  # each thread has its own forward pass
        heads, base = model.config.num_attention_heads, model.base_model
        begin = base.register_forward_pre_hook(self._begin)
        self._hooks = [begin, base.register_forward_hook(self._end, always_call=True)]
        for layer in at(base, places.layers):
            value, output = at(layer, places.value), at(layer, places.output)
            size = _features(output)[0] // heads
            self._hooks += [
                value.register_forward_hook(self._reader(places.fused, size, heads)),
                output.register_forward_pre_hook(self._adder()),
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
        self._pass.open, self._pass.depth_state, self._pass.control = True, None, None

    def _end(self, module: Any, arguments: Any, output: Any) -> None:
        self._pass.open, self._pass.depth_state, self._pass.control = False, None, None

    def _reader(self, fused: str, size: int, heads: int) -> Any:
        """A hook that reads v of this layer, repeats it to the query heads, and computes u from it."""

        def read(module: Any, arguments: Any, v: torch.Tensor) -> None:
            if not getattr(self._pass, "open", False):
                raise RuntimeError(
                    "a wrapped layer was called outside a forward pass of its model (alone, or again by gradient "
                    "checkpointing): its control depends on the layers before; remove the controller first"
                )
            v = value_rows(fused, v.movedim(-1, 0), heads, size).movedim((0, 1), (-2, -1))
            v = v if v.shape[-2] == heads else v.repeat_interleave(heads // v.shape[-2], -2)
            state: DepthState | None = self._pass.depth_state
            self._pass.control, self._pass.depth_state = control_values(self.tracking, v, state)

        return read

    def _adder(self) -> Any:
        def add(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            u = self._pass.control
            return None if u is None else (arguments[0] + u.flatten(-2), *arguments[1:])

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
        A model of a family in `ctrlattn.checkpoints.FAMILIES` (Llama, Mistral, Qwen, Gemma, GPT-2, GPT-NeoX, BERT,
        RoBERTa, ViT, DeiT ...), with or without a head, such as the `.model` of a Checkpoint.
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
        The architecture is unknown or lacks the linear maps. In a forward pass: layers have different widths.
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
    return Wrapped(model, _places_of(model, places), controller, reference_gain)


def _places_of(model: Any, places: Places | None) -> Places:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind is None:
        raise InputError(f"{type(model).__name__} is not a transformers model: it has no config.model_type")
    if places is None and kind not in FAMILIES:
        raise InputError(
            f"unknown architecture {kind!r}: known are {', '.join(FAMILIES)}; for another one give places=Places("
            "layers, value, output), the attribute paths of its layers and of two linear maps inside each"
        )
    if places is None:
        family = FAMILIES[kind]
        places = Places(family.layers, family.value, family.output, family.fused)
    fault = _fault(model, places)
    if fault is not None:
        raise InputError(f"{type(model).__name__} cannot be wrapped: {fault}")
    return places


def _features(linear: Any) -> tuple[int, int]:
    """(in, out) of a linear map or of a Conv1D of GPT-2; (0, 0) for anything else."""
    if hasattr(linear, "in_features"):
        return linear.in_features, linear.out_features
    return getattr(linear, "nx", 0), getattr(linear, "nf", 0)


def _fault(model: Any, places: Places) -> str | None:
    """What does not fit the attribute paths of `places`, or None."""
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
