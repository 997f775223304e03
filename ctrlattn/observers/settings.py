"""How a dictionary is trained, judged before torch is imported."""

import math
from dataclasses import dataclass

from ctrlattn.capacity import require_memory
from ctrlattn.errors import InputError, require_known


@dataclass(frozen=True)
class Settings:
    """How a dictionary is trained.

    Parameters
    ----------
    features : int
    k : int or None
        TopK with k, or ReLU with `penalty` where k is None.
    blocks : int
        Number of blocks of the source.
    passes : int
        Number of passes through each block.
    batch : int
        Examples per step.
    rate : float
        Learning rate of Adam, constant at first and linear to 0 over the last fifth.
    penalty : float
        Weight of the mean L1 norm of z, for ReLU alone.
    dead_after : int
        A feature that is absent from so many examples in a row counts as dead and is revived.
    seed : int
        Seed of the initial directions and of the order of the examples.
    start : "fitted" or "unit"
        Length of the encoder's first rows: the one whose TopK codes rebuild a sample best, or 1. From "fitted" a
        share of the variance is explained in two thirds of the steps.

    Raises
    ------
    InputError
        A number is out of range, or the features of one batch do not fit into memory.

    Examples
    --------
    >>> Settings(features=16, k=2).batch
    512
    """

    features: int
    k: int | None = 32
    blocks: int = 8
    passes: int = 2
    batch: int = 512
    rate: float = 2e-3
    penalty: float = 0.0
    dead_after: int = 20_000
    seed: int = 0
    start: str = "fitted"

    def __post_init__(self) -> None:
        require_known("start", self.start, ("fitted", "unit"))
        for name in ("features", "blocks", "passes", "batch", "dead_after"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.k is not None and self.k > self.features:
            raise InputError(f"k must be at most the number of features, {self.features}, got {self.k}")
        if not 0 < self.rate < math.inf:
            raise InputError(f"rate must be positive and finite, got {self.rate}")
        if not 0 <= self.penalty < math.inf:
            raise InputError(f"penalty must be finite and not negative, got {self.penalty}")
        if self.k is not None and self.penalty:
            raise InputError(f"penalty is for ReLU (k=None): TopK has at most {self.k} features without one")
        require_memory(
            4 * self.batch * self.features, f"a batch of {self.batch} examples with {self.features} features"
        )
