"""G, b = argmin sum_t w_t |F(u_t) - G u_t - b|^2 + penalty |G|^2: ridge fit of the gain for a dropped sublayer F.

u is the normed stream that the sublayer reads. Gains are fitted layer by layer, in the network with all earlier gains
in place, and without gradients. The weight of token t is w_t = 1 / |x_t|^2 for the stream x, since the norms of the
network make relative errors of the stream matter. Otherwise a token of massive norm would count for thousands.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Kind, Sublayer
from ctrlattn.checkpoints.network.inputs import Windows
from ctrlattn.checkpoints.network.stand_ins import Beside, Gain, MemoryGain
from ctrlattn.checkpoints.network.structure import DropStructure, Stand, place, stand_in
from ctrlattn.checkpoints.reduce.fit_memory import fit_memory, memory_of
from ctrlattn.checkpoints.reduce.layerwise import Flow, weights_of
from ctrlattn.errors import InputError, require_flag
from ctrlattn.progress import Progress


@dataclass(frozen=True, eq=False)
class Calibration:
    """Text and settings with which gains are fitted.

    Parameters
    ----------
    ids : (windows, length) token ids, windows of different lengths, or a BatchEncoding
        Some thousand tokens; pads do not count. A gain has as many rows as the stream has features, and needs several
        times as many tokens.
    penalty : float, optional
        Ridge penalty as a share of the mean square of a feature of u; 0.1 by default, 1 with memory. With a larger
        penalty the static part explains less and the memory more, and the fit holds better for text of another kind.
    rank : int, optional
        Rank of the gain, full by default. Its two factors have 2 d rank numbers instead of d^2.
    memory : bool
        Whether the gain of an attention layer also reads fading averages of the layer's values, see `MemoryGain`. In
        generation such a layer keeps a state of constant size instead of keys and values.
    progress : callable (step, done, total), optional
        It is called after every layer.

    Examples
    --------
    >>> Calibration([[1, 2, 3]], penalty=0.03).rank is None
    True
    """

    ids: Any
    penalty: float | None = None
    rank: int | None = None
    memory: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", require_flag("memory", self.memory))
        if not (np.isfinite(self.ridge) and self.ridge > 0):
            raise InputError(f"the penalty must be positive, got {self.penalty}")
        if self.rank is not None and self.rank < 1:
            raise InputError(f"the rank of a gain must be at least 1, got {self.rank}")

    @staticmethod
    def of(value: Any) -> "Calibration":
        """Make a Calibration of token ids, with default settings; a Calibration stays as it is."""
        return value if isinstance(value, Calibration) else Calibration(value)

    @property
    def ridge(self) -> float:
        """The penalty, or its default."""
        usual = 1.0 if self.memory else 0.1
        return usual if self.penalty is None else self.penalty

    def rank_in(self, width: int) -> int:
        """Return the rank of a gain in a network of this width."""
        return width if self.rank is None else min(self.rank, width)


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Weighted sums from which a gain is fitted; the sums of two texts add up to those of both.

    Attributes
    ----------
    weight : float
        sum_t w
    u, y : (d,)
        sum_t w u and sum_t w y
    uu, uy : (d, d)
        sum_t w u u^T and sum_t w u y^T
    """

    weight: float
    u: torch.Tensor
    y: torch.Tensor
    uu: torch.Tensor
    uy: torch.Tensor

    @staticmethod
    def of(u: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> "SecondMoments":
        """Return the sums over inputs u, outputs y and streams x, (..., n, d) each."""
        # Autocast is off here: every fit rests on these sums.
        with torch.autocast(u.device.type, enabled=False):
            dtype = torch.promote_types(x.dtype, torch.float32)
            u, y, x = (signal.flatten(0, -2).to(dtype) for signal in (u, y, x))
            w = weights_of(x)
            wu = w * u
            sums = (wu.sum(0), (w * y).sum(0), wu.T @ u, wu.T @ y)
            return SecondMoments(float(w.sum(dtype=torch.float64)), *(total.double() for total in sums))

    def __add__(self, other: "SecondMoments") -> "SecondMoments":
        mine, theirs = self._parts(), other._parts()
        return SecondMoments(self.weight + other.weight, *(a + b for a, b in zip(mine, theirs, strict=True)))

    def _parts(self) -> tuple[torch.Tensor, ...]:
        return self.u, self.y, self.uu, self.uy

    def solve(self, penalty: float, rank: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (G, b), (d, d) and (d,): the ridge solution, of reduced rank where a rank is given.

        References
        ----------
        Izenman, Reduced-rank regression for the multivariate linear model, J. Multivariate Anal. 5 (1975) 248; with a
        ridge penalty: Mukherjee and Zhu, Statistical Analysis and Data Mining 4 (2011) 612.
        """
        mean_u, mean_y = self.u / self.weight, self.y / self.weight
        uu = self.uu / self.weight - mean_u[:, None] * mean_u
        uy = self.uy / self.weight - mean_u[:, None] * mean_y
        ridge = penalty * uu.diagonal().mean().clamp_min(torch.finfo(uu.dtype).tiny)
        root = torch.linalg.cholesky(uu + ridge * torch.eye(len(uu), dtype=uu.dtype, device=uu.device))
        gain = torch.cholesky_solve(uy, root)
        if rank is not None and rank < len(uu):
            # These are the directions of y that the ridge solution explains best.
            best = torch.linalg.svd(root.T @ gain, full_matrices=False).Vh[:rank]
            gain = gain @ best.T @ best
        return gain.T, mean_y - gain.T @ mean_u


def settings_of(checkpoint: Checkpoint, kind: Kind, calibration: Calibration | None) -> Stand:
    """Return the settings of what replaces a sublayer of this kind, as the network's structure records them."""
    if calibration is None:
        return None
    rank = calibration.rank_in(checkpoint.width)
    return {"rank": rank, **memory_of(checkpoint)} if calibration.memory and kind == "attention" else rank


def fit_gains(
    checkpoint: Checkpoint,
    layers: dict[Kind, tuple[int, ...]],
    windows: Windows,
    calibration: Calibration,
    structure: DropStructure,
) -> None:
    """Replace sublayers of a network by gains, in place; each is fitted with all earlier gains in the network."""
    family, model = checkpoint.family, checkpoint.model
    targets = [s for s in checkpoint.sublayers() if s.layer in layers.get(s.kind, ())]
    first, last = targets[0].layer, targets[-1].layer
    flow = Flow.start(family, model, windows, first)
    for layer in range(first, last + 1):
        for sublayer in targets:
            if sublayer.layer == layer:
                settings = structure[sublayer.kind][layer]
                place(family, model, sublayer, fitted(checkpoint, sublayer, flow, calibration, settings))
        if layer < last:
            flow = flow.after(layer)
        if calibration.progress is not None:
            calibration.progress("fit", layer + 1 - first, last + 1 - first)


def fitted(
    checkpoint: Checkpoint, sublayer: Sublayer, flow: Flow, calibration: Calibration, settings: Stand = None
) -> torch.nn.Module:
    """Return the gain for one sublayer of the layer that `flow` has reached; the network is left as it is.

    `settings` are those of its entry in the network's structure; None: those that the calibration gives.
    """
    settings = settings_of(checkpoint, sublayer.kind, calibration) if settings is None else settings
    stand = stand_in(sublayer, settings)
    gain = stand.stand if isinstance(stand, Beside) else stand
    if not isinstance(gain, Gain):  # it reads no stream
        return stand
    signals: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = (every := flow.signals(sublayer))
    if every[0][0].shape[-1] != checkpoint.width:
        raise InputError(
            f"the {sublayer.kind} of layer {sublayer.layer} reads no stream of {checkpoint.width} features"
        )
    if isinstance(gain, MemoryGain):
        fit_memory(gain, checkpoint, sublayer, flow, every)
        # The static part is fitted to what the memory leaves.
        signals = ((u, y - gain.remembered(gain.terms(u)[0]).to(y), x) for u, y, x in every)
    moments = reduce(add, (SecondMoments.of(*triple) for triple in signals))
    assign(gain, *moments.solve(calibration.ridge, calibration.rank))
    return stand


def assign(gain: Gain, matrix: torch.Tensor, bias: torch.Tensor) -> None:
    """Write (G, b) into a gain, as two factors where its rank is reduced."""
    if not (torch.isfinite(matrix).all() and torch.isfinite(bias).all()):
        raise InputError("the calibration text gives a gain that is not finite")
    with torch.no_grad():
        gain.out.bias.copy_(bias)
        if isinstance(gain.into, torch.nn.Identity):
            gain.out.weight.copy_(matrix)
            return
        left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
        root = sizes[: len(gain.into.weight)].sqrt()
        gain.into.weight.copy_(root[:, None] * right[: len(root)])
        gain.out.weight.copy_(left[:, : len(root)] * root)
