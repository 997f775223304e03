"""part(measurement) -> (variables, passes): a network on one text, and the helpers that all parts share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator

from ctrlattn.checkpoints.measure.jacobian import recorded_jacobian, remembering
from ctrlattn.checkpoints.measure.layer_functions import LayerFunction, layer_functions
from ctrlattn.checkpoints.measure.matrices import absent_matrices
from ctrlattn.checkpoints.measure.sublayer_signals import SublayerSignals, sublayer_signals
from ctrlattn.checkpoints.measure.tap import tap, token_names
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import leads
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.errors import InputError
from ctrlattn.progress import Progress

if TYPE_CHECKING:
    import xarray as xr

    from ctrlattn.stability.nonnormal.krylov import SingularTriplets

SUBLAYERS = ("attention", "mlp")
_ROOM = 2**29  # bytes for the recordings of layers, which the next part can use
_COPIES = 8  # of what a layer computes, in a recording: measured, 12 MB for a layer of SmolLM2-135M on 64 tokens


@dataclass(frozen=True)
class Effort:
    """How many products with the Jacobians each estimate may take.

    Attributes
    ----------
    probes : int
        Random directions for the typical gain of a layer.
    singular, lanczos : int
        Number of leading singular vectors of a layer, and of Lanczos steps for them at most: the steps end where all
        errors are below 1e-4 of the largest singular value.
    arnoldi : int
        Arnoldi steps for the spectral radius of a layer.
    commutator : int
        Random probes for the departure of a layer from normality.
    exponents, sweeps : int
        Number of exponents over depth, and of forward sweeps for them.
    """

    probes: int = 4
    singular: int = 4
    lanczos: int = 48
    arnoldi: int = 20
    commutator: int = 4
    exponents: int = 4
    sweeps: int = 4

    def __post_init__(self) -> None:
        least = {"commutator": 2, "lanczos": self.singular}
        for name, value in vars(self).items():
            if value < least.get(name, 1):
                raise InputError(f"Effort.{name} must be at least {least.get(name, 1)}, got {value}")


class PassCount(NamedTuple):
    """Cost of a part, in passes through all layers.

    Attributes
    ----------
    forward : float
        Evaluations of the network.
    jvp, vjp : float
        Products J v and J'w with the Jacobians of all layers.
    """

    forward: float = 0.0
    jvp: float = 0.0
    vjp: float = 0.0


@dataclass(frozen=True, eq=False)
class Measurement:
    """A network on one text; the parts of a profile share its recorded pass and its layers as functions."""

    checkpoint: Checkpoint
    ids: Any
    effort: Effort
    seed: int
    report: Progress
    with_matrices: bool = True  # whether a part asks for attention matrices

    @cached_property
    def recorded(self) -> "xr.Dataset":
        """The signals of `tap`, from one pass."""
        return tap(self.checkpoint, self.ids, matrices=self.with_matrices)

    @cached_property
    def watched(self) -> SublayerSignals:
        """Signals of whatever sublayers a traced network has, from one pass."""
        return sublayer_signals(self.checkpoint, self.ids, with_matrices=self.with_matrices)

    @property
    def is_traced(self) -> bool:
        """Whether the network has no row in the table of families."""
        return isinstance(self.checkpoint.family, Traced)

    @property
    def is_watched(self) -> bool:
        """Whether hooks have read the sublayers of a traced network; the recorded pass has its stream just as well."""
        return "watched" in vars(self)

    @property
    def slots(self) -> tuple[str, ...]:
        """The sublayers that a layer has, in order."""
        return self.watched.slots if self.is_traced else SUBLAYERS

    @property
    def tokens(self) -> list[str] | None:
        """The texts of the tokens, once a pass was recorded."""
        if "watched" in vars(self):
            inputs = inputs_of(self.checkpoint, self.ids)
            return token_names(self.checkpoint, inputs, self.state.shape[-2])
        if "recorded" in vars(self) and "text" in self.recorded.coords:
            return [str(t) for t in self.recorded["text"].to_numpy()]
        return None

    @property
    def matrices(self) -> list[np.ndarray | None]:
        """Attention matrices (heads, n, n) of each layer; None where a layer has none."""
        if self.is_watched:
            return list(self.watched.matrices)
        if "attention" not in self.recorded:
            return [None] * len(self.checkpoint.layers)
        return [None if np.isnan(matrix).all() else matrix for matrix in self.recorded["attention"].to_numpy()]

    @cached_property
    def functions(self) -> list[tuple[LayerFunction, Any]]:
        """Each layer as a function, in float32 at least, and the stream it reads, from one pass."""
        return layer_functions(self.checkpoint, self.ids, wide=True)

    @property
    def passes(self) -> int:
        """How many passes through the whole network have been made so far."""
        return sum(name in vars(self) for name in ("recorded", "watched", "functions"))

    @property
    def state(self) -> np.ndarray:
        """The stream at every depth, (L + 1, n, d); several streams stand side by side in it, (L + 1, n, lanes d)."""
        if self.is_watched:
            return self.watched.state
        state = self.recorded["state"]
        if "lane" in state.dims:
            state = state.transpose("depth", "token", "lane", "feature")
        x = state.to_numpy().astype(np.float64)
        return x.reshape(*x.shape[:2], -1)

    @property
    def lanes(self) -> int:
        """How many streams a token has."""
        return self.checkpoint.structure.streams if self.is_traced else 1

    def jacobian(self, layer: int) -> LinearOperator:
        """Return the Jacobian of one layer; a recording of it costs one evaluation of the layer and one product.

        A recording is kept for later visits while there is room. It is not kept where the weights are on disk, since it
        would hold them in memory.
        """
        if layer not in self._recordings:
            recorded = recorded_jacobian(*self.functions[layer])
            operator = remembering(recorded, self.effort.probes, lambda: self._spared_products.append(layer))
            self._visits.append(layer)
            size = self._size_of_recording(layer)
            if sum(bytes_of_one for _, bytes_of_one in self._recordings.values()) + size > _ROOM:
                return operator
            self._recordings[layer] = operator, size
        return self._recordings[layer][0]

    def triplets(self, layer: int, jacobian: LinearOperator) -> "SingularTriplets":
        """Return leading singular values and vectors of a layer's Jacobian, which gain and nonnormality share."""
        from ctrlattn.stability.nonnormal.krylov import singular_triplets

        if layer not in self._triplets:
            k = min(self.effort.singular, self.functions[0][1].numel())
            steps = max(self.effort.lanczos, k)
            exact = singular_triplets(jacobian, k, steps=steps, seed=self.seed)
            right, left = (vectors.astype(np.float32) for vectors in (exact.right, exact.left))
            self._triplets[layer] = exact._replace(right=right, left=left)
        return self._triplets[layer]

    @cached_property
    def _triplets(self) -> dict[int, "SingularTriplets"]:
        return {}

    @property
    def lanczos(self) -> float:
        """How many Lanczos steps were made for singular vectors so far, in passes through all layers."""
        return sum(triplets.steps for triplets in self._triplets.values()) / len(self.functions)

    @cached_property
    def _recordings(self) -> dict[int, tuple[LinearOperator, float]]:
        """Recorded Jacobians by layer, with the bytes that each holds."""
        return {}

    @cached_property
    def _visits(self) -> list[int]:
        return []

    @property
    def recordings(self) -> float:
        """How often a layer was recorded so far, in passes through all layers."""
        return len(self._visits) / len(self.functions)

    @cached_property
    def _spared_products(self) -> list[int]:
        return []

    @property
    def spared(self) -> float:
        """How many products J v were not made since an estimate before had made them, in passes through all layers."""
        return len(self._spared_products) / len(self.functions)

    def _size_of_recording(self, layer: int) -> float:
        """Estimate the bytes: eight times what all linear maps of the layer give, and the attention matrices."""
        h = self.functions[layer][1]
        weights = list(self.checkpoint.layers[layer].parameters())
        if not weights or any(weight.is_meta for weight in weights):
            return float("inf")
        n, width = h.shape[-2:]
        outputs = n * sum(weight.numel() for weight in weights) / width
        # A layer of half precision is held in float32 as well.
        copied = sum(weight.numel() for weight in weights if weight.element_size() < h.element_size())
        numbers = _COPIES * (outputs + self.checkpoint.heads * n * n) + copied
        return float(h.element_size() * numbers)

    def sublayer(self, kind: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (x, F): the stream that the sublayer in this slot of a layer adds to and what it adds, each (n, d)."""
        if self.is_traced:
            place = self.slots.index(kind)
            return self.watched.x[layer, place], self.watched.F[layer, place]
        parallel = bool(self.recorded.attrs.get("parallel", 0))
        x = self.recorded["state" if kind == "attention" or parallel else "mid"]
        F = self.recorded[f"{kind}_out"]
        return x[layer].to_numpy().astype(np.float64), F[layer].to_numpy().astype(np.float64)


ProfilePart = Callable[[Measurement], tuple["xr.Dataset", PassCount]]


def labelled(measurement: Measurement, /, **variables: tuple[Any, ...]) -> "xr.Dataset":
    """Make a Dataset of name=(dims, values, long name[, unit]); tokens carry their text where a pass was recorded."""
    import xarray as xr

    arrays: dict[str, tuple[Any, ...]] = {
        name: (dims, values, {"long_name": long_name, **({} if _is_text(values) else {"units": (*unit, "1")[0]})})
        for name, (dims, values, long_name, *unit) in variables.items()
    }
    coords = {name: arrays.pop(name) for name in variables if arrays[name][0] == name}
    texts = measurement.tokens
    if texts is not None and any("token" in dims for dims, *_ in arrays.values()):
        # netCDF text cannot hold a zero byte.
        coords["text"] = (("token",), [text.replace("\0", "") for text in texts], {"long_name": "text of the token"})
    return xr.Dataset(arrays, coords=coords)


def _is_text(values: Any) -> bool:
    return bool(np.asarray(values).dtype.kind == "U")


def commented(variables: "xr.Dataset", sentences: Sequence[str]) -> "xr.Dataset":
    """Return the variables with what is to be said of nan as the attribute `comment` of each."""
    for variable in variables.data_vars.values() if sentences else ():
        variable.attrs["comment"] = ". ".join(sentences)
    return variables


def without_matrix(matrices: Sequence[np.ndarray | None]) -> list[str]:
    """Return what `commented` says of layers without an attention matrix, whose values are nan: one sentence, or none.

    >>> without_matrix([None, np.eye(2)])
    ['layer 0 has no attention matrix: its is nan']
    """
    sentence = absent_matrices([i for i, a in enumerate(matrices) if a is None])
    return [sentence] if sentence else []


def rounding_of(checkpoint: Checkpoint) -> float:
    """Return the epsilon of the numbers that a network computes in."""
    # Norms and softmaxes are computed in float32 even where the network is in float64.
    dtype = next(checkpoint.model.parameters()).dtype
    return max(torch.finfo(dtype).eps if dtype.is_floating_point else 0.0, torch.finfo(torch.float32).eps)


def each_layer(measurement: Measurement, part: str, measure: Callable[[int], Any]) -> list[Any]:
    """Return measure(layer) for every layer; progress is reported after each."""
    count, values = len(measurement.checkpoint.layers), []
    for i in range(count):
        values.append(measure(i))
        measurement.report(part, i + 1, count)
    return values


def attending(checkpoint: Checkpoint) -> list[bool]:
    """Tell which layers have value and output maps; a dropped or replaced attention has none.

    Raises
    ------
    InputError
        No layer has them.
    """
    family = checkpoint.family
    present = [leads(layer, family.value) and leads(layer, family.output) for layer in checkpoint.layers]
    if not any(present):
        raise InputError("no layer has attention whose value and output maps are known by name")
    return present


def require_matrices(measurement: Measurement) -> list[np.ndarray | None]:
    """Return the attention matrices of the layers.

    Raises
    ------
    InputError
        No layer has one.
    """
    matrices = measurement.matrices
    if all(matrix is None for matrix in matrices):
        raise InputError("no layer has an attention matrix: what mixes the tokens is no softmax attention")
    return matrices


def stacked(layers: Sequence[Any]) -> list[np.ndarray]:
    """Stack one tuple of arrays per layer, field by field; nan where a layer is None.

    >>> stacked([None, (np.array([1.0, 2.0]),)])[0].tolist()
    [[nan, nan], [1.0, 2.0]]
    """
    example = next(layer for layer in layers if layer is not None)
    if all(layer is not None for layer in layers):
        return [np.stack(field) for field in zip(*layers, strict=True)]
    gap = [np.full(values.shape, np.nan, np.result_type(values, 1.0)) for values in example]
    return [np.stack(field) for field in zip(*(gap if layer is None else layer for layer in layers), strict=True)]
