"""y_i = sum_j w_ij x_j, w_ij ~ exp(-|x_i - x_j|^2 / h^2): the bilateral filter as a predictor."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrlattn.arrays import (
    Array,
    attend,
    attention_weights,
    causal_bias,
    is_torch,
    like,
    namespace,
    require_positive,
    require_tokens,
    token_sum,
)
from ctrlattn.errors import InputError, InputTypeError, require_whole
from ctrlattn.values import Value


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
        object.__setattr__(self, "bandwidth", require_positive("bandwidth", self.bandwidth))
        if self.spatial_bandwidth is not None:
            spatial = require_positive("spatial_bandwidth", self.spatial_bandwidth)
            object.__setattr__(self, "spatial_bandwidth", spatial)
        if self.radius is not None:
            _require_radius(self.radius)
        if self.grid is not None:
            _require_grid(self.grid)

    def __call__(self, x: Array) -> Array:
        z = self._centred(x)
        return attend(z, z, x, scale=self._scale, bias=self._bias(z))

    def weights(self, x: Array) -> Array:
        """The filter's matrix as attention matrices of one head, (..., n, d) -> (..., 1, n, n)."""
        z = self._centred(x)
        return attention_weights(z, z, scale=self._scale, bias=self._bias(z))[..., None, :, :]

    def last(self, x: Array) -> Array:
        """The filtered last token."""
        z = self._centred(x)
        return attend(z[..., -1:, :], z, x, scale=self._scale, bias=self._bias(z, queries=slice(-1, None)))

    @staticmethod
    def _centred(x: Array) -> Array:
        """x minus the mean token, which changes no distance and keeps 2 x.x' - |x'|^2 from cancelling.

        The weights do not depend on the mean, so no gradient passes through it: a causal filter stays exactly causal.
        """
        require_tokens(x)
        return x - token_sum(x.detach() if is_torch(x) else x) / x.shape[-2]

    @property
    def _scale(self) -> float:
        return 2.0 / self.bandwidth**2

    def _bias(self, x: Array, queries: slice = slice(None)) -> Array:
        """-|x_j|^2 / h^2 and everything that depends on the positions alone, (..., queries, n)."""
        xp = namespace(x)
        n = x.shape[-2]
        bias = -xp.sum(x * x, -1)[..., None, :] / self.bandwidth**2
        if self.causal:
            bias = bias + causal_bias(n, x)[queries]
        for position in self._positions(n):
            p = like(position, x)
            distance = xp.abs(p[queries, None] - p[None, :])
            if self.spatial_bandwidth is not None:
                bias = bias - distance * distance / self.spatial_bandwidth**2
            if self.radius is not None:
                bias = xp.where(distance <= self.radius, bias, -float("inf"))
        return bias

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
    """A number of at least 0; infinity is a window that hides nothing."""
    if not isinstance(radius, int | float | np.number):
        raise InputTypeError(f"radius must be a number, got {radius!r}")
    if not radius >= 0:
        raise InputError(f"radius must not be negative, got {radius}")


def _require_grid(grid: Any) -> None:
    if not isinstance(grid, tuple | list) or len(grid) != 2:
        raise InputError(f"grid must be (height, width) in whole pixels, got {grid!r}")
    for name, side in zip(("height", "width"), grid, strict=True):
        require_whole(f"{name} of the grid", side)
