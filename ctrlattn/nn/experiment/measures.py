"""cos(x_i, x_j) between tokens, cos(A_l, A_{l+1}) between layers: signals of a trained network, measured over depth.

The tokens are those of the stream after each block, before the final norm. The share of u that an actuator clips is
measured here as well.
"""

from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch

from ctrlattn.frequency import mean_cosine, participation_rank
from ctrlattn.nn.modules.attention import control_values
from ctrlattn.nn.modules.blocks import Block
from ctrlattn.nn.modules.network import Network


def attention_matrices(block: Block, x: torch.Tensor) -> torch.Tensor:
    """Return the attention matrices of a block's heads on its input x (..., n, d), (..., heads, n, n).

    They are the output of its attention when the values are the identity, so that no second formula is needed.

    Examples
    --------
    >>> a = attention_matrices(Block(4, 2, 8, causal=True), torch.ones(1, 3, 4))
    >>> a.shape, a[0, 0, 1].tolist()
    (torch.Size([1, 2, 3, 3]), [0.5, 0.5, 0.0])
    """
    attention, n = block.attn, x.shape[-2]
    q, k, _ = attention.project(block.norm1(x) if block.placement == "pre" else x)
    q, k = (t.transpose(-2, -3) for t in (q, attention.repeat(k)))
    identity = torch.eye(n, dtype=x.dtype, device=x.device).expand(*q.shape[:-1], n)
    return attention.mix(q, k, identity, mask=None, is_causal=attention.causal)


def similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the cosine between two matrices as vectors, (..., n, n) -> (...).

    >>> similarity(torch.eye(2), torch.ones(2, 2)).item()
    0.7071067690849304
    """
    return torch.nn.functional.cosine_similarity(a.flatten(-2), b.flatten(-2), -1)


@torch.no_grad()
def over_depth(model: Network, inputs: torch.Tensor) -> dict[str, Any]:
    """Measure similarity of tokens and of attention, participation rank, and their slopes over depth; average a batch.

    Parameters
    ----------
    model : ControlledViT or ControlledLM
    inputs : as the network reads them

    Returns
    -------
    dict
        token_similarity and rank are lists (depth + 1,). attention_similarity (depth - 1,) compares a layer with the
        next. `_final` is the last value of each, and `_slope` its least-squares slope per layer (nan for fewer than two
        values).

    References
    ----------
    The similarity of attention matrices of consecutive layers is the one that PIDformer, arXiv 2402.15989, draws.

    Examples
    --------
    >>> from ctrlattn.nn.modules.vit import ControlledViT
    >>> model = ControlledViT(image=4, patch=2, channels=1, classes=2, dim=4, depth=3, heads=2)
    >>> measured = over_depth(model, torch.zeros(2, 1, 4, 4))
    >>> len(measured["token_similarity"]), len(measured["attention_similarity"])
    (4, 2)
    """
    was_training = model.training
    model.eval()
    states = list(cast(Any, model).states(inputs))
    matrices = [attention_matrices(cast(Block, b), x) for b, x in zip(model.blocks, states[:-1], strict=True)]
    model.train(was_training)
    curves = {
        "token_similarity": [float(mean_cosine(x).mean()) for x in states],
        "rank": [float(participation_rank(x).mean()) for x in states],
        "attention_similarity": [float(similarity(a, b).mean()) for a, b in pairwise(matrices)],
    }
    finals = {f"{name}_final": values[-1] if values else float("nan") for name, values in curves.items()}
    return {**curves, **finals, **{f"{name}_slope": slope(values) for name, values in curves.items()}}


def slope(values: list[float]) -> float:
    """Return the least-squares slope of values at 0, 1, 2, ...; nan for fewer than two or where one is not finite.

    >>> round(slope([1.0, 3.0, 5.0]), 12)
    2.0
    """
    if len(values) < 2 or not np.all(np.isfinite(values)):
        return float("nan")
    k = np.arange(len(values)) - (len(values) - 1) / 2
    return float(k @ np.asarray(values) / (k @ k))


@torch.no_grad()
def clipped(model: Network, inputs: torch.Tensor) -> list[float]:
    """Return the share of elements of u at the limit of the actuator, layer by layer; 0 where no controller acts.

    Parameters
    ----------
    model : ControlledViT or ControlledLM
    inputs : as the network reads them

    Examples
    --------
    >>> from ctrlattn import PID
    >>> from ctrlattn.nn.modules.gains import Actuator
    >>> from ctrlattn.nn.modules.vit import ControlledViT
    >>> sizes = {"image": 4, "patch": 2, "channels": 1, "classes": 2, "dim": 4, "depth": 3, "heads": 2}
    >>> clipped(ControlledViT(**sizes, controller=Actuator(PID(0.5), limit=1e-9)), torch.zeros(2, 1, 4, 4))
    [0.0, 1.0, 1.0]
    """
    was_training = model.training
    model.eval()
    shares, depth_state = [], None
    for layer, x in zip(model.blocks, cast(Any, model).states(inputs), strict=False):  # no block reads the last state
        block = cast(Block, layer)
        attention = block.attn
        _, _, v = attention.project(block.norm1(x) if block.placement == "pre" else x)
        u, depth_state = control_values(attention.tracking, attention.repeat(v), depth_state)
        limit = getattr(attention.controller, "limit", None)
        shares.append(0.0 if u is None or limit is None else float((u.abs() >= limit).double().mean()))
    model.train(was_training)
    return shares
