"""max_i |f(x)_i - f(y)_i| <= sum_h ||V_h|| (1 + 2 R^2 ||B_h||) max_i |x_i - y_i| for softmax attention f on |x_i| <= R.

V_h = W_V W_O and B_h = W_Q W_K^T / temperature of head h, spectral norms. The parts of the derivative of
f_i = sum_j p_ij x_j V, with C_i the covariance of the tokens under p_i and m_i their mean:

    df_i = sum_j p_ij dx_j V + dx_i B C_i V + sum_j p_ij (x_i B dx_j') (x_j - m_i) V,

whose norms are at most 1, R^2 ||B|| and R^2 ||B|| times ||V||, since ||C_i|| <= R^2 in a ball of radius R. Sharp as
R goes to 0. No finite constant holds on the whole space.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_number, require_real
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, InputTypeError, require_whole
from ctrlattn.loop import Loop, require_scalar_gains
from ctrlattn.predictors import SoftmaxAttention


class AttentionContraction(NamedTuple):
    """One layer on the ball where no token is longer than the radius, in the norm max_i |x_i|."""

    rate: float  # any two signals in the ball come nearer by at least this factor; 1 or more certifies nothing
    reach: float  # no token is longer than this after the layer: the ball is kept where it is at most the radius

    def holds(self, radius: float) -> bool:
        """Tell whether both hold: it contracts, and never leaves the ball, so that every layer contracts."""
        return self.rate < 1 and self.reach <= radius


def attention_lipschitz(predictor: SoftmaxAttention, radius: float, *, features: int | None = None) -> float:
    """Return a Lipschitz constant of softmax attention on signals whose tokens have length at most `radius`.

    Parameters
    ----------
    predictor : SoftmaxAttention
        Any heads, causal or not; for any number of tokens.
    radius : float, >= 0
    features : int, optional
        d; needed where all projections are the identity.

    Returns
    -------
    float
        In the norm max_i |x_i|_2 over the tokens, of input and output.

    Raises
    ------
    InputTypeError
        Another predictor.
    InputError
        A negative radius; no way to know d.

    References
    ----------
    Kim, Papamakarios, Mnih, The Lipschitz constant of self-attention, ICML 2021, arXiv 2006.04710, theorem 3.1 (there
    is none on the whole space). Castin, Ablin, Peyre, How smooth is attention?, ICML 2024, arXiv 2312.14820 (on balls
    it grows with R^2).

    Examples
    --------
    >>> attention_lipschitz(SoftmaxAttention(temperature=4.0), 1.0, features=8)  # 1 + 2/4
    1.5
    """
    if not isinstance(predictor, SoftmaxAttention):
        raise InputTypeError(f"attention_lipschitz is of SoftmaxAttention, got {type(predictor).__name__}")
    squared = _radius(radius) ** 2
    return sum(
        _norm(value) * (1 + 2 * squared * _norm(similarity)) for value, similarity in _heads(predictor, features)
    )


def attention_contraction(
    loop: Loop, radius: float, *, reference: float | None = None, features: int | None = None
) -> AttentionContraction:
    """Tell whether a layer of softmax attention contracts on a ball of tokens, and whether it keeps them there.

    x' = (skip - kp) x + feedback f(x) + kp beta r: rate = |skip - kp| + |feedback| Lip f, and a token is at most
    (|skip - kp| + |feedback| sum_h ||V_h||) R + |kp beta| max |r_i| long afterwards.

    Without W_V the tokens' mean moves by the whole feedback (attention averages): a contracting loop then needs
    |skip - kp| + |feedback| < 1.

    Parameters
    ----------
    loop : Loop
        SoftmaxAttention in parallel order, no normalizer, no held token; a PID with kp alone, or no controller.
    radius : float
    reference : float, optional
        Length of the longest token of r; None: the radius.
    features : int, optional
        As for `attention_lipschitz`.

    Returns
    -------
    AttentionContraction

    Raises
    ------
    InputTypeError
        Another predictor.
    InputError
        A loop of another kind: memories need a metric of their own, see `contraction_certificate`.

    Examples
    --------
    >>> from ctrlattn import PID, Loop
    >>> calm = Loop(SoftmaxAttention(temperature=4.0), skip=0.5, feedback=-0.2, controller=PID(0.3))
    >>> bound = attention_contraction(calm, 1.0, features=8)
    >>> round(bound.rate, 6), round(bound.reach, 6), bound.holds(1.0)
    (0.5, 0.7, True)
    """
    require_scalar_gains(loop, "attention_contraction")
    if loop.order == "sequential" or loop.normalizer is not None or loop.hold_first:
        raise InputError("attention_contraction takes parallel order without a normalizer and without a held token")
    law = loop.controller if loop.controller is not None else PID()
    if not isinstance(law, PID) or law.ki or law.kd:
        raise InputError(
            "attention_contraction takes no controller or a PID with kp alone: a memory needs a metric of its own, see "
            "contraction_certificate"
        )
    lipschitz = attention_lipschitz(loop.predictor, radius, features=features)
    direct = abs(loop.skip - law.kp)
    values = sum(_norm(value) for value, _ in _heads(loop.predictor, features))
    longest = _radius(radius if reference is None else reference)
    reach = (direct + abs(loop.feedback) * values) * radius + abs(law.kp * loop.reference_gain) * longest
    return AttentionContraction(direct + abs(loop.feedback) * lipschitz, reach)


def _radius(value: Any) -> float:
    radius = float(require_number("radius", value))
    if not (math.isfinite(radius) and radius >= 0):
        raise InputError(f"a radius must be finite and not negative, got {value}")
    return radius


def _norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))


def _heads(predictor: SoftmaxAttention, features: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (W_V W_O, W_Q W_K^T / temperature) of each head, (d, d) each."""
    projections = [w for w in (predictor.wq, predictor.wk, predictor.wv) if w is not None]
    d = projections[0].shape[0] if projections else features if predictor.wo is None else predictor.wo.shape[0]
    if features is not None:
        require_whole("features", features)
    if d is None:
        raise InputError("give features, the number d of them: all projections are the identity")
    wq, wk, wv = (np.eye(d) if w is None else _matrix(w) for w in (predictor.wq, predictor.wk, predictor.wv))
    wo = np.eye(wv.shape[1]) if predictor.wo is None else _matrix(predictor.wo)
    split = [np.split(w, predictor.heads, axis=1) for w in (wq, wk, wv)]
    width = split[0][0].shape[1]
    temperature = math.sqrt(width) if predictor.temperature is None else predictor.temperature
    output_maps = np.split(wo, predictor.heads, axis=0)
    return [(v @ o, q @ k.T / temperature) for q, k, v, o in zip(*split, output_maps, strict=True)]


def _matrix(w: Any) -> np.ndarray:
    return require_real("a projection of the attention", w)
