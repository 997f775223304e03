"""mean -+ t(1 - 0.025/m, n - 1) s/sqrt(n): Student's interval, simultaneous for m comparisons.

This module measures how sure the mean of n values is, at 95 % for all m comparisons together.
"""

import math

import numpy as np
from scipy.stats import t as student


def half_width(values, comparisons=1):
    """Half of Student's 95 % interval of the mean over the first axis; nan for a single value.

    >>> round(float(half_width(np.array([0.0, 1.0]))), 3)  # 0.5 tan(0.475 pi)
    6.353
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], math.nan)
    return student.ppf(1 - 0.025 / comparisons, n - 1) * values.std(0, ddof=1) / math.sqrt(n)


def interval(values):
    """Mean and ends of Student's 95 % interval as plain numbers, under the names of the results files.

    >>> interval([0.0, 1.0])["mean"]
    0.5
    """
    mean, half = float(np.mean(values)), float(half_width(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}
