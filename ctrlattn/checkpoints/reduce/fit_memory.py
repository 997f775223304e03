"""c = argmin sum_t w_t |y_t - mean - sum_hk c_hk W_O^h (a_hk,t - mean)|^2: fit of the memories that replace attention.

W_V and W_O are those of the layer. A few numbers per head are fitted, and these hold for unseen text as well. The
salience of a token is the logarithm of the attention that later tokens pay it, relative to what they pay other tokens.
"""

from typing import TYPE_CHECKING, Any

import torch

from ctrlattn.checkpoints.measure.weights import value_heads, value_output
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer, at, leads
from ctrlattn.checkpoints.network.stand_ins import LAGS, RATES, MemoryGain
from ctrlattn.checkpoints.reduce.layerwise import Flow, weights_of
from ctrlattn.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Signals = Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]

_RIDGE = 1e-3  # ridge penalty of the mix c, relative to each memory's mean square: memories resemble each other
_SALIENCE = 0.1  # ridge penalty of the salience, relative to the mean square of a feature of u
_ROWS = 256  # tokens in one product of all memories of all heads
_BATCHES = 2  # batches of text for the mix: few numbers are fitted, and W_O of every memory is costly
_SILENT = 1e-30  # least attention whose logarithm is taken


def memory_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the settings of gains with memory in a network.

    Raises
    ------
    InputError
        A norm stands behind the attention, no attention is left, or its maps W_V and W_O are not known.
    """
    if not (checkpoint.family.value and checkpoint.family.output):
        raise InputError(
            f"the value and output maps of {checkpoint.family.name!r} are not known, and a memory is made of them: "
            "compensate without memory"
        )
    sublayer = checkpoint.sublayers("attention")[0]
    if not checkpoint.causal:
        raise InputError("a memory holds what was said before: tokens of an encoder also see those behind them")
    if sublayer.out_path not in (sublayer.path, checkpoint.family.output):
        raise InputError(
            f"family {checkpoint.family.name!r} has a norm behind its attention: a memory of values cannot stand for "
            "what that norm gives; compensate without memory"
        )
    first = next(
        s for s in checkpoint.sublayers("attention") if leads(checkpoint.layers[s.layer], checkpoint.family.value)
    )
    heads, values, size = value_heads(checkpoint, first.layer)
    return {"heads": heads, "values": values, "size": size, "rates": list(RATES), "lags": LAGS}


def fit_memory(gain: MemoryGain, checkpoint: Checkpoint, sublayer: Sublayer, flow: Flow, signals: "Signals") -> None:
    """Fit the salience and the mix c of a gain with memory, in place; the static part is fitted afterwards."""
    maps = value_output(checkpoint, sublayer.layer)
    shared = checkpoint.heads // gain.shape[0]
    signals = signals[:_BATCHES]  # the network is run here, in the caller's precision, and the fit in full precision
    with torch.no_grad(), torch.autocast(gain.mix.device.type, enabled=False):
        _write(gain.value.weight, maps.value[::shared].reshape(-1, checkpoint.width))
        _write(gain.value.bias, maps.value_bias[::shared].reshape(-1))
        _write(gain.output.weight, maps.output.transpose(1, 0, 2).reshape(checkpoint.width, -1))
        matrix, bias = _salience(checkpoint, sublayer, flow, signals)
        _write(gain.salience.weight, matrix)
        _write(gain.salience.bias, bias)
        _write(gain.mix, _mix(gain, signals))


def _write(parameter: torch.Tensor, value: Any) -> None:
    parameter.copy_(torch.as_tensor(value))


def _salience(checkpoint: Checkpoint, sublayer: Sublayer, flow: Flow, signals: "Signals") -> tuple[torch.Tensor, ...]:
    """Return (matrix, bias), (heads, d) and (heads,): ridge regression of the salience on u, weighted by readers."""
    module = at(checkpoint.layers[sublayer.layer], checkpoint.family.matrix)
    zero, count = signals[0][0].new_zeros((), dtype=torch.float64), 0.0
    uu, us = zero, zero
    for (u, _, _), attention in zip(signals, flow.matrices(sublayer, module, _BATCHES), strict=False):
        log = attention.double().clamp_min(_SILENT).log()
        n = log.shape[-1]
        past = torch.ones(n, n, dtype=log.dtype, device=log.device).tril()
        centred = (log - (log * past).sum(-1, keepdim=True) / past.sum(-1, keepdim=True)) * past
        readers = past.sum(0)
        rows = torch.cat([u.double(), torch.ones_like(u[..., :1], dtype=torch.float64)], -1)
        weighted = rows * readers[:, None]
        uu = uu + (weighted.flatten(0, 1).T @ rows.flatten(0, 1))
        us = us + rows.flatten(0, 1).T @ centred.sum(-2).transpose(1, 2).flatten(0, 1)
        count += float(readers.sum()) * len(u)
    uu, us = uu / count, us / count
    ridge = torch.full((len(uu),), float(_SALIENCE * uu.diagonal()[:-1].mean())).to(uu)
    ridge[-1] = 0  # the constant has no penalty
    solution = torch.linalg.solve(uu + torch.diag(ridge), us)
    return solution[:-1].T, solution[-1]


def _mix(gain: MemoryGain, signals: "Signals") -> torch.Tensor:
    """Return the mix c of the memories of every head, (heads, memories)."""
    heads, memories = gain.mix.shape
    output = gain.output.weight.unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, d, size)
    count = heads * memories
    total, zero = 0.0, signals[0][0].new_zeros((), dtype=torch.float64)
    mean, square = zero, zero
    for u, y, x in signals:
        terms = gain.terms(u)[0].flatten(0, 1)
        weights = weights_of(x.flatten(0, -2).to(terms))[:, 0]
        for a, z, w in zip(*(some.split(_ROWS) for some in (terms, y.flatten(0, -2).to(terms), weights)), strict=True):
            # The columns are the memories of all heads, mapped into the stream; the last one is their target.
            columns = torch.einsum("nhks,hds->nhkd", a, output.to(a)).flatten(1, 2)
            all_of = torch.cat([columns, z[:, None]], 1)
            total += float(w.sum(dtype=torch.float64))
            mean = mean + (w[:, None, None] * all_of).sum(0).double()
            scaled = (all_of * w.sqrt()[:, None, None]).transpose(0, 1).flatten(1)
            square = square + (scaled @ scaled.T).double()
    centred = square / total - (mean / total) @ (mean / total).T
    gram, moment = centred[:count, :count], centred[:count, count]
    floor = torch.finfo(torch.float32).tiny
    ridge = torch.diag(_RIDGE * gram.diagonal().clamp_min(floor))
    return torch.linalg.solve(gram + ridge, moment).reshape(heads, memories)
