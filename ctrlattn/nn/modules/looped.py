"""h' = h + C(z) (F(h) - h + k_r (h_0 - h)),  F(h) = Layers(A h + B e): a network of tied layers, pass after pass.

e is the embedded input and h_0 = e. The layers see each place of a line or a grid with its neighbours. Injection brings
the input in again at each pass ("recall" in the papers): A = B = 1, or Parcae's A and B; without it A = 1 and B = 0.
"""

from collections.abc import Callable, Iterator
from typing import get_args

import torch
from torch.nn.functional import gelu, pad, rms_norm

from ctrlattn.arrays import require_number, require_positive
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, require_flag, require_whole
from ctrlattn.looped.ways import Discretisation, hold
from ctrlattn.nn.modules.sizes import MOST_AXES, MOST_LAYERS, Injection, NormPlace
from ctrlattn.passes import Passes


def neighbours(h: torch.Tensor, axes: int) -> torch.Tensor:
    """Return each place of a line or a grid with its two neighbours along each axis, which are 0 beyond the edge.

    Parameters
    ----------
    h : (..., *grid, d)
    axes : 1 or 2
        Axes of the grid.

    Returns
    -------
    (..., *grid, (1 + 2 axes) d)

    Examples
    --------
    >>> neighbours(torch.tensor([[1.0], [2.0], [3.0]]), 1).tolist()
    [[1.0, 0.0, 2.0], [2.0, 1.0, 3.0], [3.0, 2.0, 0.0]]
    """
    parts = [h]
    for axis in range(-1 - axes, -1):
        size = h.shape[axis]
        padded = pad(h, [0, 0] * (-axis - 1) + [1, 1])
        parts += [padded.narrow(axis, 0, size), padded.narrow(axis, 2, size)]
    return torch.cat(parts, -1)


class TiedLayer(torch.nn.Module):
    """norm(h + W_2 gelu(W_1 neighbours(norm(h)))), where the inner and the outer norm are there or not.

    >>> TiedLayer(4, 8, 1, "both")(torch.ones(2, 5, 4)).shape
    torch.Size([2, 5, 4])
    """

    def __init__(self, dim: int, hidden: int, axes: int, norm: NormPlace) -> None:
        super().__init__()
        self.axes = axes
        self.inner, self.outer = norm in ("inner", "both"), norm in ("outer", "both")
        self.fc1 = torch.nn.Linear((1 + 2 * axes) * dim, hidden)
        self.fc2 = torch.nn.Linear(hidden, dim)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Map (..., *grid, d) to (..., *grid, d)."""
        neighbourhood = neighbours(_norm(h) if self.inner else h, self.axes)
        h = h + self.fc2(gelu(self.fc1(neighbourhood)))
        return _norm(h) if self.outer else h


class LoopedNetwork(torch.nn.Module):
    """A network of one to three tied layers: embedding, passes under a controller, and a reading of the last state.

    Parameters
    ----------
    features, classes : int
        Numbers at each place of the input, and answers.
    dim, hidden : int
        Width of the state, and of the MLP of a layer.
    layers : int
        1 to 3 layers make one pass; they are the same in all passes.
    axes : 1 or 2
        A line, or a grid.
    norm : "none", "inner", "outer" or "both"
        RMS norm without weights in front of the map of a layer, behind its sum, or both.
    injection : "none", "add" or "parcae"
        How the input enters each pass.
    discretisation : "euler" or "exact"
        How Parcae's B is discretised.
    pooled : bool
        Whether there is one answer for all places, from their mean.

    Attributes
    ----------
    law : Passes
        The controller and the recall k_r of the passes; C = 1 without recall unless `hold_law` sets another.

    Raises
    ------
    InputError
        A size or a word is none of these.

    References
    ----------
    Tied layers that solve larger problems by more passes: Schwarzschild et al., arXiv 2106.04537; Bansal et al.,
    arXiv 2202.05826. Places of the norm: STARS, arXiv 2605.26733. Injection: Prairie et al., arXiv 2604.12946.

    Examples
    --------
    >>> network = LoopedNetwork(2, 2, dim=8, hidden=16)
    >>> network(torch.zeros(3, 5, 2), 4).shape
    torch.Size([3, 5, 2])
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        dim: int = 32,
        hidden: int = 64,
        layers: int = 1,
        axes: int = 1,
        norm: NormPlace = "inner",
        injection: Injection = "none",
        discretisation: Discretisation = "euler",
        pooled: bool = False,
    ) -> None:
        pooled = require_flag("pooled", pooled)
        super().__init__()
        for name, value in {"features": features, "classes": classes, "dim": dim, "hidden": hidden}.items():
            require_whole(name, value)
        require_whole("layers", layers, most=MOST_LAYERS)
        require_whole("axes", axes, most=MOST_AXES)
        words = {"norm": (norm, NormPlace), "injection": (injection, Injection)}
        for name, (word, literal) in {**words, "discretisation": (discretisation, Discretisation)}.items():
            if word not in get_args(literal):
                raise InputError(f"{name} must be one of {', '.join(get_args(literal))}, got {word!r}")
        self.axes, self.pooled, self.injection, self.discretisation = axes, pooled, injection, discretisation
        self.embed = torch.nn.Linear(features, dim)
        self.layers = torch.nn.ModuleList(TiedLayer(dim, hidden, axes, norm) for _ in range(layers))
        self.read = torch.nn.Linear(dim, classes)
        if injection == "parcae":  # A = 1/2 and B = ln 2 to begin with
            self.decay = torch.nn.Parameter(torch.zeros(dim))
            self.log_step = torch.nn.Parameter(torch.full((dim,), -0.36651292))
            self.into = torch.nn.Parameter(torch.ones(dim))
        self.register_buffer("gains", torch.tensor([1.0, 0.0], dtype=torch.float64))  # gain, recall: saved with it

    @property
    def law(self) -> Passes:
        """The controller and the recall of the passes."""
        gain, recall = self.get_buffer("gains").tolist()
        return Passes(None if gain == 1.0 else PID(gain), recall=recall)

    def hold_law(self, gain: float, recall: float = 0.0) -> None:
        """Run the passes under C = gain with this recall from now on; it is saved with the weights."""
        values = [require_positive("gain", gain), Passes(recall=require_number("recall", recall)).recall]
        self.get_buffer("gains").copy_(torch.tensor(values, dtype=torch.float64))

    def pass_map(self, e: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return F, one pass without controller, for embedded inputs e (..., *grid, d)."""
        entering = self.entering(e)

        def step(h: torch.Tensor) -> torch.Tensor:
            h = entering(h)
            for layer in self.layers:
                h = layer(h)
            return h

        return step

    def entering(self, e: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return h -> A h + B e, what the first layer of a pass sees."""
        if self.injection == "none":
            return lambda h: h
        if self.injection == "add":
            return lambda h: h + e
        A, write = hold(torch, self.decay, self.log_step.exp(), self.into, self.discretisation)
        Be = write * e
        return lambda h: A * h + Be

    def states(self, inputs: torch.Tensor, law: Passes | None = None) -> Iterator[torch.Tensor]:
        """Yield h_0, h_1, ..., without end; the consumer decides how many passes are made."""
        e = self.embed(inputs)
        h, step, law = e, self.pass_map(e), self.law if law is None else law
        state = law.init(h)
        while True:
            yield h
            h, _, _, state = law.step(h, step(h), state)

    def answer(self, h: torch.Tensor) -> torch.Tensor:
        """Return logits of a state: (..., *grid, classes), or (..., classes) of a pooled network."""
        h = _norm(h)
        return self.read(h.flatten(-1 - self.axes, -2).mean(-2) if self.pooled else h)

    def forward(self, inputs: torch.Tensor, passes: int) -> torch.Tensor:
        """Return logits after that many passes."""
        for k, h in enumerate(self.states(inputs)):
            if k == passes:
                return self.answer(h)
        raise AssertionError("the states have no end")

    def extra_repr(self) -> str:
        """Name the law of the passes."""
        return f"law={self.law}"


def _norm(h: torch.Tensor) -> torch.Tensor:
    return rms_norm(h, h.shape[-1:], eps=1e-6)
