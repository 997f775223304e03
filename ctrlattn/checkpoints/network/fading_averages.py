"""a_t = sum_{s<=t} r^{t-s} g_s v_s / sum_{s<=t} r^{t-s} g_s, and v_{t-j}: fading averages and lagged values."""

import torch

_TOKENS = 64  # tokens per matrix product; the state is carried from one product to the next


def recall(
    v: torch.Tensor,
    g: torch.Tensor,
    rates: tuple[float, ...],
    lags: int,
    past: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values of the last tokens, and weighted averages of all before, each at its rate of forgetting.

    Parameters
    ----------
    v : (batch, n, heads, size)
        Values.
    g : (batch, n, heads)
        Weights, positive.
    rates : (r,)
        1 forgets nothing.
    lags : int
        Tokens before the last that are told apart; 0 stands for those before the first.
    past : (batch, heads, lags + r, size + 1), optional
        State behind the token before the first; None: there is none.
    mask : (batch, n), optional
        0 for padding, whose values count nowhere.

    Returns
    -------
    a : (batch, n, heads, lags + 1 + r, size)
        v_t, v_{t-1}, ..., then the averages; float32 at least.
    past : (batch, heads, lags + r, size + 1)
        State behind the last token.

    Examples
    --------
    >>> v = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    >>> a, past = recall(v, torch.ones(1, 3, 1), (0.0, 1.0), 1)
    >>> a[0, :, 0, :, 0].tolist()  # now, before, forgotten at once, mean
    [[1.0, 0.0, 1.0, 1.0], [2.0, 1.0, 2.0, 1.5], [6.0, 2.0, 6.0, 3.0]]
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    v, g = v.to(dtype), g.to(dtype)
    weights = torch.ones_like(g) if mask is None else mask.to(dtype)[..., None].expand_as(g)
    # With the weights' own sum as one more feature: a ratio of the two is the average.
    summed = torch.cat([v * (g * weights)[..., None], (g * weights)[..., None]], -1).transpose(1, 2)
    plain = torch.cat([v * weights[..., None], torch.zeros_like(g)[..., None]], -1).transpose(1, 2)
    if past is None:
        past = v.new_zeros(len(v), v.shape[2], lags + len(rates), v.shape[3] + 1)
    parts = []
    for values, some in zip(plain.split(_TOKENS, 2), summed.split(_TOKENS, 2), strict=True):
        count = values.shape[2]
        line = torch.cat([past[:, :, :lags], values], 2)
        lagged = torch.stack([line[:, :, lags - j : lags - j + count, :-1] for j in range(lags + 1)], 3)
        sums = _sums(some, past[:, :, lags:], rates)
        averages = sums[..., :-1] / sums[..., -1:].clamp_min(torch.finfo(dtype).tiny)
        parts.append(torch.cat([lagged, averages], 3))
        past = torch.cat([line[:, :, count:], sums[:, :, -1]], 2)
    return torch.cat(parts, 2).transpose(1, 2), past


def _sums(v: torch.Tensor, past: torch.Tensor, rates: tuple[float, ...]) -> torch.Tensor:
    """Return sum_{s<=t} r^{t-s} v_s: (batch, heads, n, r, size), from v (batch, heads, n, size) and the past."""
    n = v.shape[2]
    steps = torch.arange(n, device=v.device)
    lag = steps[:, None] - steps
    each = torch.tensor(rates, dtype=v.dtype, device=v.device)[:, None]
    weights = torch.where(lag >= 0, each[..., None] ** lag.clamp_min(0), 0)  # (r, n, n)
    fading = each ** (steps + 1)  # (r, n)
    return torch.einsum("rts,bhsd->bhtrd", weights, v) + torch.einsum("rt,bhrd->bhtrd", fading, past)
