"""|Jv|/|v| and sigma_max(J) of every layer: the part of the profile with typical and worst-case gains of Jacobians."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.checkpoints.measure.directions import feature_directions, subspace_overlap, token_energy
from ctrlattn.checkpoints.measure.parts.measurement import Measurement, PassCount, commented, each_layer, labelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from ctrlattn.stability.nonnormal.krylov import SingularTriplets

# Errors above which a sentence says so: as a share of the singular value, and of the largest of the layer.
_SETTLED, _OF_LARGEST = 1e-2, 1e-4


def gain(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure typical and worst-case gain of every layer, and the overlaps of the leading directions of all layers."""
    from ctrlattn.stability.nonnormal.krylov import random_gain

    effort, n = measurement.effort, measurement.functions[0][1].shape[0]

    def measure(i: int) -> Any:
        jacobian = measurement.jacobian(i)
        typical = random_gain(jacobian, effort.probes, seed=measurement.seed)
        return typical, measurement.triplets(i, jacobian)

    before, spared, lanczos = measurement.recordings, measurement.spared, measurement.lanczos
    estimates = each_layer(measurement, "gain", measure)
    recorded = measurement.recordings - before
    typical, triplets = zip(*estimates, strict=True)
    right, left = (np.stack([getattr(t, side) for t in triplets]) for side in ("right", "left"))
    steps = measurement.lanczos - lanczos
    tokens = [token_energy(vectors[:, 0], n) for vectors in (right, left)]
    pair = ("layer", "layer_to")
    variables = labelled(
        measurement,
        random_gain=(
            ("layer", "probe"),
            np.stack(typical),
            "|Jv|/|v| of a random direction",
        ),
        sigma=(("layer", "singular"), np.stack([t.values for t in triplets]), "singular value of the layer's Jacobian"),
        sigma_error=(("layer", "singular"), np.stack([t.errors for t in triplets]), "residual of the singular value"),
        worst_token=(("layer",), tokens[0].argmax(-1), "token with most of the leading right vector", "token"),
        worst_token_share=(("layer",), tokens[0].max(-1), "its share of that vector's squared length"),
        amplified_token=(("layer",), tokens[1].argmax(-1), "token with most of the leading left vector", "token"),
        left_right_cosine=(
            ("layer",),
            np.minimum(np.abs(np.einsum("ln,ln->l", right[:, 0], left[:, 0], dtype=np.float64)), 1.0),
            "|<u, v>| of the leading singular vectors (1 for a symmetric Jacobian)",
        ),
        alignment=(
            pair,
            subspace_overlap(left, right),
            "overlap of left singular vectors of a layer with right ones of another",
        ),
        right_alignment=(pair, subspace_overlap(right, right), "overlap of the right singular vectors of two layers"),
        feature_alignment=(
            pair,
            subspace_overlap(feature_directions(left, n), feature_directions(right, n)),
            "overlap of left and right leading feature directions, whatever tokens they are on",
        ),
    )
    products = effort.probes + steps - (measurement.spared - spared)
    return commented(variables, _unsettled_sentences(triplets)), PassCount(recorded, jvp=products, vjp=steps + recorded)


def _unsettled_sentences(triplets: "Sequence[SingularTriplets]") -> list[str]:
    """Write a sentence for each layer whose singular values are not settled: one of them may have been passed over."""
    sentences = []
    for i, t in enumerate(triplets):
        late = t.errors > np.maximum(_SETTLED * t.values, _OF_LARGEST * t.values[0])
        if late.any():
            which = ", ".join(str(index) for index in np.flatnonzero(late))
            sentences.append(f"layer {i}: after {t.steps} Lanczos steps these singular values are not settled: {which}")
    return sentences
