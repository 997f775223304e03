"""svcca = mean canonical correlation, rsa = correlation of distances: the likeness of two networks' feature spaces.

Two networks read the same text. Since their tokens differ, features are compared word by word, by the largest
activation on the tokens of a word. Features are paired by correlation. The control is the same measure with random
pairs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from ctrlattn.errors import InputError


def word_rows(texts: Sequence[str], tokens: Sequence[Sequence[tuple[int, int]]]) -> list[np.ndarray]:
    """Return, for each text, the index of the word of each token, counted over all texts; -1 outside of words.

    Parameters
    ----------
    texts : strings
        White space separates words.
    tokens : for each text the (start, end) of its tokens, as the offset_mapping of a fast tokenizer gives them

    Examples
    --------
    >>> word_rows(["to be"], [[(0, 0), (0, 2), (2, 4), (4, 5)]])[0].tolist()
    [-1, 0, 1, 1]
    """
    words, first = [], 0
    for text, spans in zip(texts, tokens, strict=True):
        starts = [i for i, ch in enumerate(text) if not ch.isspace() and (i == 0 or text[i - 1].isspace())]
        word_at = np.cumsum(np.isin(np.arange(len(text)), starts)) - 1
        visible = np.array([not ch.isspace() for ch in text], dtype=bool)
        rows = np.full(len(spans), -1)
        for i, (start, end) in enumerate(spans):
            inside = np.flatnonzero(visible[start:end])  # a token may begin with the space before its word
            if len(inside):
                rows[i] = first + word_at[start + inside[0]]
        words.append(rows)
        first += len(starts)
    return words


def by_word(values: np.ndarray, rows: np.ndarray, words: int) -> np.ndarray:
    """Return the largest value on the tokens of each word, (words, features); nan for a word without a token.

    >>> by_word(np.array([[1.0], [3.0], [2.0]]), np.array([0, 0, 1]), 2).ravel().tolist()
    [3.0, 2.0]
    """
    largest = np.full((words, values.shape[1]), -np.inf)
    inside = rows >= 0
    np.maximum.at(largest, rows[inside], values[inside])
    return np.where(np.isneginf(largest), np.nan, largest)


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of each column of a (m, p) with each of b (m, q); 0 for a constant column."""
    _require_rows(a, b)
    return _standard(a).T @ _standard(b) / len(a)


def _standard(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    size = centred.std(0)
    return np.where(size > 1e-12, centred / np.where(size > 1e-12, size, 1.0), 0.0)


class Pairs(NamedTuple):
    """Features of one network, each with the most correlated feature of the other."""

    first: np.ndarray  # (pairs,) features of the first network
    second: np.ndarray  # (pairs,) features of the second network
    correlation: np.ndarray  # (pairs,)


def paired(a: np.ndarray, b: np.ndarray, *, least: float = 0.0) -> Pairs:
    """Pair each feature of a with the most correlated feature of b; a feature of b may stand in several pairs.

    Parameters
    ----------
    a, b : (m, p), (m, q)
        Activations on the same m words.
    least : float
        Least correlation of a pair.

    References
    ----------
    Lan et al., Sparse Autoencoders Reveal Universal Feature Spaces Across Large Language Models, arXiv 2410.06981,
    section 3.

    Examples
    --------
    >>> a = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    >>> paired(a, a[:, ::-1]).second.tolist()
    [1, 0]
    """
    r = correlations(a, b)
    second = r.argmax(1)
    best = r[np.arange(len(second)), second]
    rows = np.flatnonzero(best >= least)
    return Pairs(rows, second[rows], best[rows])


def svcca(a: np.ndarray, b: np.ndarray, *, share: float = 0.99, most: int | None = None) -> float:
    """Return the mean canonical correlation of two sets of rows (p, d) and (p, e), each cut to `share` of its variance.

    It is 1 for spaces that are linear images of each other. For p rows of noise it is not 0, and it is 1 where p does
    not exceed the number of directions. `most` bounds that number; the value means little without its random control.

    Raises
    ------
    InputError
        The numbers of rows differ or are below three, or the share lies outside (0, 1].

    References
    ----------
    Raghu et al., SVCCA, NeurIPS 2017, arXiv 1706.05806, section 2.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> round(svcca(x, x @ [[0, 1, 0], [2, 0, 0], [0, 0, 3]] + 1), 6)
    1.0
    """
    _require_rows(a, b)
    if len(a) < 3:
        raise InputError(f"at least three rows are needed, got {len(a)}")
    if not 0 < share <= 1:
        raise InputError(f"share must lie in (0, 1], got {share}")
    q, r = _main_directions(a, share)[:, :most], _main_directions(b, share)[:, :most]
    if not q.shape[1] or not r.shape[1]:
        return float("nan")
    canonical = np.linalg.svd(q.T @ r, compute_uv=False)
    return float(np.clip(canonical, 0, 1).mean())


def _main_directions(x: np.ndarray, share: float) -> np.ndarray:
    """Return the orthonormal scores (rows, c) of the principal directions that hold `share` of the variance."""
    u, s, _ = np.linalg.svd(np.asarray(x, dtype=np.float64) - np.mean(x, axis=0), full_matrices=False)
    s = np.where(s > 1e-10 * max(s[0], 1e-300), s, 0.0)
    if not s.any():
        return u[:, :0]
    shares = np.cumsum(s**2) / np.sum(s**2)
    count = min(int(np.searchsorted(shares, share - 1e-12)) + 1, int(np.count_nonzero(s)))
    return u[:, :count]


def rsa(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Spearman correlation of the pairwise distances (1 - cosine) of the rows of a (p, d) and of b (p, e).

    Raises
    ------
    InputError
        The numbers of rows differ or are below three.

    References
    ----------
    Kriegeskorte et al., Representational similarity analysis, Frontiers in Systems Neuroscience 2, 2008.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((20, 3))
    >>> round(rsa(x, 2 * x[:, ::-1]), 6)
    1.0
    """
    _require_rows(a, b)
    if len(a) < 3:
        raise InputError(f"at least three rows are needed, got {len(a)}")
    first, second = (rankdata(_distances(x)) for x in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def _distances(x: np.ndarray) -> np.ndarray:
    rows = np.asarray(x, dtype=np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    # Distances are rounded, so that ties stay ties in both spaces.
    return np.round(1 - (rows @ rows.T)[np.triu_indices(len(rows), 1)], 12)


class Likeness(NamedTuple):
    """A measure of two paired feature spaces, and its values for random pairs."""

    value: float
    random: np.ndarray  # (draws,)
    p: float  # share of values at least as large as the observed one, which counts as well


def likeness(measure: Any, a: np.ndarray, b: np.ndarray, *, draws: int = 100, seed: int = 0) -> Likeness:
    """Return `svcca` or `rsa` of paired rows, with random pairings of the same rows as the control.

    References
    ----------
    Lan et al., arXiv 2410.06981, section 3 (random pairings).

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((30, 4))
    >>> result = likeness(rsa, x, x, draws=19)
    >>> round(result.value, 6), result.p
    (1.0, 0.05)
    """
    rng = np.random.default_rng(seed)
    value = measure(a, b)
    random = np.array([measure(a, b[rng.permutation(len(b))]) for _ in range(draws)])
    return Likeness(value, random, (1 + int(np.sum(random >= value))) / (draws + 1))


def _require_rows(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) != len(b):
        raise InputError(f"both arrays must have a row per word or pair, got {len(a)} and {len(b)} rows")
