"""explained = 1 - |x - x̂|²/|x - mean|², L0, dead features, purity, top texts: a dictionary on held-out text.

The explained variance over the number of features is compared with that of principal components. These have as many
coefficients per example, but the same components in every example. Mean and components come from training text.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.errors import InputError
from ctrlattn.observers.dictionary import Dictionary

_ROWS = 2048


class Quality(NamedTuple):
    """Quality of a dictionary on examples that it was not trained on."""

    # Explained share of the variance about the training mean, or that of the examples where no training mean is known,
    # as of a dictionary of another package; nan where there is no variance.
    explained: float
    l0: float  # mean number of features per example
    dead: float  # share of the features that no example has
    frequency: np.ndarray  # (features,) share of the examples that have the feature


def quality(dictionary: Dictionary, signal: torch.Tensor, k: int | None = None) -> Quality:
    """Return explained variance, L0 and share of dead features on (m, width) examples; `k` replaces the dictionary's.

    Raises
    ------
    InputError
        There is no example, or the examples have another width.

    Examples
    --------
    >>> dictionary = Dictionary(2, 2, k=1)
    >>> _ = dictionary.decoder.data.copy_(torch.eye(2)), dictionary.encoder.data.copy_(torch.eye(2))
    >>> q = quality(dictionary, torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 0.0]]))
    >>> q.explained, round(q.l0, 3), q.dead
    (1.0, 0.667, 0.5)
    """
    if signal.ndim != 2 or not len(signal):
        raise InputError(f"examples are (m, width), at least one; got {tuple(signal.shape)}")
    residual, total, count = 0.0, 0.0, torch.zeros(dictionary.features, dtype=torch.float64)
    # x + offset is the example about its mean; b_dec of another package is no mean of the signal.
    offset = 0.0 if dictionary.knows_mean else -dictionary.scaled(signal).mean(0)
    with torch.no_grad():
        for rows in signal.split(_ROWS):
            x = dictionary.scaled(rows)
            z = coded(dictionary, rows, k)
            residual += float((x - z @ dictionary.decoder - dictionary.bias).double().square().sum())
            total += float((x + offset).double().square().sum())
            count += (z > 0).sum(0)
    frequency = (count / len(signal)).numpy()
    explained = 1 - residual / total if total else float("nan")
    return Quality(explained, float(frequency.sum()), float((frequency == 0).mean()), frequency)


def coded(dictionary: Dictionary, signal: torch.Tensor, k: int | None = None) -> torch.Tensor:
    """Return z of (m, width) examples as a dense array (m, features); with `k`, only the k largest activations."""
    if k is None:
        return dictionary.encode(signal)
    response = dictionary.response(dictionary.scaled(signal))
    codes = dictionary.codes(response, k)
    return torch.zeros_like(response).scatter(-1, codes.features, codes.values)


def curve(dictionary: Dictionary, signal: torch.Tensor, counts: Sequence[int]) -> list[Quality]:
    """Return the `quality` with the k largest activations for every k of `counts`."""
    return [quality(dictionary, signal, k) for k in counts]


def principal_curve(learned: torch.Tensor, signal: torch.Tensor, counts: Sequence[int]) -> np.ndarray:
    """Return explained variance of `signal` (m, d) by the first 1, 2, ... principal components of `learned`, (counts,).

    Raises
    ------
    InputError
        A count lies outside 0 ... d, or the widths differ.

    Examples
    --------
    >>> x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> principal_curve(x, x, [0, 1, 2]).round(6).tolist()
    [0.0, 0.8, 1.0]
    """
    width = learned.shape[-1]
    if signal.shape[-1] != width or not all(0 <= count <= width for count in counts):
        raise InputError(f"counts must lie in 0 ... {width}, and both samples have that width")
    mean = learned.double().mean(0)
    _, vectors = torch.linalg.eigh(torch.cov(learned.double().T, correction=0).reshape(width, width))
    along = ((signal.double() - mean) @ vectors.flip(-1)).square().sum(0)
    shares = torch.cat([torch.zeros(1, dtype=along.dtype), along.cumsum(0) / along.sum()])
    return shares[list(counts)].numpy()


def features_needed(explained: Sequence[float], l0: Sequence[float], share: float) -> float:
    """Return the L0 at which a rising curve reaches `share` of the variance, linear in log L0 between; nan if never.

    >>> round(features_needed([0.2, 0.6], [1.0, 4.0], 0.4), 6)
    2.0
    """
    e, n = np.maximum.accumulate(np.asarray(explained, dtype=float)), np.asarray(l0, dtype=float)
    if not e[0] <= share <= e[-1]:
        return float("nan")
    return float(np.exp(np.interp(share, e, np.log(n))))


def token_purity(z: torch.Tensor, tokens: np.ndarray, least: int = 10) -> np.ndarray:
    """Return the share of each feature's activation that falls on its most frequent token, (features,).

    It is a proxy for how easily a feature can be named: 1 for a feature of one token, small for one that spreads over
    many. It does not see what the tokens of a feature have in common in meaning. It is nan for features that fewer than
    `least` examples have. The control is `tokens` in random order.

    Parameters
    ----------
    z : (m, features)
    tokens : (m,) ids

    Examples
    --------
    >>> token_purity(torch.tensor([[1.0], [2.0], [1.0]]), np.array([5, 7, 5]), least=1).tolist()
    [0.5]
    """
    if len(z) != len(tokens):
        raise InputError(f"{len(z)} examples, {len(tokens)} tokens")
    _, which = np.unique(tokens, return_inverse=True)
    index = torch.from_numpy(which)
    sums = torch.zeros(int(index.max()) + 1, z.shape[1], dtype=torch.float64).index_add(0, index, z.double())
    purity = (sums.amax(0) / sums.sum(0).clamp_min(1e-300)).numpy()
    return np.where((z > 0).sum(0).numpy() >= least, purity, np.nan)


class Example(NamedTuple):
    """A piece of text with the activation of a feature on each token."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]


class FeatureTexts(NamedTuple):
    """The texts on which a feature is most active."""

    feature: int
    frequency: float  # share of the examples that have the feature
    examples: tuple[Example, ...]  # strongest first


def top_texts(
    z: torch.Tensor, ids: np.ndarray, tokenizer: Any, features: Sequence[int], *, count: int = 6, around: int = 12
) -> list[FeatureTexts]:
    """Return, for each feature, the windows with its largest activations, and the tokens around these.

    Parameters
    ----------
    z : (windows, n, features)
    ids : (windows, n) token ids
    tokenizer : with `decode`
    features : indices
    count : int
        Number of texts per feature, each from another window.
    around : int
        Number of tokens on each side of the largest activation.

    Raises
    ------
    InputError
        The ids do not fit z.

    Examples
    --------
    >>> class Letters:
    ...     def decode(self, ids):
    ...         return "".join(chr(97 + i) for i in ids)
    >>> z = torch.tensor([[[0.0], [2.0], [1.0]]])
    >>> top_texts(z, np.array([[0, 1, 2]]), Letters(), [0], around=1)[0].examples[0]
    Example(tokens=('a', 'b', 'c'), activations=(0.0, 2.0, 1.0))
    """
    if z.shape[:2] != ids.shape:
        raise InputError(f"ids must have a token per code: got codes of {tuple(z.shape[:2])} and ids of {ids.shape}")
    rows = []
    for feature in features:
        activations = z[..., feature]
        strongest = activations.amax(1)
        order = [i for i in strongest.argsort(descending=True)[:count].tolist() if strongest[i] > 0]
        examples = tuple(_example(activations[i], ids[i], tokenizer, around) for i in order)
        rows.append(FeatureTexts(int(feature), float((activations > 0).double().mean()), examples))
    return rows


def _example(activation: torch.Tensor, ids: np.ndarray, tokenizer: Any, around: int) -> Example:
    top = int(activation.argmax())
    rows = slice(max(0, top - around), min(len(ids), top + around + 1))
    return Example(_pieces(tokenizer, ids[rows].tolist()), tuple(activation[rows].tolist()))


def _pieces(tokenizer: Any, ids: list[int]) -> tuple[str, ...]:
    """Return the text that each token adds; a token decoded alone may lack the space in front of it."""
    pieces, before = [], ""
    for i, token in enumerate(ids):
        after = str(tokenizer.decode(ids[: i + 1]))
        pieces.append(after[len(before) :] if after.startswith(before) else str(tokenizer.decode([token])))
        before = after
    return tuple(pieces)
