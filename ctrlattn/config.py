"""Loop <-> TOML, exactly: one typed description of a loop and of the simulation that it is for.

    [loop]
    preset = "pidformer-ema"          # optional; what else is given here replaces the preset's
    skip = 0.0
    feedback = 1.0
    reference_gain = 0.1
    order = "parallel"                # or "sequential"
    normalizer = "rms_norm"           # "none", a name, or {kind = "rms_norm", eps = 1e-6, weight = [...]}
    predictor = {kind = "softmax_attention", heads = 4, causal = false}
    controller = {kind = "pid", kp = 0.8, ki = 0.5, kd = 0.05, form = "ema", ema = 0.3}   # or "none"

    [simulation]
    layers = 20
    tokens = 12
    features = 16
    seed = 0

An array is a nested list (float64) or {dtype = "float32", data = [...]}.
"""

import os
import tomllib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ctrlattn import controllers, normalizers, predictors, presets
from ctrlattn.errors import InputError
from ctrlattn.loop import Loop, Order


@dataclass(frozen=True)
class Simulation:
    """A seeded Gaussian signal and how many layers it passes."""

    layers: int = 20
    tokens: int = 12
    features: int = 16
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Configuration:
    """What one TOML file says."""

    loop: Loop
    simulation: Simulation


def load(path: str | os.PathLike[str]) -> Configuration:
    """Read a TOML file.

    Raises
    ------
    InputError
        A missing file, TOML that does not parse, and every fault of the content at once, one line each with its path
        and value.

    Examples
    --------
    >>> load("no-such-file.toml")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.toml: no such file
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        return loads(text)
    except ValueError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


def loads(text: str) -> Configuration:
    """Read a configuration from TOML text.

    Raises
    ------
    InputError
        As `load`.

    Examples
    --------
    >>> loads('[loop]\\npreset = "neutreno"').loop.controller.kp
    0.6
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"this is not TOML: {error}") from error
    try:
        found = _Configuration.model_validate(tree)
    except ValidationError as error:
        raise InputError("\n".join(_fault(item) for item in error.errors(include_url=False))) from None
    return Configuration(found.loop.build(), Simulation(**found.simulation.model_dump()))


def dumps(loop: Loop, simulation: Simulation | None = None) -> str:
    """The TOML text of a loop; reading it gives the same loop to the last bit.

    Raises
    ------
    InputError
        A predictor, controller or normalizer of one's own, or torch arrays, which a file cannot hold.

    Examples
    --------
    >>> print(dumps(presets.get("neutreno")).splitlines()[1])
    skip = 0.0
    """
    tree: dict[str, Any] = {"loop": loop_to_dict(loop)}
    if simulation is not None:
        tree["simulation"] = dict(vars(simulation))
    return tomli_w.dumps(tree)


def loop_to_dict(loop: Loop) -> dict[str, Any]:
    """The loop as plain dicts, lists, numbers and strings.

    Raises
    ------
    InputError
        As `dumps`.

    Examples
    --------
    >>> loop_to_dict(presets.get("neutreno"))["controller"]["kp"]
    0.6
    """
    return {
        "skip": float(loop.skip),
        "feedback": float(loop.feedback),
        "reference_gain": float(loop.reference_gain),
        "order": loop.order,
        "normalize_input": loop.normalize_input,
        "hold_first": loop.hold_first,
        "predictor": _part_to_dict(loop.predictor, _PREDICTORS, "predictor"),
        "controller": "none" if loop.controller is None else _controller_to_dict(loop.controller),
        "normalizer": "none" if loop.normalizer is None else _normalizer_to_dict(loop.normalizer),
    }


def kinds() -> dict[str, list[str]]:
    """The kinds that each part of a loop may have in a file.

    >>> kinds()["controllers"]
    ['pid', 'lti', 'none']
    """
    unions = {"predictors": _AnyPredictor, "controllers": _AnyController, "normalizers": _AnyNormalizer}
    return {part: [_kind(model) for model in get_args(get_args(union)[0])] for part, union in unions.items()}


# --- arrays


def _array(value: Any) -> np.ndarray:
    """A nested list, or {dtype, data}, as an array."""
    if isinstance(value, np.ndarray):
        return value
    dtype: Any = "float64"
    if isinstance(value, dict):
        if value.keys() != {"dtype", "data"} or value["dtype"] not in ("float32", "float64"):
            raise InputError('an array is a nested list or {dtype = "float32" or "float64", data = [...]}')
        dtype, value = value["dtype"], value["data"]
    try:
        return np.array(value, dtype=dtype)
    except (TypeError, ValueError):
        raise InputError("an array is a nested list of numbers with rows of equal length") from None


def _array_to_plain(value: np.ndarray, where: str) -> Any:
    if not isinstance(value, np.ndarray):
        raise InputError(f"{where} is a torch tensor: a file holds numpy arrays, move the loop first with Loop.to")
    if value.dtype == np.float64:
        return value.tolist()
    if value.dtype == np.float32:
        return {"dtype": "float32", "data": value.tolist()}
    raise InputError(f"{where} has dtype {value.dtype}: a file holds float32 or float64")


Matrix = Annotated[Any, BeforeValidator(_array)]


# --- the typed tree; bounds stand here too, so that a fault in one key does not hide a fault in another


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Part(_Strict):
    """A part of a loop; built while it is validated, so that its own checks are faults of the file."""

    @model_validator(mode="after")
    def _buildable(self) -> "_Part":
        self.build()
        return self

    def build(self) -> Any:
        raise NotImplementedError

    def given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}


class _CausalMean(_Part):
    kind: Literal["causal_mean"]

    def build(self) -> Any:
        return predictors.CausalMean()


class _FixedAttention(_Part):
    kind: Literal["fixed_attention"]
    matrix: Matrix

    def build(self) -> Any:
        return predictors.FixedAttention(**self.given())


class _SoftmaxAttention(_Part):
    kind: Literal["softmax_attention"]
    wq: Matrix = None
    wk: Matrix = None
    wv: Matrix = None
    wo: Matrix = None
    heads: int = Field(default=1, ge=1)
    causal: bool = True
    strict: bool = False
    temperature: float | None = Field(default=None, gt=0)

    def build(self) -> Any:
        return predictors.SoftmaxAttention(**self.given())


class _AssociativeMemory(_Part):
    kind: Literal["associative_memory"]
    keys: Matrix
    values: Matrix
    temperature: float = Field(gt=0)
    sink: float | None = None

    def build(self) -> Any:
        return predictors.AssociativeMemory(**self.given())


class _BilateralFilter(_Part):
    kind: Literal["bilateral_filter"]
    bandwidth: float = Field(gt=0)
    causal: bool = False
    radius: float | None = Field(default=None, ge=0)
    spatial_bandwidth: float | None = Field(default=None, gt=0)
    grid: tuple[int, int] | None = None

    def build(self) -> Any:
        return predictors.BilateralFilter(**self.given())


class _PID(_Part):
    kind: Literal["pid"]
    kp: float = 0.0
    ki: float = 0.0
    kd: float = 0.0
    form: Literal["printed", "ema"] = "printed"
    ema: float = Field(default=0.3, gt=0, le=1)

    def build(self) -> Any:
        return controllers.PID(**self.given())


class _LTI(_Part):
    """The realisation of a discrete SISO system, dt = 1."""

    kind: Literal["lti"]
    A: Matrix
    B: Matrix
    C: Matrix
    D: Matrix

    def build(self) -> Any:
        import control

        a, b, c, d = self.A, self.B, self.C, self.D
        order = a.shape[0] if a.size else 0
        shapes = (a.reshape(order, order), b.reshape(order, 1), c.reshape(1, order), d.reshape(1, 1))
        return controllers.LTIController(control.ss(*shapes, 1, remove_useless_states=False))


class _Normalizer(_Part):
    weight: Matrix = None
    eps: float | None = None

    def build(self) -> Any:
        function = getattr(normalizers, self.kind)  # type: ignore[attr-defined]
        given = {name: value for name, value in self.given().items() if value is not None}
        return partial(function, **given) if given else function


class _RMSNorm(_Normalizer):
    kind: Literal["rms_norm"]


class _LayerNorm(_Normalizer):
    kind: Literal["layer_norm"]
    bias: Matrix = None


class _Nothing(_Part):
    kind: Literal["none"]

    def build(self) -> None:
        return None


class _UnitNorm(_Part):
    kind: Literal["unit_norm"]
    eps: float | None = None

    def build(self) -> Any:
        return normalizers.unit_norm if self.eps is None else partial(normalizers.unit_norm, eps=self.eps)


def _named(value: Any) -> Any:
    """A bare name stands for {kind = name}."""
    return {"kind": value} if isinstance(value, str) else value


def _known_preset(name: Any) -> Any:
    if isinstance(name, str):
        presets.describe(name)
    return name


_PREDICTORS: dict[type, type[_Part]] = {
    predictors.CausalMean: _CausalMean,
    predictors.FixedAttention: _FixedAttention,
    predictors.SoftmaxAttention: _SoftmaxAttention,
    predictors.AssociativeMemory: _AssociativeMemory,
    predictors.BilateralFilter: _BilateralFilter,
}
_AnyPredictor = Annotated[
    _CausalMean | _FixedAttention | _SoftmaxAttention | _AssociativeMemory | _BilateralFilter,
    Field(discriminator="kind"),
]
_AnyController = Annotated[_PID | _LTI | _Nothing, Field(discriminator="kind")]
_AnyNormalizer = Annotated[_RMSNorm | _LayerNorm | _UnitNorm | _Nothing, Field(discriminator="kind")]


class _Loop(_Strict):
    preset: Annotated[str | None, BeforeValidator(_known_preset)] = None
    predictor: Annotated[_AnyPredictor | None, BeforeValidator(_named)] = None
    skip: float | None = None
    feedback: float | None = None
    reference_gain: float | None = None
    order: Order | None = None
    normalize_input: bool | None = None
    hold_first: bool | None = None
    controller: Annotated[_AnyController | None, BeforeValidator(_named)] = None
    normalizer: Annotated[_AnyNormalizer | None, BeforeValidator(_named)] = None

    @model_validator(mode="after")
    def _buildable(self) -> "_Loop":
        self.build()
        return self

    def build(self) -> Loop:
        given = {name: getattr(self, name) for name in type(self).model_fields if name != "preset"}
        built = {
            name: value.build() if isinstance(value, _Part) else value
            for name, value in given.items()
            if value is not None
        }
        if self.preset is not None:
            return replace(presets.get(self.preset), **built)
        if "predictor" not in built:
            raise InputError("a loop needs a preset or a predictor")
        return Loop(**built)


class _Simulation(_Strict):
    layers: int = Field(default=Simulation.layers, ge=0)
    tokens: int = Field(default=Simulation.tokens, ge=1)
    features: int = Field(default=Simulation.features, ge=1)
    seed: int = Field(default=Simulation.seed, ge=0)


class _Configuration(_Strict):
    loop: _Loop
    simulation: _Simulation = _Simulation()


# --- faults and writing


_KINDS = {
    "causal_mean", "fixed_attention", "softmax_attention", "associative_memory", "bilateral_filter", "pid", "lti",
    "rms_norm", "layer_norm", "unit_norm", "none",
}  # fmt: skip
_MODELS: tuple[type[BaseModel], ...] = (_Loop, _Simulation, *_PREDICTORS.values(), _PID, _LTI, _LayerNorm)
_KEYS = sorted({"loop", "simulation"} | {name for model in _MODELS for name in model.model_fields})


def _fault(item: Any) -> str:
    """One line: path, what is wrong, what was found, the nearest name where a name is unknown."""
    # pydantic puts the chosen branch of a union into the path: users did not write it.
    path = [str(part) for part in item["loc"] if part not in _KINDS and not str(part).startswith("function-")]
    name, value = ".".join(path) or "file", item["input"]
    if item["type"] == "extra_forbidden":
        if len(path) == 1 and path[0] in _Loop.model_fields:
            return f"{name}: belongs below [loop]"
        nearest = get_close_matches(path[-1], _KEYS, n=1)
        return f"{name}: unknown key" + (f", did you mean {nearest[0]!r}?" if nearest else "")
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        expected = item["ctx"].get("expected_tags") or ", ".join(sorted(_KINDS))
        wrong = item["ctx"].get("tag", "nothing")
        nearest = get_close_matches(str(wrong), _KINDS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {expected}"
        return f"{name}.kind: unknown kind {wrong!r}, {hint}"
    message = str(item["msg"]).removeprefix("Value error, ")
    found = "" if item["type"] == "missing" or isinstance(value, dict | BaseModel) else f", got {value!r}"
    return f"{name}: {message}{found}"


def _part_to_dict(part: Any, known: dict[type, type[_Part]], where: str) -> dict[str, Any]:
    model = known.get(type(part))
    if model is None:
        raise InputError(
            f"{where} {part!r} is not one of {', '.join(t.__name__ for t in known)}: a file cannot hold it"
        )
    plain: dict[str, Any] = {"kind": _kind(model)}
    for name in model.model_fields:
        if name == "kind":
            continue
        value = getattr(part, name)
        if value is None:
            continue
        is_list = isinstance(value, list | tuple)
        is_plain = isinstance(value, bool | int | float | str)
        plain[name] = list(value) if is_list else value if is_plain else _array_to_plain(value, f"{where}.{name}")
    return plain


def _kind(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]


def _controller_to_dict(controller: Any) -> dict[str, Any]:
    if isinstance(controller, controllers.LTIController):
        matrices = zip("ABCD", controller.realization(), strict=True)
        return {"kind": "lti", **{name: matrix.tolist() for name, matrix in matrices}}
    return _part_to_dict(controller, {controllers.PID: _PID}, "controller")


def _normalizer_to_dict(normalizer: Any) -> dict[str, Any]:
    bound = normalizer.keywords if isinstance(normalizer, partial) else {}
    function = normalizer.func if isinstance(normalizer, partial) else normalizer
    name = getattr(function, "__name__", "")
    if getattr(normalizers, name, None) is not function or (isinstance(normalizer, partial) and normalizer.args):
        raise InputError(f"normalizer {normalizer!r} is not one of ctrlattn.normalizers: a file cannot hold it")
    plain = {
        key: value if isinstance(value, bool | int | float) else _array_to_plain(value, f"normalizer.{key}")
        for key, value in sorted(bound.items())
        if value is not None
    }
    return {"kind": name, **plain}
