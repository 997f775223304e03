"""y = 0, y = G u + b, or y = G u + b + sum_h W_O^h sum_k c_hk a_hk: modules that replace a sublayer.

u is the normed stream that the sublayer read; a_hk are head h's values with fixed weights in place of its attention,
which `recall` computes with a state of constant size.
"""

from typing import Any

import torch

from ctrlattn.checkpoints.network.fading_averages import recall
from ctrlattn.checkpoints.network.watch import first, stream_of, with_first
from ctrlattn.errors import InputError

RATES = (0.5, 0.8, 0.95, 1.0)  # of forgetting, a token; 1: all that was said
LAGS = 2  # tokens before the last that are told apart
_LARGEST = 30.0  # of a log-salience either way: exp of it is far from what float32 cannot hold


class Gain(torch.nn.Module):
    """y_t = G u_t + b, u the normed stream that the sublayer read: a feedback gain, without a cache.

    Parameters
    ----------
    width : int
        d, features of the stream.
    rank : int
        Rank of G = out @ into; the whole G is stored in `out` where the two factors would be no smaller.
    pair : int
        How many further outputs belong to the answer, each None, as in place of the attention matrix.
    """

    def __init__(self, width: int, rank: int, *, pair: int):
        super().__init__()
        self.pair = pair
        factored = 2 * rank < width
        self.into = torch.nn.Linear(width, rank, bias=False) if factored else torch.nn.Identity()
        self.out = torch.nn.Linear(rank if factored else width, width)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return answer(self.out(self.into(hidden_states)), self.pair)


class MemoryGain(Gain):
    """y_t = G u_t + b + sum_h W_O^h sum_k c_hk a_hk,t: a gain that keeps a fading memory of the attention it replaces.

    a_h0 ... are head h's values of the last tokens, then their averages over the past, each at its rate of forgetting
    and weighted by exp of a linear map of the token, its salience: attention whose query is always the same.

    Parameters
    ----------
    width, rank, pair
        As for `Gain`.
    heads, values, size : int
        Query heads, value heads, features of a head.
    rates : (r,)
        Factor of forgetting per token.
    lags : int
        Tokens before the last that are told apart.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        *,
        pair: int,
        heads: int,
        values: int,
        size: int,
        rates: tuple[float, ...] = RATES,
        lags: int = LAGS,
    ):
        super().__init__(width, rank, pair=pair)
        self.shape, self.rates, self.lags = (values, size), tuple(rates), lags
        self.value = torch.nn.Linear(width, values * size)
        self.salience = torch.nn.Linear(width, heads)
        self.output = torch.nn.Linear(heads * size, width, bias=False)
        self.mix = torch.nn.Parameter(torch.zeros(heads, lags + 1 + len(self.rates)))
        self.layer_idx: int | None = None

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        past = None
        cache = next((value for value in (*args, *kwargs.values()) if hasattr(value, "get_seq_length")), None)
        if cache is not None:
            from ctrlattn.checkpoints.network.memory_cache import past_in

            past = past_in(cache, self.layer_idx)
        mask = _token_mask(kwargs.get("attention_mask"), hidden_states)
        terms, state = self.terms(hidden_states, None if past is None else past.state, mask)
        if past is not None:
            past.keep(state, hidden_states.shape[1])
        return answer(self.out(self.into(hidden_states)) + self.remembered(terms).to(hidden_states), self.pair)

    def terms(
        self, u: torch.Tensor, past: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (a, state): (batch, n, heads, lags + 1 + r, size), and the past's state behind the last token."""
        with torch.autocast(u.device.type, enabled=False):
            value = self.value(u.to(self.value.weight)).unflatten(-1, self.shape)
            weight = self.salience(u.to(self.salience.weight)).clamp(-_LARGEST, _LARGEST).exp()
            value = value.repeat_interleave(weight.shape[-1] // self.shape[0], dim=2)
            return recall(value, weight, self.rates, self.lags, past, mask)

    def remembered(self, terms: torch.Tensor) -> torch.Tensor:
        """Return sum_h W_O^h sum_k c_hk a_hk."""
        with torch.autocast(terms.device.type, enabled=False):
            mixed = torch.einsum("bnhks,hk->bnhs", terms.to(self.mix), self.mix)
            return torch.nn.functional.linear(mixed.flatten(-2), self.output.weight)


class Nothing(torch.nn.Module):
    """y = 0; `width` is its number of features where that is not the one of u: the last map of an MLP reads more."""

    def __init__(self, width: int | None = None, *, pair: int):
        super().__init__()
        self.width, self.pair = width, pair

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        u = stream_of(args, kwargs)
        return answer(u.new_zeros(*u.shape[:-1], self.width or u.shape[-1]), self.pair)


class Beside(torch.nn.Module):
    """y of a stand-in, and whatever else the sublayer gives: keys that other layers share, indices, router states.

    Parameters
    ----------
    sublayer : module
        The sublayer, which runs; only its contribution is replaced.
    stand : module
        What gives the contribution.
    """

    def __init__(self, sublayer: torch.nn.Module, stand: torch.nn.Module):
        super().__init__()
        self.sublayer, self.stand = sublayer, stand

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.sublayer(*args, **kwargs)
        y = first(self.stand(*args, **kwargs))
        return with_first(output, y)


def answer(y: torch.Tensor, more: int) -> Any:
    """Return y, and `more` times None behind it.

    >>> answer(torch.ones(1), 1)
    (tensor([1.]), None)
    """
    return (y, *[None] * more) if more else y


def _token_mask(mask: Any, u: torch.Tensor) -> torch.Tensor | None:
    """Return (batch, n) 1 for a token and 0 for padding, from the mask of attention; None where all are tokens."""
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor):
        raise InputError(
            f"a gain with memory reads a tensor as mask, got {type(mask).__name__}: load with attention sdpa"
        )
    if mask.ndim == 4:  # (batch, heads, queries, keys), true or 0 where seen: a token sees itself, none sees padding
        mask = (mask if mask.dtype == torch.bool else mask == 0)[:, 0].any(1)
    return mask[:, -u.shape[1] :].to(u.dtype).expand(len(u), -1)
