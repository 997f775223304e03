"""q <- unit(q + g read(q, K, V)), q <- unit(q + g read(q, X, X)), q <- unit(q + g read(q, V, K)): a learned read layer.

ReadLayer is `ctrlattn.memory.read_layer` as a torch module whose keys K and values V are learned. ReadTransformer is a
language model of such layers. Training cannot undo the sign g here, as it can where an output projection is learned:
V is also the key of the third read, and the second read has no weights. Each read may have a gain of its own, g = (g_1,
g_2, g_3), and the gains may be learned.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import torch

from ctrlattn.arrays import causal_bias, require_positive, softmax
from ctrlattn.errors import InputError, require_flag
from ctrlattn.loop import Loop
from ctrlattn.memory import read_layer
from ctrlattn.nn.modules.sizes import require_sizes
from ctrlattn.normalizers import unit_norm
from ctrlattn.predictors import AssociativeMemory


class ReadLayer(torch.nn.Module):
    """Association, context, MLP: the three loops of `ctrlattn.memory.read_layer` with learned parameters.

        q <- unit(q + g read(q, K, V))            association
        q <- unit(q + g read(q, X, X))            context: X holds the tokens strictly before
        q <- unit(q + g read(q, V, K))            MLP: the same memory with keys and values exchanged

    Parameters
    ----------
    dim, slots : int
        d and m. Keys and values are (m, d), initially random points near the unit sphere.
    sign : float or three of them
        g, the feedback gain of all three loops, or one for each of association, context and MLP.
    temperature, context_temperature : float
        Initial values of the learned temperatures. The first and the third read share one.
    learned_sign : bool
        Whether training changes the three gains; they then begin at `sign`.
    seed : int
        Seed of the initial keys and values.

    Raises
    ------
    InputError
        A size is below 1, the sign is not finite or neither one number nor three, or a temperature is not positive.

    References
    ----------
    `docs/origin.md`, "Reads alone".

    Examples
    --------
    >>> layer = ReadLayer(8, 3)
    >>> layer(torch.ones(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        slots: int,
        *,
        sign: float | Sequence[float] = -1.0,
        temperature: float = 0.1,
        context_temperature: float = 0.1,
        learned_sign: bool = False,
        seed: int = 0,
    ) -> None:
        learned_sign = require_flag("learned_sign", learned_sign)
        super().__init__()
        require_sizes(dim=dim, slots=slots)
        gains = torch.as_tensor(sign, dtype=torch.float32)
        if gains.shape not in ((), (3,)) or not bool(torch.isfinite(gains).all()):
            raise InputError(f"sign must be finite, one number or three, usually -1 or +1, got {sign}")
        gains = gains.expand(3).clone()
        if learned_sign:
            self.sign = torch.nn.Parameter(gains)
        else:
            self.register_buffer("sign", gains, persistent=False)
        rng = np.random.default_rng(seed)
        self.keys, self.values = _points(rng, slots, dim), _points(rng, slots, dim)
        self.log_temperature = _logarithm("temperature", temperature)
        self.log_context_temperature = _logarithm("context_temperature", context_temperature)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run one layer, (..., n, d) -> (..., n, d)."""
        for gain, read in zip(self.sign, self._reads(), strict=True):
            # A gain that is learned, or one of a batch of networks, is no number: it multiplies what is read.
            loop = Loop(partial(_read_with_gain, read, gain), feedback=1.0, normalizer=unit_norm)
            x, _, _ = loop.step(x, loop.init(x))
        return x

    def _reads(self) -> tuple[Callable[[torch.Tensor], torch.Tensor], ...]:
        """Return the reads of association, context and MLP, without their gains."""
        recall = partial(_read, log_temperature=self.log_temperature)
        return (
            partial(recall, keys=self.keys, values=self.values),
            partial(_read_before, log_temperature=self.log_context_temperature),
            partial(recall, keys=self.values, values=self.keys),
        )

    def loops(self) -> tuple[Loop, Loop, Loop]:
        """Return the three loops of `read_layer` with the current parameters and without gradients, for analysis."""
        keys, values = self.keys.detach(), self.values.detach()
        memory = AssociativeMemory(keys, values, temperature=math.exp(self.log_temperature.item()))
        context_temperature = math.exp(self.log_context_temperature.item())
        loops = read_layer(memory, context_temperature=context_temperature)
        association, context, mlp = map(_with_feedback, loops, self.sign.tolist())
        return association, context, mlp


class ReadTransformer(torch.nn.Module):
    """A language model made of `read` alone: x_0 = unit(E[token] + P[position]), layers, logits = x E^T / temperature.

    Parameters
    ----------
    vocabulary, dim, slots, layers : int
        Number of tokens, d, slots of each layer's memory, number of layers.
    context : int
        Longest sequence, which is the number of learned positions.
    sign : float or three of them
        -1 subtracts what is read, +1 adds it; three numbers are those of association, context and MLP.
    temperature, context_temperature : float
        Initial values of the learned temperatures.
    learned_sign : bool
        Whether each layer learns its three gains, which begin at `sign`.
    seed : int
        Seed of all initial parameters.

    Raises
    ------
    InputError
        A size is below 1, the sign is not finite, or a temperature is not positive. At the call: the sequence is longer
        than the context, or a token lies outside the vocabulary.

    References
    ----------
    `docs/origin.md`, "Reads alone": a network of nothing but reads from two kinds of memory.

    Examples
    --------
    >>> model = ReadTransformer(vocabulary=5, dim=8, slots=3, layers=2, context=4)
    >>> model(torch.tensor([[0, 4, 2]])).shape
    torch.Size([1, 3, 5])
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        slots: int,
        layers: int,
        *,
        context: int,
        sign: float | Sequence[float] = -1.0,
        temperature: float = 0.1,
        context_temperature: float = 0.1,
        learned_sign: bool = False,
        seed: int = 0,
    ) -> None:
        learned_sign = require_flag("learned_sign", learned_sign)
        super().__init__()
        require_sizes(vocabulary=vocabulary, dim=dim, layers=layers, context=context)
        rng = np.random.default_rng(seed)
        self.tokens, self.positions = _points(rng, vocabulary, dim), _points(rng, context, dim)
        self.log_temperature = _logarithm("temperature", temperature)
        layer = partial(
            ReadLayer,
            dim,
            slots,
            sign=sign,
            learned_sign=learned_sign,
            temperature=temperature,
            context_temperature=context_temperature,
        )
        self.layers = torch.nn.ModuleList(layer(seed=int(s)) for s in rng.integers(2**32, size=layers))

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the state at layer 0, (..., n) -> (..., n, d)."""
        n, context, vocabulary = ids.shape[-1], len(self.positions), len(self.tokens)
        if n > context:
            raise InputError(f"the sequence has {n} tokens, the model {context} positions")
        if ids.numel() and (ids.min() < 0 or ids.max() >= vocabulary):
            raise InputError(f"token ids must lie in 0 ... {vocabulary - 1}, got {int(ids.min())} ... {int(ids.max())}")
        return unit_norm(self.tokens[ids] + self.positions[:n])

    def state(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the state after the last layer, (..., n) -> (..., n, d)."""
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits of the next token, (..., n) -> (..., n, vocabulary)."""
        return self.state(ids) * torch.exp(-self.log_temperature) @ self.tokens.mT

    def loops(self) -> tuple[Loop, ...]:
        """Return the three loops of every layer, one after the other.

        `simulate(model.loops(), model.embed(ids), 3 * layers)` computes the states of the model.
        """
        return tuple(loop for layer in self.layers for loop in cast(ReadLayer, layer).loops())


def _read(x: torch.Tensor, *, keys: torch.Tensor, values: torch.Tensor, log_temperature: torch.Tensor) -> torch.Tensor:
    """Take `ctrlattn.read` with a gradient for the temperature, which the fused kernel behind `read` does not have."""
    return softmax(x * torch.exp(-log_temperature) @ keys.mT) @ values


def _read_before(x: torch.Tensor, *, log_temperature: torch.Tensor) -> torch.Tensor:
    """Return read(x_i, X, X) with X = x_0 ... x_{i-1}; it is 0 for the first token."""
    earlier = x[..., :-1, :]
    scores = x[..., 1:, :] * torch.exp(-log_temperature) @ earlier.mT
    y = softmax(scores + causal_bias(earlier.shape[-2], x)) @ earlier
    return torch.cat([torch.zeros_like(x[..., :1, :]), y], -2)


def _with_feedback(loop: Loop, gain: float) -> Loop:
    return replace(loop, feedback=gain)


def _read_with_gain(read: Callable[[torch.Tensor], torch.Tensor], gain: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return gain * read(x)."""
    return gain * read(x)


def _points(rng: np.random.Generator, n: int, dim: int) -> torch.nn.Parameter:
    """Draw (n, d) Gaussian vectors of expected squared length 1."""
    return torch.nn.Parameter(torch.as_tensor(rng.standard_normal((n, dim)) / math.sqrt(dim), dtype=torch.float32))


def _logarithm(name: str, value: float) -> torch.nn.Parameter:
    """Return the logarithm of a temperature as the learned parameter, so that the temperature stays positive."""
    return torch.nn.Parameter(torch.tensor(math.log(require_positive(name, value))))
