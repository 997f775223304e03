"""y = predict(x): what the context predicts for each token. Everything here is one function, `read`.

A predictor is any callable (..., n, d) -> (..., n, d). The named ones are frozen dataclasses that know two
things more: `.causal`, whether token i is predicted from tokens 0..i alone, and `.last(x)`, the prediction of
the last token alone, (..., n, d) -> (..., 1, d), from which the sequential order is built.
"""

from ctrlattn.predictors.attention import FixedAttention, SoftmaxAttention
from ctrlattn.predictors.bilateral import BilateralFilter
from ctrlattn.predictors.means import CausalMean
from ctrlattn.predictors.memory import AssociativeMemory, read

__all__ = ["AssociativeMemory", "BilateralFilter", "CausalMean", "FixedAttention", "SoftmaxAttention", "read"]
