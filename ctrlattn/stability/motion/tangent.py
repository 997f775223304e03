"""J(x) V without forming J: directional derivatives of a map, by forward-mode autodiff or central differences.

A torch map is differentiated by `torch.func.jvp`, mapped over the directions, which is exact to rounding. A numpy map
is differentiated by the caller's `jvp`, or by central differences of relative accuracy eps^(2/3), 4e-11 in float64,
whose steps follow the scale of the map (`difference_size`).
Where the left and the right difference disagree by more than those of a smooth map (at a kink, such as that of the
tent map), the right one counts.
"""

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np

from ctrlattn.arrays import (
    Array,
    is_array,
    is_torch,
    like,
    machine_epsilon,
    namespace,
    require_finite,
    require_real,
)
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.jacobian import prepare_forward
from ctrlattn.stability.motion.difference_scale import difference_size

_FAR = 1e-2  # share of a state at which another is so far from it that the scale is measured again
StepMap = Callable[[Array], Array]
Jvp = Callable[[Array, Array], Array]


class Tangent:
    """One map and its derivatives: `advance(step, x, frame)` -> (f(x), J(x) frame), frame (N, k) float64 of numpy."""

    def __init__(self, x: Array, jvp: Jvp | None) -> None:
        self.jvp = jvp
        self.eps = machine_epsilon(x)
        exact = jvp is not None or is_torch(x)
        # What projection leaves of a column of J V is rounding where it is below this share of the column.
        self.lost = 16 * length(x) ** 0.5 * self.eps
        # It is the error of the differences where it is below this share of the longest column.
        self.noise = 0.0 if exact else 1e2 * self.eps ** (2 / 3)
        self.size = 0.0  # the scale of the map where it was measured last: difference steps are relative to it
        self.at = 0.0  # the largest number in the state there
        self.multiple = 1.0  # of the usual step
        self.stretch = 0.0  # largest derivative so far: a kink is judged against it

    def advance(self, step: StepMap, x: Array, frame: np.ndarray) -> tuple[Array, np.ndarray]:
        """Return f(x) and J(x) V."""
        if not frame.shape[1]:
            return _checked_state(step(x), x), frame
        if self.jvp is None and is_torch(x):
            new, images = _forward(step, x, frame)
        else:
            new = _checked_state(step(x), x)
            with np.errstate(over="ignore", invalid="ignore"):  # the caller checks whether all is finite
                images = (
                    self._differences(step, x, new, frame)
                    if self.jvp is None
                    else _images_by_caller(self.jvp, x, frame)
                )
        return new, require_real("the derivative", images).reshape(frame.shape[1], -1).T

    def _differences(self, step: StepMap, x: np.ndarray, new: np.ndarray, frame: np.ndarray) -> np.ndarray:
        h = self.multiple * difference_step(self._scale(step, x), self.eps)
        images = []
        for v in frame.T:
            longest = float(np.max(np.abs(v), initial=0.0)) or 1.0
            d = h / longest
            by = like(d * v.reshape(x.shape), x)
            ahead, behind = _checked_state(step(x + by), x), _checked_state(step(x - by), x)
            right, left = (ahead - new) / d, (new - behind) / d
            sides = max(float(np.linalg.norm(right)), float(np.linalg.norm(left)))
            self.stretch = max(self.stretch, sides)
            kink = np.linalg.norm(right - left) > 1e-2 * sides and sides > 1e-2 * self.stretch
            images.append(right if kink else (ahead - behind) / (2 * d))
        return np.stack(images) if images else np.zeros((0, x.size))

    def longer(self) -> "Tangent":
        """Return the same with steps twice as long: what they change is an estimate of the error.

        >>> same = Tangent(np.ones(2), None)
        >>> same.longer().multiple, same.multiple
        (2.0, 1.0)
        """
        tangent = copy(self)
        tangent.multiple = 2 * self.multiple
        return tangent

    def _scale(self, step: StepMap, x: np.ndarray) -> float:
        """Return the scale of the map about x, measured again where the state is far from where it was measured."""
        scale = float(np.max(np.abs(x), initial=0.0))
        usual = self.size == self.at
        # A step from where the state once was would reach across the set that it has come down to.
        if not self.size or scale < _FAR * self.at or (not usual and self.at < _FAR * scale):
            self.size, self.at = difference_size(step, x), scale
        elif usual and scale > self.at:  # the size of the state is the scale, and that grows
            self.size = self.at = scale
        return self.size


def as_state(x: Any) -> Array:
    """Return a finite, non-empty point of the state space: an array as it is, a number or list as float64."""
    x = x if is_array(x) else require_real("the state", x)
    xp = namespace(x)
    if "complex" in str(x.dtype):
        raise InputTypeError(f"the state must be real, got {x.dtype}: stack its real and imaginary parts")
    if 0 in tuple(x.shape):
        raise InputError(f"the state must hold at least one number, got shape {tuple(x.shape)}")
    require_finite("the state", x)
    return x.detach() if xp is not np else x


def require_callable(name: str, value: Any, makes: str) -> None:
    """Raise InputTypeError unless `value` is a function; the message says how to make one from a Loop.

    >>> require_callable("step", 0.5, "layer_map(loop, x)[0] is one")
    Traceback (most recent call last):
    ...
    ctrlattn.InputTypeError: step must be a function, got float: layer_map(loop, x)[0] is one
    """
    if not callable(value):
        raise InputTypeError(f"{name} must be a function, got {type(value).__name__}: {makes}")


def difference_step(size: float, eps: float) -> float:
    """Return eps^(1/3) |x|, at which curvature and rounding disturb a central difference about alike.

    >>> difference_step(2.0, 1e-15).__round__(9)
    2e-05
    """
    return eps ** (1 / 3) * size


def length(x: Array) -> int:
    """Return the number of elements of a state."""
    return int(np.prod(tuple(x.shape), dtype=int))


def dense_jacobian(step: StepMap, x: Array, jvp: Jvp | None = None) -> tuple[Array, np.ndarray]:
    """Return (f(x), J(x)): the value and the whole Jacobian, (N, N) float64.

    >>> dense_jacobian(lambda x: x * x, np.array([1.0, 3.0]))[1].round(6).tolist()
    [[2.0, 0.0], [0.0, 6.0]]
    """
    return Tangent(x, jvp).advance(step, x, np.eye(length(x)))


def _checked_state(new: Any, x: Array) -> Array:
    new = np.asarray(new) if isinstance(new, np.generic) else new  # numpy turns an array of no dimension into this
    if not is_array(new) or is_torch(new) != is_torch(x) or tuple(new.shape) != tuple(x.shape):
        words = f"{type(new).__name__} of shape {tuple(getattr(new, 'shape', ()))}"
        raise InputError(
            f"the step must return what it takes, {type(x).__name__} of shape {tuple(x.shape)}: got {words}"
        )
    return new


def _images_by_caller(jvp: Jvp, x: Array, frame: np.ndarray) -> Array:
    """Differentiate by the caller's derivative: jvp(x, directions), both shaped (k, *x.shape)."""
    directions = like(frame.T.reshape(-1, *x.shape), x)
    images = jvp(x, directions)
    if tuple(images.shape) != tuple(directions.shape):
        raise InputError(
            f"jvp(x, directions) must return J(x) times each direction, {tuple(directions.shape)}: "
            f"got {tuple(images.shape)}"
        )
    return images


def _forward(step: StepMap, x: Any, frame: np.ndarray) -> tuple[Any, Any]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    directions = like(frame.T.copy(), x).reshape(-1, *x.shape)

    def pushed(v: Any) -> tuple[Any, Any]:
        pair: Any = torch.func.jvp(lambda t: _checked_state(step(t), x), (x,), (v,))
        return pair[0], pair[1]

    # The fused attention kernel of the CPU has no forward derivative; the plain formula (MATH) has one.
    prepare_forward()
    mapped: Any = torch.func.vmap(pushed, out_dims=(None, 0))  # type: ignore[arg-type]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        try:
            new, images = mapped(directions)
        except RuntimeError:  # a step that cannot be mapped over is differentiated direction by direction
            pairs = [pushed(v) for v in directions]
            new, images = pairs[0][0], torch.stack([pair[1] for pair in pairs])
    return new.detach(), images.detach()
