"""mean -+ t(1 - 0.025/m, n - 1) s/sqrt(n): Student's interval, simultaneous for m comparisons, and s/sqrt(n) itself.

This module measures how sure the mean of n values is, at 95 % for all m comparisons together. Every interval that it
returns carries what it was computed from, so that `recompute_intervals.py` can compute it again from the stored file.
"""

import math

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest, rankdata
from scipy.stats import t as student

from ctrlattn.checkpoints.measure.evaluate import standard_error
from ctrlattn.nn.experiment import statistics

__all__ = [
    "clustered", "half_width", "interval", "max_t", "recomputed", "spearman", "standard_error", "stored_intervals",
    "wilson",
]  # fmt: skip

_AT_ONCE = 250  # draws of a bootstrap: few enough for their rows to stay in the cache


def half_width(values, comparisons=1):
    """Half of Student's interval of the mean over the first axis, 95 % for all comparisons together.

    >>> round(float(half_width(np.array([0.0, 1.0]))), 3)  # 0.5 tan(0.475 pi)
    6.353
    """
    return statistics.half_width(values, level=1 - 0.05 / comparisons)


def interval(values, comparisons=1):
    """Mean and ends of Student's 95 % interval as plain numbers, under the names of the results files, with the values.

    Values (n, ...) give (...) means and ends, as lists.

    >>> interval([0.0, 1.0])["mean"]
    0.5
    >>> interval([[0.0, 4.0], [1.0, 4.0]], comparisons=2)["mean"]
    [0.5, 4.0]
    """
    values = np.asarray(values, dtype=float)
    mean, half = values.mean(0), half_width(values, comparisons)
    several = {} if comparisons == 1 else {"comparisons": comparisons}
    ends = {"mean": mean, "low": mean - half, "high": mean + half, "values": values}
    return {**{name: end.tolist() for name, end in ends.items()}, **several}


def clustered(values, documents):
    """Mean of all values with a 95 % interval over documents, of which one may have several values.

    half = t(.975, G - 1) sqrt(G/(G - 1) sum_g (sum_{i in g} (x_i - mean))^2)/n over G documents. Where each has one
    value it is Student's.

    References
    ----------
    Liang and Zeger, Biometrika 73, 1986; Cameron and Miller, A practitioner's guide to cluster-robust inference,
    Journal of Human Resources 50, 2015, section II.

    >>> round(clustered([0.0, 1.0], ["a", "b"])["high"], 3) == round(interval([0.0, 1.0])["high"], 3)
    True
    """
    values, labels = np.asarray(values, dtype=float), np.unique(np.asarray(documents), return_inverse=True)[1]
    mean, groups = float(values.mean()), int(labels.max()) + 1
    sums = np.bincount(labels, weights=values - mean)
    error = math.sqrt(groups / (groups - 1) * float(sums @ sums)) / len(values) if groups > 1 else math.nan
    half = float(student.ppf(0.975, groups - 1)) * error
    ends = {"mean": mean, "low": mean - half, "high": mean + half}
    return {**ends, "values": values.tolist(), "documents": [str(name) for name in documents]}


def wilson(hits, n):
    """Share of hits with Wilson's 95 % interval, and the counts.

    (2 n p + z^2 -+ z sqrt(4 n p (1 - p) + z^2)) / (2 (n + z^2)), as `scipy.stats.binomtest` has it beside an exact p
    that costs a hundred times as much (Newcombe, Statistics in Medicine 17, 1998, method 3).

    >>> wilson(1, 2)["share"]
    0.5
    """
    hits, n = int(hits), int(n)
    p, z = hits / n, float(ndtri(0.975))
    denominator = 2 * (n + z**2)
    center, half = (2 * n * p + z**2) / denominator, z / denominator * math.sqrt(4 * n * p * (1 - p) + z**2)
    return {
        "share": p,
        "low": 0.0 if hits == 0 else center - half,
        "high": 1.0 if hits == n else center + half,
        "hits": hits,
        "n": n,
    }


def max_t(values, draws=4000, seed=0):
    """Means of the columns with intervals that hold at 95 % for all columns together: max-t bootstrap over rows.

    The largest |t| over the columns is drawn again and again from rows with replacement; its 95 % quantile takes the
    place of Student's. Columns that depend on each other need not be corrected as if they did not.

    References
    ----------
    Romano and Wolf, Exact and approximate stepdown methods, JASA 2005; Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 12.
    """
    values, rng = np.asarray(values, dtype=float), np.random.default_rng(seed)
    mean, error, n = values.mean(0), standard_errors(values), len(values)
    centred = (values - mean).reshape(n, -1)
    largest = np.empty(0)
    for count in range(0, draws, _AT_ONCE):
        rows = rng.integers(n, size=(min(_AT_ONCE, draws - count), n))
        # How often a draw has each row: its sums are then products of matrices, and no draw is made of its rows.
        often = np.bincount((rows + n * np.arange(len(rows))[:, None]).ravel(), minlength=rows.size)
        weights = often.reshape(rows.shape).astype(float)
        off, squares = weights @ centred / n, weights @ centred**2
        spread = squares - n * off**2
        spread[spread <= 1e-12 * squares] = 0.0  # a draw of one row alone has no spread
        largest = np.append(largest, np.abs(off / np.sqrt(spread / (n - 1) / n)).max(1))
    half = np.quantile(largest, 0.95) * error
    ends = {"mean": mean, "low": mean - half, "high": mean + half}
    return {
        **{name: end.tolist() for name, end in ends.items()},
        "values": values.tolist(),
        "draws": draws,
        "seed": seed,
    }


def spearman(signal, cost, draws):
    """Spearman's rank correlation with its bootstrap interval over pairs (95 %, percentiles, seed 0), and the pairs.

    >>> spearman([1.0, 2.0, 4.0], [1.0, 3.0, 9.0], 50)["mean"]
    1.0
    """
    signal, cost, rng = np.asarray(signal, dtype=float), np.asarray(cost, dtype=float), np.random.default_rng(0)
    at = rng.integers(len(cost), size=(draws, len(cost)))
    rows = np.vstack([np.arange(len(cost)), at])
    ranks = [rankdata(values[rows], axis=1) - (len(cost) + 1) / 2 for values in (signal, cost)]
    sizes = [(rank**2).sum(1) for rank in ranks]
    with np.errstate(invalid="ignore"):  # a draw of equal values has no ranks, which nanquantile leaves out
        values = (ranks[0] * ranks[1]).sum(1) / np.sqrt(sizes[0] * sizes[1])
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    ends = {"mean": round(float(values[0]), 12), "low": float(low), "high": float(high)}
    return {**ends, "signal": signal.tolist(), "cost": cost.tolist(), "draws": draws}


def standard_errors(values, axis=0):
    """s/sqrt(n) of each column."""
    return values.std(axis, ddof=1) / math.sqrt(values.shape[axis])


def recomputed(fields):
    """(low, high) of a stored interval from what it carries; None where it carries nothing to compute it from."""
    if "hits" in fields:
        result = wilson(fields["hits"], fields["n"])
    elif "cost" in fields and "signal" in fields:
        result = spearman(fields["signal"], fields["cost"], fields["draws"])
    elif "draws" in fields and "values" in fields:
        result = max_t(fields["values"], fields["draws"], fields["seed"])
    elif "counts" in fields and "right" in fields:  # of a forecast: right and false alarms, right silences, missed
        successes = fields["counts"][0] + fields["counts"][2]
        ends = binomtest(successes, fields["n"]).proportion_ci(method="exact")
        return float(ends.low), float(ends.high)
    elif isinstance(fields.get("values"), list) and isinstance(fields.get("documents"), list):
        result = clustered(fields["values"], fields["documents"])
    elif isinstance(fields.get("values"), list):
        values = np.array(fields["values"], dtype=float)
        values = values[np.isfinite(values.reshape(len(values), -1)).all(1)] if len(values) else values
        result = interval(values, fields.get("comparisons", 1)) if len(values) else {"low": math.nan, "high": math.nan}
    else:
        return None
    return result["low"], result["high"]


def stored_intervals(numbers, place=""):
    """(place, interval) of every dictionary with two ends, anywhere in the numbers of a scene."""
    if isinstance(numbers, dict):
        if {"low", "high"} <= set(numbers) or "standard_error" in numbers:
            yield place, numbers
        for name, value in numbers.items():
            yield from stored_intervals(value, f"{place}/{name}")
    elif isinstance(numbers, (list, tuple)):
        for i, value in enumerate(numbers):
            if isinstance(value, (dict, list, tuple)):
                yield from stored_intervals(value, f"{place}/{i}")
