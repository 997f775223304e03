"""<F(x), x>/<x, x>, eig(W_O W_V), sigma_max(J), ln sigma(J_L ... J_1)/L ...: the parts of a feedback profile.

Each part is one function (measured network) -> Dataset, with what it cost in products with the layers. None of the
equations is written here: they are called where they live.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn import presets
from ctrlattn.checkpoints.measure.heads import SOURCES, head_feedback
from ctrlattn.checkpoints.measure.jacobian import recorded_jacobian
from ctrlattn.checkpoints.measure.layers import LayerFunction, layer_functions
from ctrlattn.checkpoints.measure.sinks import attention_sink, massive_activation, ordinary_tokens
from ctrlattn.checkpoints.measure.tap import tap
from ctrlattn.checkpoints.measure.value_maps import value_gains
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import at
from ctrlattn.errors import InputError
from ctrlattn.frequency import difference_gain, mean_cosine, participation_rank, token_frequency_response
from ctrlattn.progress import Progress
from ctrlattn.signals import feedback_gain
from ctrlattn.stability import attention_spectrum
from ctrlattn.stability.modes.regions import mode_intervals, mode_radius
from ctrlattn.stability.motion.products import depth_exponents
from ctrlattn.stability.nonnormal.krylov import departure, eigenvalues, random_gain, singular_triplets

if TYPE_CHECKING:
    import xarray as xr

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SUBLAYERS = ("attention", "mlp")
LOOPS = ("residual", "comparator", "softmax", "neutreno", "pidformer-printed", "pidformer-ema")
_ON_CIRCLE = 1e-9  # a pole this close to the unit circle is on it: the constant mode of plain softmax
_WAVES = 33  # frequencies from 0 to pi


@dataclass(frozen=True)
class Effort:
    """How many products each estimate may take.

    Attributes
    ----------
    probes : int
        Random directions of the typical gain of a layer.
    singular, lanczos : int
        Leading singular vectors of a layer, and steps to find them.
    arnoldi : int
        Steps for the spectral radius of a layer.
    commutator : int
        Random probes of its departure from normality.
    exponents, sweeps : int
        Exponents over depth, and forward sweeps to find them.
    """

    probes: int = 4
    singular: int = 4
    lanczos: int = 12
    arnoldi: int = 20
    commutator: int = 4
    exponents: int = 4
    sweeps: int = 4

    def __post_init__(self) -> None:
        least = {"commutator": 2, "lanczos": self.singular}
        for name, value in vars(self).items():
            if value < least.get(name, 1):
                raise InputError(f"Effort.{name} must be at least {least.get(name, 1)}, got {value}")


@dataclass(frozen=True, eq=False)
class Measured:
    """A network on one text, with what its parts share: one recorded pass, and the layers as functions."""

    checkpoint: Checkpoint
    ids: Any
    effort: Effort
    seed: int
    report: Progress
    passes: list[str] = field(default_factory=list)  # names of forward passes since the last part

    @cached_property
    def recorded(self) -> "xr.Dataset":
        """Signals of `tap`."""
        self.passes.append("tap")
        return tap(self.checkpoint, self.ids)

    @cached_property
    def functions(self) -> list[tuple[LayerFunction, Any]]:
        """Each layer as a function, and the stream it reads."""
        self.passes.append("layers")
        return layer_functions(self.checkpoint, self.ids)

    @property
    def state(self) -> np.ndarray:
        """The stream at every depth, (L + 1, n, d)."""
        return np.asarray(self.recorded["state"].to_numpy(), dtype=np.float64)

    def jacobian(self, layer: int) -> LinearOperator:
        """Of one layer; costs one evaluation of it and one product."""
        return recorded_jacobian(*self.functions[layer])

    def sublayer(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """(stream that it reads, contribution), each (L, n, d)."""
        parallel = bool(self.recorded.attrs.get("parallel", 0))
        x = self.state[:-1] if kind == "attention" or parallel else self.recorded["mid"].to_numpy().astype(np.float64)
        return x, self.recorded[f"{kind}_out"].to_numpy().astype(np.float64)


def feedback(measured: Measured) -> "xr.Dataset":
    """Sign, gain and predicted share of every sublayer."""
    pairs = [measured.sublayer(kind) for kind in SUBLAYERS]
    gain = np.stack([feedback_gain(x, f) for x, f in pairs], axis=1)
    ratio = np.stack([_size(f) / _positive(_size(x)) for x, f in pairs], axis=1)
    kept = ordinary_tokens(measured.state)
    fits = [[_fit(x[:, kept][i], f[:, kept][i]) for x, f in pairs] for i in range(len(gain))]
    per_token = ("layer", "sublayer", "token")
    return _dataset(
        measured,
        feedback_gain=(per_token, gain, "gain of the feedback, <F, x>/<x, x>"),
        feedback_cosine=(per_token, gain / _positive(ratio), "cosine between contribution and state"),
        feedback_gain_quantile=(
            ("layer", "sublayer", "quantile"),
            np.moveaxis(np.quantile(gain, QUANTILES, axis=-1), 0, -1),
            "gain of the feedback, quantile over the tokens",
        ),
        negative_share=(per_token[:2], np.mean(gain < 0, axis=-1), "share of tokens with negative feedback"),
        contribution_ratio=(per_token[:2], np.median(ratio, axis=-1), "median of |F|/|x| over the tokens"),
        predictor_gain=(per_token[:2], np.array(fits)[..., 0], "least-squares g of x = g F + constant"),
        predicted_share=(per_token[:2], np.array(fits)[..., 1], "share of the variance of the state predicted, R^2"),
        left_out=((), int(np.sum(~kept)), "massive tokens left out of the least-squares fits", "token"),
        quantile=("quantile", np.array(QUANTILES), "quantile over the tokens"),
    )


def heads(measured: Measured) -> "xr.Dataset":
    """The feedback of every head, by the token it comes from; nan in a layer whose attention was dropped."""
    network = measured.checkpoint
    there = _attending(network)
    found = _each(measured, "heads", lambda i: head_feedback(network, i, measured.recorded) if there[i] else None)
    gain, sources, size = _stacked(found)
    negative = np.where(np.isnan(gain[..., 0]), np.nan, np.mean(gain < 0, axis=-1))
    return _dataset(
        measured,
        head_gain=(("layer", "head", "token"), gain.astype(np.float32), "gain of the feedback of a head"),
        head_source_gain=(
            ("layer", "head", "source"),
            np.median(sources, axis=-1),
            "median over the tokens of a head's gain by the token that it comes from",
        ),
        source_gain=(
            ("layer", "source"),
            np.median(sources.sum(axis=1), axis=-1),
            "median over the tokens of the gain of all heads together by the token that it comes from",
        ),
        head_negative_share=(("layer", "head"), negative, "share of tokens with negative feedback"),
        head_ratio=(("layer", "head"), np.median(size, axis=-1), "median of |F_head|/|x| over the tokens"),
        source=("source", np.array(SOURCES), "token that the contribution comes from"),
    )


def value_output(measured: Measured) -> "xr.Dataset":
    """Eigenvalues, sign and norm of W_O W_V of every head; nan in a layer whose attention was dropped."""
    there = _attending(measured.checkpoint)
    found = [value_gains(measured.checkpoint, i) if has else None for i, has in enumerate(there)]
    modes, trace, positive, norm = _stacked(found)
    where = ("layer", "head")
    return _dataset(
        measured,
        value_eigenvalue=((*where, "mode"), modes, "eigenvalue of W_O W_V, norm weights folded in"),
        value_trace=(where, trace, "trace of W_O W_V"),
        value_positive=(where, positive, "sum of Re / sum of modulus of the eigenvalues of W_O W_V"),
        value_norm=(where, norm, "largest singular value of W_O W_V"),
    )


def attention(measured: Measured) -> "xr.Dataset":
    """Spectra of the attention matrices over the stability regions, and their filters along the tokens."""
    omega = np.linspace(0, np.pi, _WAVES)
    matrices = measured.recorded["attention"].to_numpy()
    found = _each(
        measured,
        "attention",
        lambda i: (
            attention_spectrum(matrices[i]),
            difference_gain(matrices[i]),
            token_frequency_response(matrices[i], omega),
        ),
    )
    modes, smoothing, response = (np.stack(arrays) for arrays in zip(*found, strict=True))
    unstable = np.stack([np.mean(mode_radius(presets.get(name), modes) > 1 + _ON_CIRCLE, axis=-1) for name in LOOPS])
    return _dataset(
        measured,
        attention_eigenvalue=(("layer", "head", "token"), modes, "eigenvalue of the attention matrix"),
        unstable_share=(
            ("preset", "layer", "head"),
            unstable,
            "share of attention modes unstable in the preset's loop",
        ),
        stable_interval=(
            ("preset", "end"),
            np.array([_interval(name) for name in LOOPS]),
            "ends of the real attention eigenvalues for which the preset's loop is stable",
        ),
        difference_gain=(("layer", "head"), smoothing, "gain on differences between tokens (below 1: low-pass)"),
        token_response=(("layer", "head", "omega"), response, "gain on waves along the tokens"),
        omega=("omega", omega, "frequency along the tokens", "rad/token"),
        preset=("preset", np.array(LOOPS), "loop of ctrlattn.presets"),
    )


def diversity(measured: Measured) -> "xr.Dataset":
    """How alike the tokens are at every depth, and how large."""
    state, kept = measured.state, ordinary_tokens(measured.state)
    ordinary = state[:, kept]
    size = _size(state) / np.sqrt(state.shape[-1])
    turned = np.sum(state[1:] * state[:-1], -1) / _positive(_size(state[1:]) * _size(state[:-1]))
    return _dataset(
        measured,
        mean_cosine=(("depth",), mean_cosine(state), "mean cosine between different tokens"),
        mean_cosine_ordinary=(("depth",), mean_cosine(ordinary), "mean cosine without massive tokens"),
        effective_rank=(("depth",), participation_rank(state), "participation rank of the tokens"),
        effective_rank_ordinary=(("depth",), participation_rank(ordinary), "participation rank, no massive tokens"),
        effective_rank_centred=(
            ("depth",),
            participation_rank(ordinary - ordinary.mean(1, keepdims=True)),
            "participation rank of the tokens about their mean, without massive ones",
        ),
        stream_rms=(("depth", "token"), size, "root mean square of the features of the stream"),
        layer_cosine=(("layer",), np.median(turned, axis=-1), "median cosine between the streams before and after"),
    )


def sinks(measured: Measured) -> "xr.Dataset":
    """Massive activations and attention sinks, by token."""
    massive = massive_activation(measured.state)
    token, share = attention_sink(measured.recorded["attention"].to_numpy())
    return _dataset(
        measured,
        massive_token=(("depth",), massive.token, "token of the largest stream", "token"),
        massive_feature=(("depth",), massive.feature, "largest feature of that token", "feature"),
        massive_value=(("depth",), massive.value, "value of that feature"),
        massive_ratio=(("depth",), massive.ratio, "norm of that token over the median norm"),
        sink_token=(("layer", "head"), token, "token that draws most attention", "token"),
        sink_share=(("layer", "head"), share, "its share of all attention of the head"),
    )


def gain(measured: Measured) -> "xr.Dataset":
    """Typical and worst gain of every layer, and how the leading directions of layers lie to each other."""
    effort, n = measured.effort, measured.functions[0][1].shape[0]
    k = min(effort.singular, measured.functions[0][1].numel())

    def one(i: int) -> Any:
        jacobian = measured.jacobian(i)
        typical = random_gain(jacobian, effort.probes, seed=measured.seed)
        return typical, singular_triplets(jacobian, k, steps=max(effort.lanczos, k), seed=measured.seed)

    found = _each(measured, "gain", one)
    triplets = [triplet for _, triplet in found]
    right, left = (np.stack([getattr(t, side)[:k] for t in triplets]).astype(np.float32) for side in ("right", "left"))
    steps = sum(t.steps for t in triplets) / len(triplets)
    tokens = [_token_energy(vectors[:, 0], n) for vectors in (right, left)]
    pair = ("layer", "layer_to")
    return _dataset(
        measured,
        {"forward": 1.0, "jvp": effort.probes + steps, "vjp": steps + 1},
        random_gain=(("layer", "probe"), np.stack([typical for typical, _ in found]), "|Jv|/|v| of a random direction"),
        sigma=(("layer", "singular"), np.stack([t.values for t in triplets]), "singular value of the layer's Jacobian"),
        sigma_error=(("layer", "singular"), np.stack([t.errors for t in triplets]), "residual of the singular value"),
        worst_token=(("layer",), tokens[0].argmax(-1), "token of most of the leading right singular vector", "token"),
        worst_token_share=(("layer",), tokens[0].max(-1), "its share of that vector's square"),
        amplified_token=(("layer",), tokens[1].argmax(-1), "token of most of the leading left vector", "token"),
        left_right_cosine=(
            ("layer",),
            np.abs(np.sum(right[:, 0] * left[:, 0], -1)),
            "|<u, v>| of the leading singular vectors (1 for a symmetric Jacobian)",
        ),
        alignment=(
            pair,
            _overlap(left, right),
            "overlap of left singular vectors of a layer with right ones of another",
        ),
        right_alignment=(pair, _overlap(right, right), "overlap of the right singular vectors of two layers"),
        feature_alignment=(
            pair,
            _overlap(_directions(left, n), _directions(right, n)),
            "the same as alignment for the leading feature directions, whatever tokens they are on",
        ),
    )


def nonnormality(measured: Measured) -> "xr.Dataset":
    """How far the layers' Jacobians are from normal ones."""
    effort = measured.effort

    def one(i: int) -> Any:
        jacobian = measured.jacobian(i)
        return (
            eigenvalues(jacobian, steps=effort.arnoldi, seed=measured.seed),
            departure(jacobian, effort.commutator, seed=measured.seed),
        )

    spectra, departures = zip(*_each(measured, "nonnormality", one), strict=True)
    steps = sum(one.steps for one in spectra) / len(spectra)

    def over(values: Any, *names: str) -> list[Any]:
        return [(("layer",), np.array([getattr(value, name) for value in values])) for name in names]

    radius, error, numerical = over(spectra, "radius", "error", "numerical_radius")
    value, standard = over(departures, "value", "standard_error")
    return _dataset(
        measured,
        {"forward": 1.0, "jvp": steps + 2.0 * effort.commutator, "vjp": effort.commutator + 1.0},
        spectral_radius=(*radius, "spectral radius of the layer's Jacobian (largest Ritz value)"),
        spectral_radius_error=(*error, "residual of that Ritz value"),
        numerical_radius=(*numerical, "lower bound of the numerical radius of the layer's Jacobian"),
        departure=(*value, "departure from normality, 0 (normal) to 1, of J - I"),
        departure_error=(*standard, "standard error of the departure over the probes"),
    )


def exponents(measured: Measured) -> "xr.Dataset":
    """Finite-time Lyapunov exponents of the whole depth."""
    effort, layers = measured.effort, len(measured.functions)
    k = min(effort.exponents, measured.functions[0][1].numel())
    visits = 2.0 * effort.sweeps - 1  # of each layer, which is recorded anew
    total = int(visits) * layers
    done = iter(range(1, total + 2))

    def lazily(i: int) -> Callable[[], LinearOperator]:
        def jacobian() -> LinearOperator:
            measured.report("exponents", min(next(done), total), total)
            return measured.jacobian(i)

        return jacobian

    found = depth_exponents([lazily(i) for i in range(layers)], k=k, sweeps=effort.sweeps, seed=measured.seed)
    tokens = _token_energy(found.right, measured.functions[0][1].shape[0])
    return _dataset(
        measured,
        {"forward": visits, "jvp": k * effort.sweeps, "vjp": k * (effort.sweeps - 1.0) + visits},
        exponent=(("exponent_index",), found.exponents, "finite-time Lyapunov exponent over depth", "nat/layer"),
        exponent_rate=(("layer", "exponent_index"), found.rates, "growth of that direction in one layer", "nat"),
        exponent_change=(("exponent_index",), found.changes, "change of the exponent in the last sweep", "nat/layer"),
        exponent_token=(("exponent_index",), tokens.argmax(-1), "token of most of the direction at the input", "token"),
        exponent_token_share=(("exponent_index",), tokens.max(-1), "its share of that direction's square"),
    )


PARTS: dict[str, Callable[[Measured], "xr.Dataset"]] = {
    part.__name__: part
    for part in (feedback, heads, value_output, attention, diversity, sinks, gain, nonnormality, exponents)
}


def _attending(checkpoint: Checkpoint) -> list[bool]:
    """Which layers have value and output maps: a dropped or replaced attention has none."""
    found = [_exists(layer, checkpoint.family.value, checkpoint.family.output) for layer in checkpoint.layers]
    if not any(found):
        raise InputError("no layer has attention")
    return found


def _exists(module: Any, *paths: str) -> bool:
    try:
        return all(at(module, path) is not None for path in paths)
    except ValueError:
        return False


def _stacked(found: Sequence[Any]) -> list[np.ndarray]:
    """Tuples of arrays, one a layer, stacked field by field; nan where a layer has none."""
    some = next(one for one in found if one is not None)
    gap = [np.full_like(values, np.nan) for values in some]
    return [np.stack(layers) for layers in zip(*(gap if one is None else one for one in found), strict=True)]


def _each(measured: Measured, part: str, one: Callable[[int], Any]) -> list[Any]:
    """one(layer) of every layer, with progress."""
    count, found = len(measured.checkpoint.layers), []
    for i in range(count):
        found.append(one(i))
        measured.report(part, i + 1, count)
    return found


def _dataset(measured: Measured, cost: dict[str, float] | None = None, /, **variables: tuple[Any, ...]) -> "xr.Dataset":
    """name=(dims, values, long name[, unit]); its attributes are the cost: passes, and J v and J'w of all layers."""
    import xarray as xr

    spent = {"forward": 0.0, "jvp": 0.0, "vjp": 0.0, **(cost or {})}
    spent["forward"] += len(measured.passes)
    measured.passes.clear()
    labelled: dict[str, tuple[Any, ...]] = {
        name: (dims, values, {"long_name": long_name, "units": unit[0] if unit else "1"})
        for name, (dims, values, long_name, *unit) in variables.items()
    }
    coords = {name: labelled.pop(name) for name in variables if labelled[name][0] == name}
    named = "recorded" in vars(measured) and "text" in measured.recorded.coords
    if named and any("token" in dims for dims, *_ in labelled.values()):
        # netCDF has no zero byte in a text.
        coords["text"] = ("token", [str(t).replace("\0", "") for t in measured.recorded["text"].to_numpy()])
    return xr.Dataset(labelled, coords=coords, attrs=spent)


def _fit(x: np.ndarray, f: np.ndarray) -> tuple[float, float]:
    """(g, R^2) of x = g f + constant over tokens, all features together; nan where either does not vary."""
    x, f = x - x.mean(0), f - f.mean(0)
    both, squares = float(np.sum(x * f)), (float(np.sum(x * x)), float(np.sum(f * f)))
    if len(x) < 2 or min(squares) == 0.0:
        return float("nan"), float("nan")
    return both / squares[1], both**2 / (squares[0] * squares[1])


def _size(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(x, axis=-1))


def _positive(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 1.0)


def _interval(name: str) -> tuple[float, float]:
    """Lowest and highest real eigenvalue a with a stable loop."""
    intervals = mode_intervals(presets.get(name))
    return (intervals[0][0], intervals[-1][1]) if intervals else (float("nan"), float("nan"))


def _token_energy(vectors: np.ndarray, n: int) -> np.ndarray:
    """Share of each token in the square of each vector (m, n d) -> (m, n)."""
    square = np.sum(vectors.astype(np.float64).reshape(len(vectors), n, -1) ** 2, axis=-1)
    return square / _positive(square.sum(-1, keepdims=True))


def _directions(vectors: np.ndarray, n: int) -> np.ndarray:
    """(L, k, n d) -> (L, k, d): orthonormal feature directions that hold most of each layer's k vectors."""
    found = []
    for some in vectors:
        rows = some.reshape(-1, some.shape[-1] // n).astype(np.float64)
        found.append(np.linalg.eigh(rows.T @ rows)[1][:, -len(some) :].T)
    return np.array(found)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """||A_l B_m'||_F^2 / k of the row spaces of (L, k, N): 1 for the same space, k/N for unrelated ones."""
    products = a.reshape(-1, a.shape[-1]) @ b.reshape(-1, b.shape[-1]).T
    return np.sum(products.reshape(*a.shape[:2], *b.shape[:2]).astype(np.float64) ** 2, axis=(1, 3)) / a.shape[1]
