"""<F(x), x>/<x, x>, |F|/|x|, x = g F + constant: the part of the profile with each sublayer's feedback gain."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn.checkpoints.measure.parts.measurement import Measurement, PassCount, labelled, rounding_of
from ctrlattn.checkpoints.measure.sinks import ordinary_tokens
from ctrlattn.signals import feedback_gain, predictor_fit, size_ratio

if TYPE_CHECKING:
    import xarray as xr

_STILL = "fewer than two tokens are ordinary, or its state or what it adds is the same at all of them but for rounding"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def feedback(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure sign and gain of every sublayer's feedback, and the share of the state that its contribution predicts."""
    ordinary = ordinary_tokens(measurement.state)
    layers = range(len(measurement.checkpoint.layers))
    epsilon = rounding_of(measurement.checkpoint)
    rows = [
        [_feedback_of(*measurement.sublayer(kind, i), ordinary, epsilon) for kind in measurement.slots] for i in layers
    ]
    present, gain, ratio, fits = (np.array([[each[place] for each in row] for row in rows]) for place in range(4))
    negative = np.where(present, np.mean(gain < 0, axis=-1), np.nan)
    per_token = ("layer", "sublayer", "token")
    variables = labelled(
        measurement,
        feedback_gain=(per_token, gain, "gain of the feedback, <F, x>/<x, x>"),
        feedback_cosine=(
            per_token,
            np.clip(gain / np.where(ratio == 0, 1.0, ratio), -1.0, 1.0),
            "cosine between contribution and state",
        ),
        feedback_gain_quantile=(
            ("layer", "sublayer", "quantile"),
            np.moveaxis(np.quantile(gain, QUANTILES, axis=-1), 0, -1),
            "gain of the feedback, quantile over the tokens",
        ),
        negative_share=(
            per_token[:2],
            negative,
            "share of tokens with negative feedback",
        ),
        contribution_ratio=(per_token[:2], np.median(ratio, axis=-1), "median of |F|/|x| over the tokens"),
        predictor_gain=(per_token[:2], fits[..., 0], "least-squares g of x = g F + constant"),
        predicted_share=(per_token[:2], fits[..., 1], "share of the variance of the state predicted, R^2"),
        left_out=((), int(np.sum(~ordinary)), "massive tokens left out of the least-squares fits", "token"),
        quantile=("quantile", np.array(QUANTILES), "quantile over the tokens"),
    )
    still = np.argwhere(present.astype(bool) & np.isnan(fits[..., 0]))
    sentences = [f"the {measurement.slots[slot]} of layer {layer} has no fit: {_STILL}" for layer, slot in still]
    for name in ("predictor_gain", "predicted_share") if sentences else ():
        variables[name].attrs["comment"] = ". ".join(sentences)
    return variables, PassCount()


def _feedback_of(
    x: np.ndarray, f: np.ndarray, ordinary: np.ndarray, epsilon: float
) -> tuple[bool, np.ndarray, np.ndarray, tuple[float, float]]:
    """Return, for one layer, (whether it has this sublayer, the sublayer's gain and size on each token, the fit)."""
    present = bool(np.isfinite(f[0, 0]))
    fit = predictor_fit(x[ordinary], f[ordinary], epsilon=epsilon) if present else (np.nan, np.nan)
    return present, feedback_gain(x, f), size_ratio(x, f), fit
