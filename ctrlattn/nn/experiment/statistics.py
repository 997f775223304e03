"""d_i = score of one arm - score of another, same seed: Student's t, sign flips, Holm's correction, power, seeds.

Score, direction and correction are fixed before the runs. All intervals and p values are over the seeds of training.
The test images are fixed, so that nothing is claimed about other images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ctrlattn.errors import InputError

Direction = Literal["less", "greater", "two-sided"]
EXACT = 20  # largest number of differences for which the sign-flip test goes through all sign patterns


class Paired(NamedTuple):
    """Paired differences of one score over the seeds, with their interval and p values."""

    n: int
    mean: float
    low: float  # lower end of Student's interval of the mean, 95 % by default
    high: float
    deviation: float
    p: float  # Student's paired test in the direction asked for
    p_sign_flip: float  # sign-flip test, which assumes no distribution: share of sign patterns at least as extreme


def half_width(values: Any, *, level: float = 0.95) -> np.ndarray:
    """Return t((1 + level)/2, n - 1) s/sqrt(n): half of Student's interval of the mean over the first axis.

    Parameters
    ----------
    values : (n, ...)
    level : float
        Coverage of one interval. With 1 - 0.05/m, m intervals hold at once with 95 % (Bonferroni).

    Returns
    -------
    (...)
        The half width; nan for a single value.

    Examples
    --------
    >>> round(float(half_width([0.0, 1.0])), 3)  # 0.5 tan(0.475 pi)
    6.353
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], math.nan)
    from scipy.special import stdtrit  # here and below: processes that train compute no statistics

    return np.asarray(stdtrit(n - 1, (1 + level) / 2) * (values.std(0, ddof=1) / math.sqrt(n)))


def paired(differences: Sequence[float], direction: Direction = "two-sided", *, level: float = 0.95) -> Paired:
    """Do Student's paired test with its interval, and the exact sign-flip test.

    If two arms are alike, each difference could as well have had the other sign. The sign-flip test is therefore an
    A/A comparison of these very differences. With n seeds its p is at least 2^-n (two-sided 2^(1-n)).

    Parameters
    ----------
    differences : (n,)
    direction : "less", "greater" or "two-sided"
        Direction of the alternative; the interval is always two-sided.
    level : float

    Raises
    ------
    InputError
        The direction is unknown, there are fewer than two differences, or one is not finite.

    References
    ----------
    Student, The probable error of a mean, Biometrika 1908; Fisher, The Design of Experiments, 1935, section 21.

    Examples
    --------
    >>> differences = paired([1.0, 2.0, 3.0], "greater")
    >>> differences.mean, differences.p_sign_flip, round(differences.low, 4)
    (2.0, 0.125, -0.4841)
    """
    if direction not in get_args(Direction):
        raise InputError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}")
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or len(d) < 2 or not np.all(np.isfinite(d)):
        raise InputError(f"a paired test needs at least two finite differences, got {d.tolist()}")
    mean, deviation = float(d.mean()), float(d.std(ddof=1))
    error, half = deviation / math.sqrt(len(d)), float(half_width(d, level=level))
    # Equal differences have no spread: t is then infinite, or 0 where they are 0.
    t = mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
    from scipy import stats

    p = _tail(float(stats.t.sf(t, len(d) - 1)), float(stats.t.cdf(t, len(d) - 1)), direction)
    return Paired(len(d), mean, mean - half, mean + half, deviation, p, _sign_flip(d, direction))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for their number by Holm's step-down method, at most 1 each, in the given order.

    Raises
    ------
    InputError
        A p value lies outside [0, 1].

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> {name: round(value, 12) for name, value in holm({"a": 0.01, "b": 0.04, "c": 0.03}).items()}
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    if not all(0 <= value <= 1 for value in p.values()):
        raise InputError(f"p values lie in [0, 1], got {dict(p)}")
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda key: p[key])):
        largest = max(largest, min((len(p) - rank) * p[name], 1.0))
        corrected[name] = largest
    return {name: corrected[name] for name in p}


def power(n: int, effect: float, *, alpha: float = 0.05, sides: int = 1) -> float:
    """Return the power of Student's paired test with n seeds: its chance to detect a mean of `effect` deviations.

    Examples
    --------
    >>> round(power(27, 0.5), 2)
    0.81
    """
    from scipy import stats

    degrees, shift = n - 1, abs(effect) * math.sqrt(n)
    critical = float(stats.t.ppf(1 - alpha / sides, degrees))
    # Far in its tail scipy's noncentral t loses its digits; the normal distribution is accurate enough there.
    upper = float(stats.nct.sf(critical, degrees, shift)) if shift < 30 else float(stats.norm.sf(critical - shift))
    lower = float(stats.nct.cdf(-critical, degrees, shift)) if sides == 2 and shift < 5 else 0.0
    return upper + lower


def seeds_needed(
    deviation: float,
    difference: float,
    *,
    alpha: float = 0.05,
    wanted: float = 0.8,
    sides: int = 1,
    most: int = 100_000,
) -> float:
    """Return the smallest number of seeds that detects a true difference with the wanted power; inf beyond `most`.

    Parameters
    ----------
    deviation : float
        Standard deviation of the paired differences over seeds.
    difference : float
        True mean difference to detect.
    alpha : float
        Level of a single test. For Holm's first step it is divided by the number of tests.

    Raises
    ------
    InputError
        The deviation is below 0, or the power or level lies outside (0, 1).

    Examples
    --------
    >>> seeds_needed(1.0, 0.5), seeds_needed(1.0, 0.0)
    (27, inf)
    """
    if not deviation >= 0 or not 0 < wanted < 1 or not 0 < alpha < 1:
        raise InputError(f"deviation >= 0, power and level in (0, 1) are needed, got {deviation}, {wanted}, {alpha}")
    if difference == 0:
        return math.inf
    effect = math.inf if deviation == 0 else abs(difference) / deviation
    if math.isinf(effect):
        return 2

    def enough(n: int) -> bool:
        return power(n, effect, alpha=alpha, sides=sides) >= wanted

    high = 2
    while not enough(high):
        high *= 2
        if high > most:
            return math.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _tail(upper: float, lower: float, direction: Direction) -> float:
    if direction == "two-sided":
        return min(2 * min(upper, lower), 1.0)
    return upper if direction == "greater" else lower


def _sign_flip(d: np.ndarray, direction: Direction) -> float:
    """Return p of the sign-flip test: over all patterns of up to EXACT differences, else over 100,000 random ones."""
    if len(d) <= EXACT:
        sums = np.zeros(1)
        for difference in d:  # each pattern so far, with either sign of the next
            sums = np.concatenate([sums + difference, sums - difference])
    else:
        random = np.random.default_rng(0).choice((-1, 1), size=(100_000, len(d)))
        sums = np.append(d.sum(), random @ d)
    tolerance = 1e-12 * np.abs(d).sum()
    upper, lower = (float(np.mean(excess >= -tolerance)) for excess in (sums - d.sum(), d.sum() - sums))
    return _tail(upper, lower, direction)
