"""eig(W_O W_V) of each head: value-output maps, whose eigenvalues multiply every attention mode of the head."""

from typing import NamedTuple

import numpy as np

from ctrlattn.checkpoints.measure.weights import value_output
from ctrlattn.checkpoints.network.checkpoint import Checkpoint


class ValueGains(NamedTuple):
    """What the value-output map W_O W_V of each head of one layer does; `p` is the head's own dimension."""

    eigenvalues: np.ndarray  # (heads, p) complex, by descending modulus: all that are not 0 by rank
    trace: np.ndarray  # (heads,): their sum
    positive: np.ndarray  # (heads,): sum of real parts over sum of moduli, -1 ... 1; 0 for a head that is 0
    norm: np.ndarray  # (heads,): largest singular value


def value_gains(checkpoint: Checkpoint, layer: int) -> ValueGains:
    """Return eigenvalues, sign and norm of each head's value-output map, with the weight of the norms folded in.

    A token that attends to itself with weight a, at a stream of size s (what its norm measures), gets back a w / s of
    its component along an eigenvector with eigenvalue w. The d - p other eigenvalues are 0.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
        0 ... layers - 1.

    Returns
    -------
    ValueGains

    Raises
    ------
    InputError
        A layer that is not there or has no attention.

    References
    ----------
    Elhage et al., A Mathematical Framework for Transformer Circuits, 2021, "Summarizing OV/QK matrices" (`positive`
    is their test for copying).

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> value_gains(checkpoints.load(transformers.GPT2Model(config)), 1).eigenvalues.shape
    (2, 4)
    """
    maps = value_output(checkpoint, layer, fold_norm=True)
    # The eigenvalues of XY that are not 0 are those of YX.
    gains = np.linalg.eigvals(maps.value @ maps.output).astype(complex)
    gains = np.take_along_axis(gains, np.argsort(-np.abs(gains), axis=-1, kind="stable"), -1)
    size = np.abs(gains).sum(-1)
    trace = gains.real.sum(-1)
    # sigma(W_O W_V) = sigma(R_O R_V') of their QR factors.
    R_O, R_V = (np.linalg.qr(m, mode="r") for m in (maps.output, np.swapaxes(maps.value, -1, -2)))
    triangle = np.asarray(R_O) @ np.swapaxes(np.asarray(R_V), -1, -2)
    return ValueGains(
        eigenvalues=gains,
        trace=trace,
        positive=np.divide(trace, size, out=np.zeros_like(trace), where=size > 0),
        norm=np.linalg.norm(triangle, 2, axis=(-2, -1)),
    )
