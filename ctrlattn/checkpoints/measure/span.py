"""F = f_{b-1} o ... o f_a: a span of layers as one map of the stream, its passes, and eigenvalues of its Jacobian."""

from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.measure.layer_functions import LayerFunction, layer_functions
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.repeated_span import require_span
from ctrlattn.errors import require_whole

_TOL = 1e-4  # bound on the residuals, as a share of the norm of J


class SpanModes(NamedTuple):
    """Outer eigenvalues of J = F'(h) at the stream that enters the span.

    Attributes
    ----------
    eigenvalues : (m,) complex
        They are sorted by real part, the largest first.
    residuals : (m,)
        |J v - lambda v| for the vector v of length 1 that belongs to each, by one more product with J.
    size : int
        Order of J.
    rest : float
        No other eigenvalue is larger in modulus.
    errors : (m,), optional
        How far each may be from an eigenvalue of J, as `looped.spectrum` says it; the residuals where it is not given.
    """

    eigenvalues: np.ndarray
    residuals: np.ndarray
    size: int
    rest: float
    errors: np.ndarray | None = None

    @property
    def off(self) -> np.ndarray:
        """How far each eigenvalue may be off, (m,)."""
        return self.residuals if self.errors is None else self.errors

    def design_points(self) -> np.ndarray:
        """Return the eigenvalues, and where others may be: the circle of radius `rest`, left of the rightmost measured.

        A gain that suits the measured ones alone may be far too large for those that lie about 0.

        >>> float(SpanModes(np.array([3.0 + 0j]), np.zeros(1), 9, 1.0).design_points().real.min())
        -1.0
        """
        if not len(self.eigenvalues):
            return self.eigenvalues
        circle = self.rest * np.exp(1j * np.pi * np.arange(16) / 8)
        return np.append(self.eigenvalues, circle[circle.real < self.eigenvalues.real.max()])


class SpanPasses(NamedTuple):
    """How one span moves the stream of a text, pass after pass: medians over tokens.

    The norm of all tokens together would be that of the first, whose massive activation is a thousand times the others.
    """

    residual: np.ndarray  # (passes,) |F(h_k) - h_k|/|h_k|
    norm: np.ndarray  # (passes + 1,) |h_k|/|h_0|


def span_function(checkpoint: Checkpoint, layers: tuple[int, int], ids: Any) -> tuple[LayerFunction, torch.Tensor]:
    """Return the layers a ... b - 1 as one function of the stream, and the stream that enters them for this text.

    Parameters
    ----------
    checkpoint : Checkpoint
    layers : (a, b)
    ids : (n,) token ids, str, or image

    Returns
    -------
    F : callable, (..., n, d) -> (..., n, d)
        As in `layer_function`.
    h : (n, d)

    Raises
    ------
    InputError
        A span that is empty or out of range; bad ids.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9)
    >>> F, h = span_function(checkpoints.load(transformers.GPT2Model(config)), (1, 3), [1, 2, 3])
    >>> tuple(F(h).shape)
    (3, 8)
    """
    functions = layer_functions(checkpoint, ids, layers=tuple(range(*require_span(layers, len(checkpoint.layers)))))

    def span(h: torch.Tensor) -> torch.Tensor:
        for f, _ in functions:
            h = f(h)
        return h

    return span, functions[0][1]


def span_modes(F: LayerFunction, h: torch.Tensor, *, count: int = 12, seed: int = 0) -> SpanModes:
    """Return the rightmost eigenvalues of F'(h), and those of largest modulus, by `looped.spectrum`.

    Parameters
    ----------
    F, h
        What `span_function` returns.
    count : int
        How many of each; a conjugate pair counts twice.
    seed : int
        Seed of the first directions.

    Returns
    -------
    SpanModes

    Raises
    ------
    InputError
        A stream that is not finite, or a count below 1.
    ArithmeticError
        The eigenvalues have not converged.

    Examples
    --------
    >>> modes = span_modes(lambda h: h * torch.tensor([3.0, -4.0, 0.5]), torch.ones(1, 3), count=1)
    >>> modes.eigenvalues.real.round(4).tolist()
    [3.0, -4.0]
    """
    from ctrlattn.looped import spectrum

    count = min(require_whole("count", count), h.numel())
    rightmost = spectrum(F, h, count, which="LR", tol=_TOL, seed=seed)
    large = spectrum(F, h, count, which="LM", tol=_TOL, seed=seed)
    # Whatever lies right of the last rightmost eigenvalue is among them already.
    more = large.eigenvalues.real < rightmost.eigenvalues.real.min() - _TOL * rightmost.norm
    values = np.append(rightmost.eigenvalues, large.eigenvalues[more])
    residuals = np.append(rightmost.residuals, large.residuals[more])
    errors = np.append(rightmost.errors, large.errors[more])
    order = np.lexsort((values.imag, -values.real))
    bound = float(np.abs(large.eigenvalues).min()) if len(values) < h.numel() else 0.0
    return SpanModes(values[order], residuals[order], h.numel(), bound, errors[order])


def span_passes(
    F: LayerFunction, h: torch.Tensor, passes: int, controller: Any = None, recall: float = 0.0
) -> SpanPasses:
    """Return residual and norm of the stream over passes under a controller, without the rest of the network.

    Raises
    ------
    InputError
        As for `looped.iterate`.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> span_passes(lambda h: 0 * h, torch.ones(2, 2), 2, PID(0.5)).norm.tolist()
    [1.0, 0.5, 0.25]
    """
    from ctrlattn.looped import iterate

    with torch.no_grad():
        run = iterate(F, h, passes, controller, recall)
    states = run.state.double().norm(dim=-1).flatten(1).cpu().numpy()
    assert run.prediction is not None
    away = (run.prediction - run.state[:-1]).double().norm(dim=-1).flatten(1).cpu().numpy()
    tiny = np.finfo(float).tiny
    shares = away / np.maximum(states[:-1], tiny), states / np.maximum(states[0], tiny)
    return SpanPasses(*(np.median(share, axis=1) for share in shares))
