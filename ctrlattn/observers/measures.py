"""explained = 1 - |x - x̂|²/|x - mean|²: what an observer sees of a signal, with how many features, and on which texts.

The curve over the number of features stands beside principal components, which have as many coefficients an example
but the same ones in every example. What is measured is held-out text; mean and components come from training text.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.errors import InputError
from ctrlattn.observers.dictionary import Dictionary

_ROWS = 2048


class Quality(NamedTuple):
    """A dictionary on examples that it has not learned from."""

    explained: float  # share of the variance about the training mean; nan where there is none
    l0: float  # features present, mean
    dead: float  # share of features that no example has
    frequency: np.ndarray  # (features,) share of the examples that have it


def quality(dictionary: Dictionary, signal: torch.Tensor, k: int | None = None) -> Quality:
    """Explained variance, L0 and dead share on (m, width) examples; `k` in place of the dictionary's own.

    Raises
    ------
    InputError
        No example, another width.

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
    left, total, count = 0.0, 0.0, torch.zeros(dictionary.features)
    with torch.no_grad():
        for rows in signal.split(_ROWS):
            x = dictionary.scaled(rows)
            z = coded(dictionary, rows, k)
            left += float((x - z @ dictionary.decoder - dictionary.bias).double().square().sum())
            total += float(x.double().square().sum())
            count += (z > 0).sum(0)
    frequency = (count / len(signal)).numpy()
    explained = 1 - left / total if total else float("nan")
    return Quality(explained, float(frequency.sum()), float((frequency == 0).mean()), frequency)


def coded(dictionary: Dictionary, signal: torch.Tensor, k: int | None = None) -> torch.Tensor:
    """z of (m, width) examples, dense (m, features); with `k` the k largest alone."""
    if k is None:
        return dictionary.encode(signal)
    response = dictionary.response(dictionary.scaled(signal))
    codes = dictionary.codes(response, k)
    return torch.zeros_like(response).scatter(-1, codes.features, codes.values)


def curve(dictionary: Dictionary, signal: torch.Tensor, counts: Sequence[int]) -> list[Quality]:
    """`quality` with the k largest features for every k of `counts`."""
    return [quality(dictionary, signal, k) for k in counts]


def principal_curve(learned: torch.Tensor, signal: torch.Tensor, counts: Sequence[int]) -> np.ndarray:
    """Explained variance of `signal` (m, d) by the first 1, 2, ... principal components of `learned`, (counts,).

    Raises
    ------
    InputError
        A count outside 0 ... d; different widths.

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
    """L0 at which a rising curve reaches `share` of the variance, linear in log L0 between points; nan: it does not.

    >>> round(features_needed([0.2, 0.6], [1.0, 4.0], 0.4), 6)
    2.0
    """
    e, n = np.maximum.accumulate(np.asarray(explained, dtype=float)), np.asarray(l0, dtype=float)
    if not e[0] <= share <= e[-1]:
        return float("nan")
    return float(np.exp(np.interp(share, e, np.log(n))))


def token_purity(z: torch.Tensor, tokens: np.ndarray, least: int = 10) -> np.ndarray:
    """Share of each feature's activation that falls on its most frequent token, (features,).

    nan for features that fewer than `least` examples have. A proxy of how easily a feature is named: 1 for one that is
    a token, small for one that spreads over many. It does not see what a feature of meaning has in common. The control
    is `tokens` in random order.

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
    sums = torch.zeros(int(index.max()) + 1, z.shape[1]).index_add(0, index, z.float())
    purity = (sums.amax(0) / sums.sum(0).clamp_min(1e-30)).double().numpy()
    return np.where((z > 0).sum(0).numpy() >= least, purity, np.nan)


class Example(NamedTuple):
    """A piece of text with how much of a feature each token has."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]


class FeatureTexts(NamedTuple):
    """The texts that excite a feature most."""

    feature: int
    frequency: float  # share of the examples that have it
    examples: tuple[Example, ...]  # strongest first


def top_texts(
    z: torch.Tensor, ids: np.ndarray, tokenizer: Any, features: Sequence[int], *, count: int = 6, around: int = 12
) -> list[FeatureTexts]:
    """Per feature, the windows with its largest activations, and the tokens about them.

    Parameters
    ----------
    z : (windows, n, features)
    ids : (windows, n) token ids
    tokenizer : with `decode`
    features : indices
    count : int
        Texts a feature, each from another window.
    around : int
        Tokens shown on each side of the largest.

    Raises
    ------
    InputError
        ids that do not fit z.

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
        raise InputError(f"codes of {tuple(z.shape[:2])} tokens, ids of {ids.shape}")
    rows = []
    for feature in features:
        own = z[..., feature]
        strongest = own.amax(1)
        order = [i for i in strongest.argsort(descending=True)[:count].tolist() if strongest[i] > 0]
        examples = tuple(_example(own[i], ids[i], tokenizer, around) for i in order)
        rows.append(FeatureTexts(int(feature), float((own > 0).double().mean()), examples))
    return rows


def _example(activation: torch.Tensor, ids: np.ndarray, tokenizer: Any, around: int) -> Example:
    top = int(activation.argmax())
    rows = slice(max(0, top - around), min(len(ids), top + around + 1))
    return Example(_pieces(tokenizer, ids[rows].tolist()), tuple(activation[rows].tolist()))


def _pieces(tokenizer: Any, ids: list[int]) -> tuple[str, ...]:
    """What each token adds to the text: a token alone may not say whether a space stands before it."""
    pieces, before = [], ""
    for i, token in enumerate(ids):
        after = str(tokenizer.decode(ids[: i + 1]))
        pieces.append(after[len(before) :] if after.startswith(before) else str(tokenizer.decode([token])))
        before = after
    return tuple(pieces)
