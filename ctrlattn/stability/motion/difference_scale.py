"""The scale of a map at a point, d with (f(x + d v) - f(x - d v))/(2 d) = J v: what a difference step is relative to.

The size of x is the scale of most maps, and says nothing at x = 0 or beside it. There the quotients of ever longer
steps are compared. They agree where rounding is small already and curvature still is: a plateau of J v over d.

A map may have two plateaus. x + LayerNorm(x) has one within its epsilon, which is the derivative, and one far outside.
(1 + x) - 1 has one below the last digit of 1, where x is lost, and the derivative outside of it. Where the quotients
leave a plateau, those of a map bend and those of rounding jump up and down from one step to the next.
"""

from collections.abc import Callable, Collection

import numpy as np

from ctrlattn.arrays import Array, like, machine_epsilon, require_real

_BASE = 8.0  # ratio of a step to the one before
_LEAST, _FARTHEST = -56, 15  # powers of it that are tried, in units of 1 and of |x|
_OUTWARD = 26  # steps beyond that of |x| at which a map is asked whether rounding hides a part of it
_GLANCES = (4, 8, _OUTWARD)  # so many of them are measured at a time: most maps bend early, and the rest says no more
_APART = 1e-3  # share of the largest number in x below which a number is asked whether its step is the same
_ALIKE = 1e-4  # relative difference of two quotients on one plateau
_SURE = 1e-6  # that of d and others beside it at which the size of x is taken without a search
_BESIDE = np.array([1.6449, 2.7183])  # the others, in units of d: last digits are off alike at d and 2 d
_LITTLE = 1e-4  # difference of those beside an eigenvalue of 1, where no plateau is found
_SIDES = 1e-2  # relative difference of the right quotient from the central one of a smooth map
_JUMPS = 0.4  # share of turning points among quotients in a row; of rounding it is 2/3
_SAMPLES, _FEWEST = 64, 6
_BEND = _BASE**3  # by how much more than between two steps a map may bend between the next two
StepMap = Callable[[Array], Array]


def difference_size(step: StepMap, x: Array) -> float:
    """Return the size s of which `difference_step` takes a share: |x| if quotients confirm it, else that of a plateau.

    Quotients are judged by their length: what is 1e-4 of it may be lost to rounding unseen.

    Parameters
    ----------
    step : callable x -> f(x)
    x : any shape, numpy or torch

    Returns
    -------
    s, positive

    Raises
    ------
    ArithmeticError
        The quotients agree at no step: f has no derivative at x, or rounding in f hides it. Or small numbers of x need
        a step of their own: one step for all would reach beyond what f makes of them.

    Examples
    --------
    >>> small = difference_size(lambda x: 1e-6 * np.tanh(x / 1e-6), np.zeros(2))
    >>> bool(small < 1e-2), difference_size(np.tanh, np.full(2, 0.5))
    (True, 0.5)
    """
    size = _size(step, x)
    _require_one_scale(step, x, size)
    return size


class _NoPlateauError(ArithmeticError):
    """The quotients agree at no step."""


def _require_one_scale(step: StepMap, x: Array, size: float) -> None:
    """Raise ArithmeticError where the numbers of x far below its size, moved by its step, show another derivative."""
    flat, unit = require_real("x", x).ravel(), machine_epsilon(x) ** (1 / 3)
    small = np.abs(flat) < _APART * float(np.max(np.abs(flat)))
    if not small.any():
        return

    def part(z: Array) -> Array:
        state = flat.copy()
        state[small] = require_real("z", z)
        return step(like(state.reshape(tuple(x.shape)), x))

    z = like(flat[small], x)
    try:
        part_size = difference_size(part, z)
    except _NoPlateauError:  # rounding hides them at every step
        return
    here = require_real("f", part(z)).ravel()
    both = _Quotients(part, z, here, unit * np.array([part_size, size]), 1).central
    if not np.linalg.norm(both[0] - both[1]) <= max(_ALIKE, 1e3 * unit**2) * np.linalg.norm(both, axis=1).max():
        raise ArithmeticError(
            f"the numbers of the state have scales too far apart for differences: steps of {unit * size:.1g} suit all, "
            f"and {int(small.sum())} of {len(flat)} numbers need steps of {unit * part_size:.1g}. Scale the state, or "
            "give a torch map, which is differentiated without differences"
        )


def _size(step: StepMap, x: Array) -> float:
    """Return the size for all numbers of x, by the quotients of f as a whole."""
    flat, unit = require_real("x", x).ravel(), machine_epsilon(x) ** (1 / 3)
    size = float(np.max(np.abs(flat)))
    with np.errstate(all="ignore"):
        here = require_real("f", step(x + 0)).ravel()  # a copy, for a map that writes in place
    if not np.all(np.isfinite(here)):
        return size or 1.0  # no quotient is finite, whatever the step: what f gives is judged by who asked for it
    if size > 0:
        near = _Quotients(step, x, here, unit * size * np.append(_BASE ** np.arange(_OUTWARD), _BESIDE), 1)
        if near.confirmed():
            return size
    wide = _Quotients(step, x, here, _steps(size), 3 if len(flat) < 4 else 1)
    best = wide.plateau(unit * size)
    if best is not None:
        return float(wide.d[best]) / unit
    if size > 0 and near.small():
        return size
    raise _NoPlateauError(
        f"the derivative of the map is not found by differences of {wide.d[0]:.1g} to {wide.d[-1]:.1g}: their "
        "quotients agree at no three steps in a row. The map has no derivative at this point, or rounding within the "
        "map hides it: a torch map is differentiated without differences"
    )


def _steps(size: float) -> np.ndarray:
    """Return (m,) steps ascending, about 1e-50 to 1e13; where |x| is farther out than that, as far beyond it."""
    power = np.log(size) / np.log(_BASE) if size > 0 else 0.0
    low, high = min(_LEAST, int(power) + _LEAST // 2), max(_FARTHEST, int(power) + _FARTHEST)
    return _BASE ** np.arange(max(low, -320), min(high, 320) + 1, dtype=float)


class _Quotients:
    """Central and right quotients of one map along some directions, for steps d that grow."""

    def __init__(self, step: StepMap, x: Array, here: np.ndarray, d: np.ndarray, count: int) -> None:
        self.step, self.x, self.here, self.d, self.eps = step, x, here, d, machine_epsilon(x)
        self.sure = max(_SURE, 1e2 * self.eps ** (2 / 3))
        size = int(np.prod(tuple(x.shape), dtype=int))
        uniform = np.random.default_rng(0).uniform(-1.0, 1.0, (count, size))
        # Of largest number 1 or less, no two alike, and no powers of two, which are added to 1 without rounding.
        self.directions = (
            uniform / np.max(np.abs(uniform), axis=1, keepdims=True) / (np.pi / 3 + np.arange(count)[:, None])
        )
        self._measured: dict[int, np.ndarray] = {}  # both quotients of the steps that were asked for

    @property
    def central(self) -> np.ndarray:
        return self._rows(range(len(self.d)))[:, 0]

    @property
    def right(self) -> np.ndarray:
        return self._rows(range(len(self.d)))[:, 1]

    def confirmed(self) -> bool:
        """Tell whether the first step is right: the last two agree with it, and no rounding is seen farther out."""
        size = float(np.linalg.norm(self._rows(range(1))[0, 0]))
        if not (size > 0 and self._offset() <= self.sure * size):
            return False
        outward = len(self.d) - len(_BESIDE)
        for count in _GLANCES:
            exits = np.flatnonzero(~_alike(self._rows(range(min(count, outward)))[:, 0], self.eps))
            if len(exits):
                return bool(exits[0] > 0 and not self.jumps(int(exits[0])))
        return True

    def small(self) -> bool:
        """Tell whether the first step is off by little beside an eigenvalue of 1, as rounding is where J v vanishes."""
        sizes = np.linalg.norm(self.central[: -len(_BESIDE)], axis=1)
        # A quotient of 0 may be one that rounding hides: then those that are seen first are not small.
        return bool(self._offset() <= _LITTLE and (sizes[0] > 0 or np.all(sizes[sizes > 0][:3] <= _LITTLE)))

    def _offset(self) -> float:
        first, *beside = self._rows([0, *range(len(self.d) - len(_BESIDE), len(self.d))])[:, 0]
        return float(np.max(np.linalg.norm(np.array(beside) - first, axis=1)))

    def plateau(self, usual: float) -> int | None:
        """Return a step of the innermost plateau not left by jumps: the best, or a good one nearest to `usual`."""
        central, right = self.central, self.right
        alike, gaps = _alike(central, self.eps), np.linalg.norm(np.diff(central, axis=0), axis=1)
        steady = np.linalg.norm(right - central, axis=1) <= _SIDES * np.linalg.norm(central, axis=1)
        for first, last in _runs(_alike(right, self.eps)):
            steady[first : last + 1] = True
        for first, last in _runs(alike):
            if last < len(alike) and self.jumps(last):
                continue
            # The right quotient has to be steady as well: that of sqrt|x| at 0 is infinite.
            worst = np.maximum(gaps[first : last - 1], gaps[first + 1 : last])  # of both neighbours of an inner step
            worst = np.where(steady[first + 1 : last], worst, np.inf)
            good = first + 1 + np.flatnonzero(worst <= self.sure * np.linalg.norm(central[first + 1 : last], axis=1))
            if usual > 0 and len(good):
                return int(good[np.argmin(np.abs(np.log(self.d[good] / usual)))])
            return first + 1 + int(np.argmin(worst)) if np.any(np.isfinite(worst)) else None
        return None

    def jumps(self, last: int) -> bool:
        """Tell whether all agree up to the step `last`, and jump up and down beyond, as rounding does."""
        around = self._rows(range(last - 1, last + 2))[:, 0]
        before, after = np.linalg.norm(np.diff(around, axis=0), axis=1)
        if after <= _BEND * before:
            return False
        # The first jump may come long before the steps are as large as a last digit of f.
        return any(self._turns(self.d[last + 1] * _BASE**power) for power in range(3))

    def _turns(self, d: float) -> bool:
        """Tell whether some number of the quotient turns at most of the steps from d on, which are not even."""
        steps = d * (1 + np.sort(np.random.default_rng(1).uniform(0, _SAMPLES, _SAMPLES)))
        quotients = np.array([self._quotients(length)[0] for length in steps])
        with np.errstate(invalid="ignore"):
            moves = np.diff(quotients, axis=0)
            moves = np.where(np.abs(moves) > _ALIKE * np.linalg.norm(quotients[0]), moves, 0.0)
            product = moves[1:] * moves[:-1]
        return bool(np.any(np.sum(product < 0, axis=0) > np.maximum(_JUMPS * np.sum(product != 0, axis=0), _FEWEST)))

    def _rows(self, which: Collection[int]) -> np.ndarray:
        """Return both quotients of some steps, (m, 2, k N); each is measured once."""
        for i in which:
            if i not in self._measured:
                self._measured[i] = self._quotients(self.d[i])
        return np.array([self._measured[i] for i in which])

    def _quotients(self, d: float) -> np.ndarray:
        """Return (f(x + d v) - f(x - d v))/(2 d) and (f(x + d v) - f(x))/d, (2, k N)."""
        with np.errstate(all="ignore"):
            ends = [(self._value_at(d * v), self._value_at(-d * v)) for v in self.directions]
            central = [(ahead - behind) / (2 * d) for ahead, behind in ends]
            right = [(ahead - self.here) / d for ahead, _ in ends]
        return np.array([central, right]).reshape(2, -1)

    def _value_at(self, off: np.ndarray) -> np.ndarray:
        """Return f(x + off), flat; nan where f refuses."""
        try:
            return require_real("f", self.step(self.x + like(off.reshape(tuple(self.x.shape)), self.x))).ravel()
        except (ArithmeticError, ValueError):  # such a step leaves where the map is defined
            return np.full(self.here.size, np.nan)


def _alike(quotients: np.ndarray, eps: float) -> np.ndarray:
    """Tell which quotients, (m - 1,), are like the next step's, or with all before them nothing beside 1."""
    sizes = np.linalg.norm(quotients, axis=1)
    gaps, largest = np.linalg.norm(np.diff(quotients, axis=0), axis=1), np.maximum(sizes[1:], sizes[:-1])
    unseen = np.logical_and.accumulate(largest <= eps)  # from the shortest step on: x^3 has the derivative 0
    return (gaps <= max(_ALIKE, 1e3 * eps ** (2 / 3)) * largest) | unseen


def _runs(alike: np.ndarray) -> list[tuple[int, int]]:
    """Return (first, last) of at least three steps in a row that are alike."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], alike.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= 2]
