"""G, b = argmin sum_t w_t |F(u_t) - G u_t - b|^2 + penalty |G|^2: the static gain that stands in for a sublayer F.

u is the normed stream that the sublayer reads in the network as it is changed so far, layer after layer; no gradients.
w_t = 1 / |x_t|^2 for the stream x: the norms of the network make relative errors of the stream matter, and a token of
massive norm would otherwise count for thousands.
"""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np
import torch

from ctrlattn.checkpoints.measure.flow import Flow, weights_of
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Kind, Sublayer
from ctrlattn.checkpoints.network.stand_ins import Gain, MemoryGain
from ctrlattn.checkpoints.network.structure import Stand, place, stand_in
from ctrlattn.checkpoints.reduce.fit_memory import fit_memory, memory_of
from ctrlattn.errors import InputError
from ctrlattn.progress import Progress


@dataclass(frozen=True, eq=False)
class Calibration:
    """Text and settings for fitting static gains.

    Parameters
    ----------
    ids : (windows, length) token ids
        Some thousand tokens: a gain has as many rows as the stream has features, and needs several times as many.
    penalty : float, optional
        Ridge penalty as a share of the mean square of a feature of u. None: 0.1, with memory 1: the more, the less
        the static part takes from the memory, the closer the fit is to what holds for text of another kind.
    rank : int, optional
        Of the gain: its two factors take 2 d rank numbers instead of d^2. None: full.
    memory : bool
        Whether the gain of an attention layer also reads fading averages of the layer's values, see `MemoryGain`: in
        generation the layer then keeps a state of constant size instead of keys and values.
    progress : callable (step, done, total), optional
        Called after every layer.

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
        if not (np.isfinite(self.ridge) and self.ridge > 0):
            raise InputError(f"the penalty must be positive, got {self.penalty}")
        if self.rank is not None and self.rank < 1:
            raise InputError(f"the rank of a gain must be at least 1, got {self.rank}")

    @staticmethod
    def of(value: Any) -> "Calibration":
        """A calibration as it is, token ids with the settings that are the default."""
        return value if isinstance(value, Calibration) else Calibration(value)

    @property
    def ridge(self) -> float:
        """The penalty, or the usual one."""
        usual = 1.0 if self.memory else 0.1
        return usual if self.penalty is None else self.penalty

    def rank_in(self, width: int) -> int:
        """The rank in a network of this width."""
        return width if self.rank is None else min(self.rank, width)


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Weighted sums from which a gain follows; those of two parts of a text add up to those of the whole.

    Attributes
    ----------
    weight : float
        sum of w
    u, y : (d,)
        sum of w u and w y
    uu, uy : (d, d)
        sum of w u u^T and w u y^T
    """

    weight: float
    u: torch.Tensor
    y: torch.Tensor
    uu: torch.Tensor
    uy: torch.Tensor

    @staticmethod
    def of(u: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> "SecondMoments":
        """Of inputs u, outputs y and streams x, (..., n, d) each."""
        # Outside of any autocast: these sums are what everything else rests on.
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
        """(G, b), (d, d) and (d,): the ridge solution, of reduced rank where one is given.

        References
        ----------
        Izenman, Reduced-rank regression for the multivariate linear model, 1975; with ridge: Mukherjee and Zhu, 2011.
        """
        mean_u, mean_y = self.u / self.weight, self.y / self.weight
        uu = self.uu / self.weight - mean_u[:, None] * mean_u
        uy = self.uy / self.weight - mean_u[:, None] * mean_y
        ridge = penalty * uu.diagonal().mean().clamp_min(torch.finfo(uu.dtype).tiny)
        root = torch.linalg.cholesky(uu + ridge * torch.eye(len(uu), dtype=uu.dtype, device=uu.device))
        gain = torch.cholesky_solve(uy, root)
        if rank is not None and rank < len(uu):
            # The directions of y that the ridge solution explains best.
            best = torch.linalg.svd(root.T @ gain, full_matrices=False).Vh[:rank]
            gain = gain @ best.T @ best
        return gain.T, mean_y - gain.T @ mean_u


def settings_of(checkpoint: Checkpoint, kind: Kind, calibration: Calibration | None) -> Stand:
    """What stands for a sublayer of this kind, as its structure will say."""
    if calibration is None:
        return None
    rank = calibration.rank_in(checkpoint.width)
    return {"rank": rank, **memory_of(checkpoint)} if calibration.memory and kind == "attention" else rank


def fit_gains(
    checkpoint: Checkpoint, gone: dict[Kind, tuple[int, ...]], windows: torch.Tensor, calibration: Calibration
) -> None:
    """Replace sublayers of a network by gains, in place, layer after layer on the network as it has become by then."""
    family, model = checkpoint.family, checkpoint.model
    wanted = [s for s in checkpoint.sublayers() if s.layer in gone[s.kind]]
    first, last = wanted[0].layer, wanted[-1].layer
    flow = Flow.start(family, model, windows, first)
    for layer in range(first, last + 1):
        for sublayer in wanted:
            if sublayer.layer == layer:
                place(family, model, sublayer, fitted(checkpoint, sublayer, flow, calibration))
        if layer < last:
            flow = flow.after(layer)
        if calibration.progress is not None:
            calibration.progress("fit", layer + 1 - first, last + 1 - first)


def fitted(checkpoint: Checkpoint, sublayer: Sublayer, flow: Flow, calibration: Calibration) -> Gain:
    """The gain for one sublayer of the layer in front of which the text is; the network is left as it is."""
    gain = cast(Gain, stand_in(sublayer, settings_of(checkpoint, sublayer.kind, calibration)))
    signals = flow.signals(sublayer)
    if isinstance(gain, MemoryGain):
        fit_memory(gain, checkpoint, sublayer, flow, signals)
        # What is left is for the static part.
        signals = [(u, y - gain.remembered(gain.terms(u)[0]).to(y), x) for u, y, x in signals]
    moments = reduce(add, (SecondMoments.of(*triple) for triple in signals))
    assign(gain, *moments.solve(calibration.ridge, calibration.rank))
    return gain


def assign(gain: Gain, matrix: torch.Tensor, bias: torch.Tensor) -> None:
    """Write (G, b) into a gain, in factors where it has them."""
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
