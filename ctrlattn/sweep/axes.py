"""axis -> values, axes and a cell number -> one value of each: grids in C order, random and Sobol samples of a box."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

from ctrlattn.arrays import require_number
from ctrlattn.errors import InputError, InputTypeError, require_flag, require_known, require_whole, shown

Scale = Literal["linear", "log"]
Method = Literal["grid", "random", "sobol"]
AxisValue = bool | int | float | str
_LARGEST = 10**8  # cells of one sweep
_MOST_VALUES = 10**6  # of one axis


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: `steps` of them in a grid; a sample takes any number between.

    Parameters
    ----------
    low, high : float
        Both ends belong to a grid.
    steps : int, optional
        At least 2, or 1 where both ends are equal; a grid needs it.
    scale : "linear" or "log"
        The values have equal differences, or equal ratios, which need numbers above 0.
    whole : bool
        Whether the numbers are rounded to whole ones, each of them once.

    Examples
    --------
    >>> Range(1, 100, 3, scale="log").grid()
    (1.0, 10.0, 100.0)
    """

    low: float
    high: float
    steps: int | None = None
    scale: Scale = "linear"
    whole: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", require_flag("whole", self.whole))
        object.__setattr__(self, "low", require_number("from", self.low))
        object.__setattr__(self, "high", require_number("to", self.high))
        require_known("scale", self.scale, get_args(Scale))
        if not isinstance(self.whole, bool):
            raise InputTypeError(f"whole must be true or false, got {shown(self.whole)}")
        if self.steps is not None:
            require_whole("steps", self.steps, most=_MOST_VALUES)
            if self.steps == 1 and self.low != self.high:
                raise InputError("steps must be at least 2 between two ends that differ")
        if not self.low <= self.high:
            raise InputError(f"from must be at most to, got {self.low:g} and {self.high:g}")
        if self.scale == "log" and not self.low > 0:
            raise InputError(f"a log scale needs numbers above 0, got {self.low:g}")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise InputError(f"whole numbers need whole ends, got {self.low:g} and {self.high:g}")

    def grid(self) -> tuple[AxisValue, ...]:
        """Return the values in a grid, ascending."""
        assert self.steps is not None  # `axis_of` asks for it
        spaced = np.geomspace if self.scale == "log" else np.linspace
        values = spaced(self.low, self.high, self.steps)
        if not self.whole:
            return tuple(values.tolist())
        return tuple(int(value) for value in np.unique(np.rint(values)))

    def at(self, share: np.ndarray) -> np.ndarray:
        """Return the numbers at shares of the way, in [0, 1); whole numbers are equally likely on a linear scale."""
        low, high = self.low, self.high + self.whole
        if self.scale == "log":
            values = np.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            values = low + share * (high - low)
        return np.clip(np.floor(values), self.low, self.high) if self.whole else np.clip(values, self.low, self.high)


@dataclass(frozen=True)
class Sample:
    """So many cells at random in the box of all axes.

    Parameters
    ----------
    method : "random" or "sobol"
        Independent points, or a scrambled Sobol sequence, which fills the box evenly.
    cells : int
    seed : int

    References
    ----------
    Owen, Scrambling Sobol' and Niederreiter-Xing points, J. Complexity 14, 1998.

    Examples
    --------
    >>> Sample("sobol", 8, seed=1).shares(2).shape
    (8, 2)
    """

    method: Literal["random", "sobol"]
    cells: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_known("method", self.method, ("random", "sobol"))
        require_whole("cells", self.cells, most=_LARGEST)
        require_whole("seed", self.seed, least=0, most=2**63 - 1)

    def shares(self, axes: int) -> np.ndarray:
        """Draw the points of the unit box, (cells, axes)."""
        return _shares(self, axes)


@lru_cache(maxsize=2)  # every batch of a worker asks for its part of the same points
def _shares(sample: Sample, axes: int) -> np.ndarray:
    generator = np.random.default_rng(sample.seed)
    if sample.method == "random":
        return generator.random((sample.cells, axes))
    from scipy.stats.qmc import Sobol

    return np.asarray(Sobol(axes, rng=generator).random_base2((sample.cells - 1).bit_length())[: sample.cells])


@dataclass(frozen=True)
class Axis:
    """One thing that is varied: its path in a configuration, and its values."""

    path: str
    values: tuple[AxisValue, ...] | Range

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return isinstance(self.values, Range) or not any(isinstance(value, bool | str) for value in self.values)

    def corners(self) -> tuple[AxisValue, ...]:
        """Return the values by which the axis is judged: all of a list, both ends of a range."""
        if isinstance(self.values, Range):
            ends = (self.values.low, self.values.high)
            return tuple(int(end) for end in ends) if self.values.whole else ends
        return self.values


@dataclass(frozen=True)
class Space:
    """All cells: a grid of the axes, the last one fastest, or a sample of their box."""

    axes: tuple[Axis, ...]
    sample: Sample | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis of a grid; the number of cells of a sample."""
        return tuple(len(_listed_values(axis)) for axis in self.axes) if self.sample is None else (self.sample.cells,)

    @property
    def cells(self) -> int:
        """Number of the cells."""
        return math.prod(self.shape)

    def values(self, start: int, stop: int) -> dict[str, Sequence[AxisValue]]:
        """Return the values of each axis in the cells start ... stop - 1, by path."""
        if self.sample is None:
            places = np.unravel_index(np.arange(start, stop), self.shape)
            return {
                axis.path: [_listed_values(axis)[i] for i in place.tolist()]
                for axis, place in zip(self.axes, places, strict=True)
            }
        shares = self.sample.shares(len(self.axes))[start:stop]
        return {axis.path: _sample(axis, shares[:, i]) for i, axis in enumerate(self.axes)}


@lru_cache(maxsize=64)
def _listed_values(axis: Axis) -> tuple[AxisValue, ...]:
    return axis.values.grid() if isinstance(axis.values, Range) else axis.values


def _sample(axis: Axis, shares: np.ndarray) -> list[AxisValue]:
    if isinstance(axis.values, Range):
        values = axis.values.at(shares)
        return [int(value) for value in values] if axis.values.whole else values.tolist()
    places = np.minimum((shares * len(axis.values)).astype(int), len(axis.values) - 1)
    return [axis.values[i] for i in places.tolist()]


def axis_of(path: str, values: Any, *, grid: bool) -> Axis:
    """Make an axis from a list, a `Range`, or a table {from, to, steps, scale, whole}.

    Raises
    ------
    InputError
        It is none of these, the list is empty or has a value twice, a key is unknown, or the range is none.

    Examples
    --------
    >>> axis_of("loop.controller.kp", {"from": 0, "to": 1, "steps": 3}, grid=True).values.grid()
    (0.0, 0.5, 1.0)
    """
    if isinstance(values, Mapping):
        values = _range(values)
    if isinstance(values, Range):
        if grid and values.steps is None:
            raise InputError("a grid needs steps, the number of its values")
        return Axis(path, values)
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise InputTypeError(f"an axis is a list of values or {{from, to, steps}}, got {shown(values)}")
    if not values:
        raise InputError("a list of values must not be empty")
    for value in values:
        if not isinstance(value, bool | int | float | str):
            raise InputTypeError(f"a value is a number, a text, or true or false, got {shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"a value must be finite, got {value}")
    if len(set(values)) < len(values):
        raise InputError("a value is given twice")
    if len({isinstance(value, str) for value in values}) > 1:
        raise InputError("values are all texts or all numbers")
    return Axis(path, tuple(values))


def _range(table: Mapping[str, Any]) -> Range:
    names = {"from": "low", "to": "high", "steps": "steps", "scale": "scale", "whole": "whole"}
    for key in table:
        require_known("key", key, names)
    missing = [key for key in ("from", "to") if key not in table]
    if missing:
        raise InputError(f"a range needs {' and '.join(missing)}")
    return Range(**{names[key]: value for key, value in table.items()})
