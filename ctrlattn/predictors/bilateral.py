"""y_i = sum_j w_ij x_j, w_ij ~ exp(-|x_i - x_j|^2 / h^2): the bilateral filter as a predictor.

An image has many tokens, of which each sees few. Blocks of tokens are therefore filtered one after the other, each with
the tokens that its window reaches: memory grows with n times the window and not with n^2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ctrlattn.arrays import (
    Array,
    attend,
    attention_weights,
    is_torch,
    like,
    namespace,
    require_positive,
    require_tokens,
    token_sum,
)
from ctrlattn.errors import InputError, InputTypeError, require_flag, require_whole
from ctrlattn.values import Value

_WEIGHTS = 1 << 22  # weights that a block has at most, over all signals of a batch


@dataclass(frozen=True, eq=False, repr=False)
class BilateralFilter(Value):
    """y_i = sum_j w_ij x_j, w_ij ~ exp(-|x_i - x_j|^2 / h^2 - |p_i - p_j|^2 / h_s^2): attention with tied q, k.

    softmax_j(-|x_i - x_j|^2 / h^2) = softmax_j((2 x_i.x_j - |x_j|^2) / h^2): dot-product attention whose keys
    are the queries, with a bias by key that vanishes when all norms are equal.

    Parameters
    ----------
    bandwidth : float
        h, in units of the signal (range kernel). A Gaussian of standard deviation s has h = sqrt(2) s.
    causal : bool
        A token sees only tokens up to itself.
    radius : float, optional
        Positions farther than this along any axis are not seen: they lie outside the window.
    spatial_bandwidth : float, optional
        h_s, in units of the position (spatial kernel); with None there is no spatial kernel.
    grid : (height, width), optional
        Tokens are the pixels of an image in row-major order; with None they lie at 0, 1, ..., n - 1.

    References
    ----------
    Tomasi and Manduchi, Bilateral filtering for gray and color images, ICCV 1998, section 2; Buades, Coll and
    Morel, A non-local algorithm for image denoising, CVPR 2005.

    Examples
    --------
    >>> import numpy as np
    >>> step = np.array([[0.0], [0.2], [5.0], [5.2]])
    >>> BilateralFilter(1.0)(step).round(2).ravel().tolist()
    [0.1, 0.1, 5.1, 5.1]
    """

    bandwidth: float
    causal: bool = False
    radius: float | None = None
    spatial_bandwidth: float | None = None
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "causal", require_flag("causal", self.causal))
        object.__setattr__(self, "bandwidth", require_positive("bandwidth", self.bandwidth))
        if self.spatial_bandwidth is not None:
            spatial = require_positive("spatial_bandwidth", self.spatial_bandwidth)
            object.__setattr__(self, "spatial_bandwidth", spatial)
        if self.radius is not None:
            _require_radius(self.radius)
        if self.grid is not None:
            _require_grid(self.grid)

    def __call__(self, x: Array) -> Array:
        z = self._centre(x)
        parts = [
            attend(z[..., queries, :], z[..., keys, :], x[..., keys, :], scale=self._scale,
                   bias=self._bias(z, queries, keys))
            for queries, keys in self._blocks(z)
        ]  # fmt: skip
        return parts[0] if len(parts) == 1 else namespace(x).concatenate(parts, -2)

    def weights(self, x: Array) -> Array:
        """Return the filter's matrix as attention matrices of one head, (..., n, d) -> (..., 1, n, n)."""
        z = self._centre(x)
        return attention_weights(z, z, scale=self._scale, bias=self._bias(z))[..., None, :, :]

    def last(self, x: Array) -> Array:
        """Return the filtered last token."""
        z = self._centre(x)
        return attend(z[..., -1:, :], z, x, scale=self._scale, bias=self._bias(z, queries=slice(-1, None)))

    @staticmethod
    def _centre(x: Array) -> Array:
        """Return x minus the mean token, which changes no distance and keeps 2 x.x' - |x'|^2 from cancelling.

        The weights do not depend on the mean, so no gradient passes through it: a causal filter stays exactly causal.
        """
        require_tokens(x)
        return x - token_sum(x.detach() if is_torch(x) else x) / x.shape[-2]

    @property
    def _scale(self) -> float:
        return 2.0 / self.bandwidth**2

    def _bias(self, x: Array, queries: slice = slice(None), keys: slice = slice(None)) -> Array:
        """Return -|x_j|^2 / h^2 and everything that depends on the positions alone, (..., queries, keys)."""
        xp = namespace(x)
        n, tokens = x.shape[-2], x[..., keys, :]
        bias = -xp.sum(tokens * tokens, -1)[..., None, :] / self.bandwidth**2
        if self.causal:
            i = like(np.arange(n), x)
            bias = xp.where(i[None, keys] <= i[queries, None], bias, -float("inf"))
        for position in self._positions(n):
            p = like(position, x)
            distance = xp.abs(p[queries, None] - p[None, keys])
            if self.spatial_bandwidth is not None:
                bias = bias - distance * distance / self.spatial_bandwidth**2
            if self.radius is not None:
                bias = xp.where(distance <= self.radius, bias, -float("inf"))
        return bias

    def _blocks(self, x: Array) -> Iterator[tuple[slice, slice]]:
        """Yield blocks of tokens, and for each the tokens that it may see; one block where all weights fit into it."""
        n, most = x.shape[-2], max(_WEIGHTS // max(prod(x.shape[:-2]), 1), 1)
        if n * n <= most:
            yield slice(None), slice(None)
            return
        width = 1 if self.grid is None else self.grid[1]  # tokens by which one step of the first position moves
        steps = n if self.radius is None or self.radius >= n else int(self.radius)
        window = min((2 * steps + 1) * width, n)
        # As many tokens as a window has make no key needless for more than half of them.
        rows = max(min(window, most // (2 * window)), 1) if window < n else max(most // n, 1)
        for start in range(0, n, rows):
            end = min(start + rows, n)
            first, last = (start // width - steps) * width, ((end - 1) // width + steps + 1) * width
            yield slice(start, end), slice(max(first, 0), min(last, end if self.causal else n))

    def _positions(self, n: int) -> tuple[np.ndarray, ...]:
        i = np.arange(n)
        if self.grid is None:
            return (i,)
        height, width = self.grid
        # A causal filter may see a prefix of the image in row-major order: the sequential pass does.
        if n > height * width or (n < height * width and not self.causal):
            raise InputError(f"grid {self.grid} has {height * width} pixels, the signal has {n} tokens")
        return i // width, i % width


def _require_radius(radius: Any) -> None:
    """Raise InputError unless the radius is a number of at least 0; infinity is a window that hides nothing."""
    if not isinstance(radius, int | float | np.number):
        raise InputTypeError(f"radius must be a number, got {radius!r}")
    if not radius >= 0:
        raise InputError(f"radius must not be negative, got {radius}")


def _require_grid(grid: Any) -> None:
    if not isinstance(grid, tuple | list) or len(grid) != 2:
        raise InputError(f"grid must be (height, width) in whole pixels, got {grid!r}")
    for name, side in zip(("height", "width"), grid, strict=True):
        require_whole(f"{name} of the grid", side)
