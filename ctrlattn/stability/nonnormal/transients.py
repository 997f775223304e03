"""||A^k||, the transient growth over k steps: spectral radius^k <= ||A^k|| <= 2 w^k,  K <= sup_k ||A^k|| <= e n K."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ctrlattn import showing
from ctrlattn.arrays import require_number
from ctrlattn.errors import InputError, require_flag, require_whole
from ctrlattn.linear.state_matrix import require_size, state_matrix
from ctrlattn.linear.triangular import poles
from ctrlattn.stability.nonnormal.kreiss import LARGEST, kreiss_constant
from ctrlattn.stability.nonnormal.numerical_range import numerical_abscissa, numerical_radius

_DENSE = 400
_LARGEST_EXPONENT = 700.0  # e^700 is near the largest float


@dataclass(frozen=True, eq=False)
class TransientGrowth:
    """How much a linear system amplifies before its eigenvalues decide.

    `ceiling`, `lower` and `upper` are computed when they are first read: for a large matrix they cost many times as
    much as the norms. They are nan where they were not asked for. `lower` and `upper` are nan as well where rounding
    hides the Kreiss constant.
    """

    norms: np.ndarray  # (steps + 1,): ||A^k||, or ||e^{A k interval}||
    times: np.ndarray  # (steps + 1,): k, or k interval
    asymptotic: np.ndarray  # (steps + 1,): spectral radius^k (discrete), e^{abscissa t}: a lower bound of each norm
    peak: float  # largest norm within the steps
    peak_time: float  # time of that norm
    continuous: bool
    _bounded: np.ndarray | None = field(repr=False)  # the matrix whose bounds were asked for

    def plot(self, **options: Any) -> Any:
        """Plot norms, bounds and eigenvalues over time; options as for `plots.transient_growth`."""
        return showing.plot(self, **options)

    @cached_property
    def ceiling(self) -> np.ndarray:
        """(steps + 1,): 2 w^k (discrete), e^{omega t} (continuous): an upper bound of each norm, 1 at the start."""
        if self._bounded is None:
            return np.full(len(self.times), math.nan)
        with np.errstate(over="ignore"):
            if self.continuous:
                ceiling = np.exp(numerical_abscissa(self._bounded) * self.times)
            else:
                ceiling = 2.0 * numerical_radius(self._bounded) ** self.times
        ceiling[0] = 1.0
        return ceiling

    @cached_property
    def lower(self) -> float:
        """K, the Kreiss constant: a lower bound of the supremum over all times."""
        if self._bounded is None:
            return math.nan
        try:
            return kreiss_constant(self._bounded, continuous=self.continuous)
        except ArithmeticError:  # rounding hides it: the norms are known even then
            return math.nan

    @property
    def upper(self) -> float:
        """e n K, an upper bound of the supremum over all times."""
        return math.nan if self._bounded is None else math.e * len(self._bounded) * self.lower


def transient_growth(
    A: Any, steps: int, *, continuous: bool | None = None, interval: float = 1.0, bounds: bool = True
) -> TransientGrowth:
    """Return ||A^k||_2 for k = 0..steps, with the Kreiss bounds on its supremum where they are read.

    Parameters
    ----------
    A : (n, n) array, real or complex, or control.StateSpace
    steps : int
    continuous : bool, optional
        Time domain of a matrix, discrete by default; a system has its own. In continuous time the norms are
        ||e^{At}|| at t = k interval.
    interval : float
        Time between two samples, in continuous time only.
    bounds : bool
        False gives the norms alone, for matrices too large for `kreiss_constant` (n > 1000).

    Returns
    -------
    TransientGrowth

    Raises
    ------
    InputError
        The matrix is not square or not finite, steps < 0, n > 1000 with bounds, or a sequence of loops is given.

    References
    ----------
    Trefethen and Embree, Spectra and Pseudospectra, 2005, sections 14 to 18.

    Examples
    --------
    >>> growth = transient_growth(np.array([[0.5, 2.0], [0.0, 0.5]]), 8)
    >>> growth.norms[:3].round(3).tolist(), growth.peak_time
    ([1.0, 2.118, 2.031], 1.0)
    >>> round(growth.lower, 3), round(growth.upper, 3)
    (1.25, 6.796)
    """
    continuous = None if continuous is None else require_flag("continuous", continuous)
    bounds = require_flag("bounds", bounds)
    a, continuous = state_matrix(A, "transient_growth", continuous)
    steps = require_whole("steps", steps, least=0)
    if bounds:
        require_size(len(a), LARGEST, "transient_growth", "With bounds=False it measures the norms alone.")
    interval = float(require_number("interval", interval))
    if interval <= 0:
        raise InputError(f"interval must be positive, got {interval}")
    times = np.arange(steps + 1) * (interval if continuous else 1.0)
    spectrum = poles(a)
    # e^{A h} = e^{m h} e^{(A - m I) h}, where the left side would overflow.
    growth = float(np.max(spectrum.real, initial=0.0)) * interval if continuous else 0.0
    growth = growth if growth > _LARGEST_EXPONENT else 0.0
    step = scipy.linalg.expm(a * interval - growth * np.eye(len(a))) if continuous else a
    norms = _norms(step, steps, growth)
    with np.errstate(over="ignore"):
        rate = np.exp(np.max(spectrum.real)) if continuous else np.max(np.abs(spectrum))
        asymptotic = rate**times
    peak = int(np.argmax(norms))
    bounded = a.copy() if bounds else None  # what the caller changes later does not change a bound
    return TransientGrowth(norms, times, asymptotic, float(norms[peak]), float(times[peak]), continuous, bounded)


def _norm(a: np.ndarray) -> float:
    """Return ||A||_2, by a full SVD for a small matrix and by Lanczos steps for a large one."""
    if len(a) <= _DENSE or not np.any(a):
        return float(np.linalg.norm(a, 2))
    start = np.random.default_rng(0).standard_normal(len(a))
    gram = LinearOperator(a.shape, matvec=lambda v: a.conj().T @ (a @ v), dtype=a.dtype)
    try:
        return math.sqrt(float(eigsh(gram, k=1, v0=start, return_eigenvectors=False)[0]))
    except ArpackNoConvergence:
        return float(np.linalg.norm(a, 2))


def _norms(a: np.ndarray, steps: int, growth: float) -> np.ndarray:
    """Return e^{growth k} ||A^k|| for k = 0..steps; each power is scaled to norm 1 first, so that none overflows."""
    power, log_size, norms = np.eye(len(a), dtype=a.dtype), 0.0, [1.0]
    for _ in range(steps):
        power = a @ power
        size = _norm(power)
        if size == 0.0:
            norms += [0.0] * (steps + 1 - len(norms))
            break
        power, log_size = power / size, log_size + math.log(size) + growth
        norms.append(math.exp(log_size) if log_size < 709.7 else math.inf)
    return np.array(norms)
