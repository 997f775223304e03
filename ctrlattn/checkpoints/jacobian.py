"""J_l = d f_l / d h at the stream h_l of a text: the Jacobian of one layer, as products with vectors."""

from typing import Any

from scipy.sparse.linalg import LinearOperator

from ctrlattn.checkpoints.layers import layer_function
from ctrlattn.checkpoints.load import Checkpoint
from ctrlattn.linear.jacobian import jacobian_operator


def layer_jacobian(checkpoint: Checkpoint, layer: int, ids: Any) -> LinearOperator:
    """The Jacobian of one layer of a network with respect to the stream of all tokens.

    J = d f(h)/d h, f the whole layer with its residual connections and norms, at the stream that it reads when the
    network runs on `ids`. Nothing else is varied: masks and positions stay, and there is no cache.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
        0 ... layers - 1.
    ids : (n,) token ids, str, or image
        As in `tap`.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        (n d, n d), tokens one after the other; computed in the network's dtype. `J @ v` costs about three evaluations
        of the layer, `J.T @ w` about one.

    Raises
    ------
    ValueError
        A layer that is not there; bad ids; a stream that is not finite.

    References
    ----------
    Aubry et al., Transformer Block Coupling, arXiv 2407.07810, section 3.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> layer_jacobian(checkpoints.load(transformers.GPT2Model(config)), 1, [1, 2, 3]).shape
    (24, 24)
    """
    return jacobian_operator(*layer_function(checkpoint, layer, ids))
