"""The schema of a configuration file: for every part of a loop a pydantic model with keys, types, bounds and a builder.

A new predictor, controller or normalizer becomes known to files by one class here and its place in one of the unions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WrapValidator, model_validator

from ctrlattn import controllers, normalizers, predictors, presets
from ctrlattn.arrays import require_gain
from ctrlattn.errors import InputError
from ctrlattn.loop import Loop, Order


@dataclass(frozen=True)
class Simulation:
    """A seeded Gaussian signal and how many layers it passes."""

    layers: int = 20
    tokens: int = 12
    features: int = 16
    seed: int = 0


def kinds() -> dict[str, list[str]]:
    """Return the kinds that each part of a loop may have in a file.

    >>> kinds()["controllers"]
    ['pid', 'lti', 'none']
    """
    unions = {"predictors": AnyPredictor, "controllers": AnyController, "normalizers": AnyNormalizer}
    return {part: [model.kind_name() for model in members(union)] for part, union in unions.items()}


def members(union: Any) -> tuple[type["Part"], ...]:
    """Return the models of AnyPredictor, AnyController or AnyNormalizer."""
    return get_args(get_args(union)[0])


def _array(value: Any) -> np.ndarray:
    """Return a nested list, or {dtype, data}, as an array."""
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


Matrix = Annotated[Any, BeforeValidator(_array)]


def _gain(value: Any, number: Callable[[Any], float]) -> Any:
    """Return a number, or an array of one number for each feature."""
    return require_gain("a gain", _array(value)) if isinstance(value, list | dict | np.ndarray) else number(value)


GainValue = Annotated[float, WrapValidator(_gain)]


# Bounds stand here as well as in the things that are made, so that a fault in one key does not hide one in another.


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Part(_Strict):
    """A part of a loop; it is built while it is validated, so that its own checks are faults of the file."""

    makes: ClassVar[Callable[..., Any]]

    @classmethod
    def kind_name(cls) -> str:
        """Return the word that stands for this model in a file."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])

    @classmethod
    def options(cls) -> list[str]:
        """Return the keys of the table beside `kind`."""
        return [name for name in cls.model_fields if name != "kind"]

    @model_validator(mode="after")
    def _buildable(self) -> "Part":
        self.build()
        return self

    def build(self) -> Any:
        return type(self).makes(**self.given())

    def given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.options()}


class _CausalMean(Part):
    makes = predictors.CausalMean
    kind: Literal["causal_mean"]


class _FixedAttention(Part):
    makes = predictors.FixedAttention
    kind: Literal["fixed_attention"]
    matrix: Matrix


class _SoftmaxAttention(Part):
    makes = predictors.SoftmaxAttention
    kind: Literal["softmax_attention"]
    wq: Matrix = None
    wk: Matrix = None
    wv: Matrix = None
    wo: Matrix = None
    heads: int = Field(default=1, ge=1)
    causal: bool = True
    strict: bool = False
    temperature: float | None = Field(default=None, gt=0)


class _AssociativeMemory(Part):
    makes = predictors.AssociativeMemory
    kind: Literal["associative_memory"]
    keys: Matrix
    values: Matrix
    temperature: float = Field(gt=0)
    sink: float | None = None


class _BilateralFilter(Part):
    makes = predictors.BilateralFilter
    kind: Literal["bilateral_filter"]
    bandwidth: float = Field(gt=0)
    causal: bool = False
    radius: float | None = Field(default=None, ge=0)
    spatial_bandwidth: float | None = Field(default=None, gt=0)
    grid: tuple[int, int] | None = None


class _PID(Part):
    makes = controllers.PID
    kind: Literal["pid"]
    kp: float = 0.0
    ki: float = 0.0
    kd: float = 0.0
    form: Literal["printed", "ema"] = "printed"
    ema: float = Field(default=0.3, gt=0, le=1)


class _LTI(Part):
    """The realisation of a discrete SISO system, dt = 1."""

    makes = controllers.LTIController
    kind: Literal["lti"]
    A: Matrix
    B: Matrix
    C: Matrix
    D: Matrix

    def build(self) -> Any:
        import control

        o = len(self.A) if self.A.ndim == 2 else 0  # a static gain has A = []
        shapes = {"A": (o, o), "B": (o, 1), "C": (1, o), "D": (1, 1)}
        for name, shape in shapes.items():
            if getattr(self, name).size != shape[0] * shape[1]:
                raise InputError(f"{name} must be {shape} for a state of order {o}, got {getattr(self, name).shape}")
        matrices = (getattr(self, name).reshape(shape) for name, shape in shapes.items())
        return self.makes(control.ss(*matrices, 1, remove_useless_states=False))


class _Absent(Part):
    kind: Literal["none"]

    def build(self) -> None:
        return None


class _Normalizer(Part):
    def build(self) -> Any:
        bound = {name: value for name, value in self.given().items() if value is not None}
        return partial(type(self).makes, **bound) if bound else type(self).makes


class _RMSNorm(_Normalizer):
    makes = normalizers.rms_norm
    kind: Literal["rms_norm"]
    weight: Matrix = None
    eps: float | None = None


class _LayerNorm(_Normalizer):
    makes = normalizers.layer_norm
    kind: Literal["layer_norm"]
    weight: Matrix = None
    eps: float | None = None
    bias: Matrix = None


class _UnitNorm(_Normalizer):
    makes = normalizers.unit_norm
    kind: Literal["unit_norm"]
    eps: float | None = None


AnyPredictor = Annotated[
    _CausalMean | _FixedAttention | _SoftmaxAttention | _AssociativeMemory | _BilateralFilter,
    Field(discriminator="kind"),
]
AnyController = Annotated[_PID | _LTI | _Absent, Field(discriminator="kind")]
AnyNormalizer = Annotated[_RMSNorm | _LayerNorm | _UnitNorm | _Absent, Field(discriminator="kind")]


def _as_table(value: Any) -> Any:
    """Return {kind = name} for a bare name, which stands for it."""
    return {"kind": value} if isinstance(value, str) else value


def _known_preset(name: Any) -> Any:
    if isinstance(name, str):
        presets.describe(name)
    return name


class LoopModel(_Strict):
    """The table [loop]."""

    preset: Annotated[str | None, BeforeValidator(_known_preset)] = None
    predictor: Annotated[AnyPredictor | None, BeforeValidator(_as_table)] = None
    skip: GainValue | None = None
    feedback: GainValue | None = None
    reference_gain: float | None = None
    order: Order | None = None
    normalize_input: bool | None = None
    hold_first: bool | None = None
    controller: Annotated[AnyController | None, BeforeValidator(_as_table)] = None
    normalizer: Annotated[AnyNormalizer | None, BeforeValidator(_as_table)] = None

    @model_validator(mode="after")
    def _buildable(self) -> "LoopModel":
        self.build()
        return self

    def build(self) -> Loop:
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "preset"}
        built = {
            name: value.build() if isinstance(value, Part) else value
            for name, value in values.items()
            if value is not None
        }
        if self.preset is not None:
            return replace(presets.get(self.preset), **built)
        if "predictor" not in built:
            raise InputError("a loop needs a preset or a predictor")
        return Loop(**built)


class SimulationModel(_Strict):
    """The table [simulation]."""

    layers: int = Field(default=Simulation.layers, ge=0)
    tokens: int = Field(default=Simulation.tokens, ge=1)
    features: int = Field(default=Simulation.features, ge=1)
    seed: int = Field(default=Simulation.seed, ge=0)


class File(_Strict):
    """The whole file."""

    loop: LoopModel
    simulation: SimulationModel = SimulationModel()
