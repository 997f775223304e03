"""mean -+ t(1 - 0.025/m, n - 1) s/sqrt(n): Student's interval, simultaneous for m comparisons, and s/sqrt(n) itself.

This module measures how sure the mean of n values is, at 95 % for all m comparisons together.
"""

import numpy as np

from ctrlattn.checkpoints.measure.evaluate import standard_error
from ctrlattn.nn.experiment import statistics

__all__ = ["half_width", "interval", "standard_error"]


def half_width(values, comparisons=1):
    """Half of Student's interval of the mean over the first axis, 95 % for all comparisons together.

    >>> round(float(half_width(np.array([0.0, 1.0]))), 3)  # 0.5 tan(0.475 pi)
    6.353
    """
    return statistics.half_width(values, level=1 - 0.05 / comparisons)


def interval(values):
    """Mean and ends of Student's 95 % interval as plain numbers, under the names of the results files.

    >>> interval([0.0, 1.0])["mean"]
    0.5
    """
    mean, half = float(np.mean(values)), float(half_width(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}
