"""n = a + b,  m = m_a + (m_b - m_a) b / n,  M = M_a + M_b + (m_b - m_a)^2 a b / n: running moments over texts.

The contribution of each sublayer becomes a few numbers for each token as soon as it is computed, and the numbers of a
window go into running moments. Memory depends on the number of layers, not on the length or the number of the texts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.measure.sublayer_signals import in_order, slots_of
from ctrlattn.checkpoints.measure.tap import attributes, token_names
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.text import windows
from ctrlattn.checkpoints.network.watch import attention, watch
from ctrlattn.errors import InputError
from ctrlattn.signals import feedback_gain

if TYPE_CHECKING:
    import xarray as xr

_WINDOW = 256  # tokens
Statistic = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _norm(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


# name -> (x, F(x)), each (..., n, d), to (..., n)
STATISTICS: dict[str, Statistic] = {
    "gain": feedback_gain,
    "state_norm": lambda x, contribution: _norm(x),
    "contribution_norm": lambda x, contribution: _norm(contribution),
}


class RunningMoments(NamedTuple):
    """Running mean, deviation and extremes of values, one set for each place of the arrays.

    Attributes
    ----------
    total : int
        Number of values.
    mean, m2, low, high : (...)
        `m2` is the sum of squared deviations from the mean.
    """

    total: int
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the values seen (not an estimate of a larger population's)."""
        return np.sqrt(self.m2 / self.total)


def running_moments(values: np.ndarray) -> RunningMoments:
    """Return the moments of values over the last axis, in float64.

    >>> running_moments(np.array([[1.0, 2.0, 3.0]])).std.round(3).tolist()
    [0.816]
    """
    values = np.asarray(values, dtype=np.float64)
    mean = values.mean(-1)
    with np.errstate(invalid="ignore"):  # what is not finite is told by whoever asks for the moments
        m2 = np.square(values - mean[..., None]).sum(-1)
    return RunningMoments(values.shape[-1], mean, m2, values.min(-1), values.max(-1))


def merge(a: RunningMoments, b: RunningMoments) -> RunningMoments:
    """Return the moments of both together, without the cancellation of sum and sum of squares.

    References
    ----------
    Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, Am. Stat. 37 (1983), equation 2.1.

    Examples
    --------
    >>> both = merge(running_moments(np.array([1.0, 2.0])), running_moments(np.array([6.0])))
    >>> both.total, float(both.mean), float(both.m2)
    (3, 3.0, 14.0)
    """
    with np.errstate(invalid="ignore"):
        total, difference = a.total + b.total, b.mean - a.mean
    return RunningMoments(
        total=total,
        mean=a.mean + difference * (b.total / total),
        m2=a.m2 + b.m2 + difference**2 * (a.total * b.total / total),
        low=np.minimum(a.low, b.low),
        high=np.maximum(a.high, b.high),
    )


def stream(
    checkpoint: Checkpoint,
    texts: Iterable[Any],
    *,
    window: int | None = None,
    statistics: Mapping[str, Statistic] | None = None,
) -> Iterator["xr.Dataset"]:
    """Reduce every sublayer to a few numbers for each token, window by window; no matrix and no stream is stored.

    Parameters
    ----------
    checkpoint : Checkpoint
    texts : iterable of str, of (n,) token ids, or of images (channels, height, width)
        Read one by one, so that a generator over a file of any size will do. Empty ones are passed over.
    window : int, optional
        Tokens; a longer text is cut into windows that do not see each other, the last of them shorter. Default 256, or
        as many positions as the network has.
    statistics : mapping from name to function, optional
        (x, F(x)), each (1, n, d), to (1, n). Default `STATISTICS`: "gain" (<F, x> / <x, x>), "state_norm" (|x|) and
        "contribution_norm" (|F|).

    Yields
    ------
    xarray.Dataset
        A variable (kind, layer, token) for each statistic; `kind` is "attention" or "mlp", and in a traced network
        whatever its layers have, with nan where one has none. The attributes are those of `tap`, and the numbers of
        text and window.

    Raises
    ------
    InputError
        A window below 1 or beyond the network's positions, one text where several are wanted, bad ids.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9, n_positions=8)
    >>> checkpoint = checkpoints.load(transformers.GPT2Model(config))
    >>> [dict(window.sizes) for window in stream(checkpoint, [[1, 2, 3], [4]], window=2)]
    [{'kind': 2, 'layer': 2, 'token': 2}, {'kind': 2, 'layer': 2, 'token': 1}, {'kind': 2, 'layer': 2, 'token': 1}]
    """
    import xarray as xr

    names, coords = dict(statistics or STATISTICS), _coordinates(checkpoint)
    for number, (text, inputs) in enumerate(_windows(checkpoint, texts, window)):
        values = _statistics_of(checkpoint, inputs, names)
        yield xr.Dataset(
            {name: (("kind", "layer", "token"), values[i]) for i, name in enumerate(names)},
            coords={**coords, "text": ("token", token_names(checkpoint, inputs, values.shape[-1]))},
            attrs={**attributes(checkpoint, inputs), "text_number": text, "window_number": number},
        )


def summaries(
    checkpoint: Checkpoint,
    texts: Iterable[Any],
    *,
    window: int | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "xr.Dataset":
    """Return mean, deviation and extremes over all tokens of any number of texts, in constant memory.

    Parameters
    ----------
    checkpoint, texts, window, statistics
        As for `stream`.
    progress : callable, optional
        Called with (windows, tokens) done after every window.

    Returns
    -------
    xarray.Dataset
        For each statistic `..._mean`, `..._std`, `..._min` and `..._max` (kind, layer); attributes `tokens`, `windows`,
        `texts`, `window` and those of the network.

    Raises
    ------
    InputError
        As for `stream`; no token in any text; values that are not finite.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9, n_positions=8)
    >>> summary = summaries(checkpoints.load(transformers.GPT2Model(config)), [[1, 2, 3], [4]], window=2)
    >>> summary.attrs["tokens"], summary.attrs["windows"], summary["gain_mean"].dims
    (4, 3, ('kind', 'layer'))
    """
    import xarray as xr

    names = dict(statistics or STATISTICS)
    counts = {"tokens": 0, "windows": 0, "texts": 0, "window": _window(checkpoint, window)}

    def each() -> Iterator[RunningMoments]:
        for text, inputs in _windows(checkpoint, texts, window):
            moments = running_moments(_statistics_of(checkpoint, inputs, names))
            counts.update(tokens=counts["tokens"] + moments.total, windows=counts["windows"] + 1, texts=text + 1)
            if progress is not None:
                progress(counts["windows"], counts["tokens"])
            yield moments

    moments = each()
    start = next(moments, None)
    if start is None:
        raise InputError("there is no token in any of the texts")
    total = reduce(merge, moments, start)
    variables = {
        f"{name}_{suffix}": (("kind", "layer"), values[i])
        for i, name in enumerate(names)
        for suffix, values in {"mean": total.mean, "std": total.std, "min": total.low, "max": total.high}.items()
    }
    _finite(variables, slots_of(checkpoint.sublayers()))
    network_attrs = {key: value for key, value in attributes(checkpoint, {}).items() if key != "text"}
    return xr.Dataset(variables, coords=_coordinates(checkpoint), attrs={**network_attrs, **counts})


def _coordinates(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"kind": list(in_order(slots_of(checkpoint.sublayers()))), "layer": np.arange(len(checkpoint.layers))}


def _windows(checkpoint: Checkpoint, texts: Iterable[Any], window: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number of the text, arguments of the model) for every window."""
    if isinstance(texts, str):
        raise InputError("texts must be a collection of texts: one of them is [text]")
    window = _window(checkpoint, window)
    for number, text in enumerate(texts):
        if getattr(checkpoint.model, "main_input_name", "input_ids") == "pixel_values":
            yield number, inputs_of(checkpoint, text)
            continue
        ids = text if isinstance(text, str) and checkpoint.tokenizer is not None else _ids(checkpoint, text)
        for tokens in windows(checkpoint, ids, window, rest=True):
            yield number, inputs_of(checkpoint, tokens)


def _window(checkpoint: Checkpoint, window: int | None) -> int:
    longest = getattr(checkpoint.model.config.get_text_config(), "max_position_embeddings", None)
    if window is None:
        return min(_WINDOW, longest or _WINDOW)
    if window < 1 or (longest is not None and window > longest):
        raise InputError(f"window must be 1 ... {longest or ''} tokens for this network, got {window}")
    return window


def _ids(checkpoint: Checkpoint, text: Any) -> np.ndarray:
    if not len(text):
        return np.empty(0)
    return np.atleast_1d(inputs_of(checkpoint, text, cut=True)["input_ids"][0].numpy(force=True))


def _statistics_of(checkpoint: Checkpoint, inputs: dict[str, Any], statistics: dict[str, Statistic]) -> np.ndarray:
    """Return (statistic, kind, layer, token) of one pass without the head; nan where a layer has none of the kind."""
    slots = slots_of(checkpoint.sublayers())
    numbers: dict[tuple[str, int], torch.Tensor] = {}

    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        contribution = sublayer.added(F).double()
        numbers[slots[sublayer], sublayer.layer] = torch.stack(
            [statistic(x.double(), contribution)[0] for statistic in statistics.values()]
        )

    with attention(checkpoint.model, "sdpa"), watch(slots, on), torch.inference_mode():
        checkpoint.model.base_model(**inputs)
    gap = torch.full_like(next(iter(numbers.values())), float("nan"))
    names, count = in_order(slots), len(checkpoint.layers)
    stacked = torch.stack([numbers.get((name, i), gap) for name in names for i in range(count)], 1)
    return stacked.double().numpy(force=True).reshape(len(statistics), len(names), count, stacked.shape[-1])


def _finite(variables: dict[str, Any], slots: dict[Sublayer, str]) -> None:
    """Raise InputError for a value that is not finite where a layer has the sublayer."""
    kinds = in_order(slots)
    for name, (_, values) in variables.items():
        for sublayer, slot in slots.items():
            if not np.isfinite(values[kinds.index(slot), sublayer.layer]):
                raise InputError(f"{name} of the {slot} in layer {sublayer.layer} is not finite")
