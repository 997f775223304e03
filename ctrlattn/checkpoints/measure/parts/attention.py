"""eig(A) and the gain of A on waves along the tokens: the part of the profile with the attention matrices."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn import presets
from ctrlattn.checkpoints.measure.parts.measurement import (
    Measurement,
    PassCount,
    commented,
    each_layer,
    labelled,
    require_matrices,
    stacked,
    without_matrix,
)

if TYPE_CHECKING:
    import xarray as xr

LOOPS = ("residual", "comparator", "softmax", "neutreno", "pidformer-printed", "pidformer-ema")
_WAVES = 33  # frequencies from 0 to pi


def attention(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure the spectra of the attention matrices, the presets' stability intervals, and the gains on waves.

    A layer without an attention matrix has nan: there is nothing to take a spectrum of.
    """
    from ctrlattn.frequency import difference_gain, token_frequency_response
    from ctrlattn.stability import attention_spectrum
    from ctrlattn.stability.modes.regions import unstable_share

    omega = np.linspace(0, np.pi, _WAVES)
    matrices = require_matrices(measurement)

    def measure(i: int) -> tuple[np.ndarray, ...] | None:
        a = matrices[i]
        if a is None:
            return None
        return attention_spectrum(a), difference_gain(a), token_frequency_response(a, omega)

    modes, smoothing, response = stacked(each_layer(measurement, "attention", measure))
    present = np.isfinite(smoothing)
    unstable = np.stack(
        [np.where(present, unstable_share(presets.get(name), _or_zero(modes)), np.nan) for name in LOOPS]
    )
    variables = labelled(
        measurement,
        attention_eigenvalue=(("layer", "head", "token"), modes, "eigenvalue of the attention matrix"),
        unstable_share=(
            ("preset", "layer", "head"),
            unstable,
            "share of attention modes unstable in the preset's loop",
        ),
        stable_interval=(
            ("preset", "end"),
            np.array([_interval(name) for name in LOOPS]),
            "ends of the real attention eigenvalues for which the preset's loop is stable",
        ),
        difference_gain=(("layer", "head"), smoothing, "gain on differences between tokens (below 1: low-pass)"),
        token_response=(("layer", "head", "omega"), response, "gain on waves along the tokens"),
        omega=("omega", omega, "frequency along the tokens", "rad/token"),
        preset=("preset", np.array(LOOPS), "loop of ctrlattn.presets"),
        end=("end", np.array(["low", "high"]), "end of the interval"),
    )
    return commented(variables, without_matrix(matrices)), PassCount()


def _or_zero(modes: np.ndarray) -> np.ndarray:
    """Return the eigenvalues; 0 in a layer without a matrix."""
    return np.where(np.isfinite(modes), modes, 0.0)


def _interval(name: str) -> tuple[float, float]:
    """Return the lowest and the highest real attention eigenvalue for which the preset's loop is stable."""
    from ctrlattn.stability.modes.regions import mode_intervals

    intervals = mode_intervals(presets.get(name))
    return (intervals[0][0], intervals[-1][1]) if intervals else (float("nan"), float("nan"))
