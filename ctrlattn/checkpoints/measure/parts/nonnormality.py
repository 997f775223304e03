"""rho(J), |J J' - J'J|: the part of the profile with the non-normality of the layers' Jacobians."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn.checkpoints.measure.causal_radius import radius_of_blocks
from ctrlattn.checkpoints.measure.parts.measurement import Measurement, PassCount, commented, each_layer, labelled

if TYPE_CHECKING:
    import xarray as xr

    from ctrlattn.stability.nonnormal.krylov import Departure, Eigenvalues


def nonnormality(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure spectral radius, numerical radius and departure from normality of the layers' Jacobians.

    The spectral radius of a causal layer is that of the diagonal blocks of its Jacobian. Where their check fails, and
    in a network that is not causal, it is a Ritz value of the whole Jacobian, whose error may be large; the attribute
    `comment` says in which layers.

    The numerical radius is that of J on the span of its leading singular vectors, right and left, or the spectral
    radius where that is larger.
    """
    from ctrlattn.stability.nonnormal.krylov import departure

    effort = measurement.effort
    faults: list[str] = []

    def measure(i: int) -> tuple["Eigenvalues", "Departure"]:
        jacobian = measurement.jacobian(i)
        departed = departure(jacobian, effort.commutator, seed=measurement.seed)
        numerical = _on_singular_vectors(measurement, i, jacobian)
        spectrum, fault = _spectrum(measurement, i, jacobian)
        faults.extend(fault)
        return spectrum._replace(numerical_radius=max(numerical, spectrum.numerical_radius)), departed

    before, spared, lanczos_before = measurement.recordings, measurement.spared, measurement.lanczos
    spectra, departures = zip(*each_layer(measurement, "nonnormality", measure), strict=True)
    k = min(effort.singular, measurement.functions[0][1].numel())
    lanczos = measurement.lanczos - lanczos_before
    steps = sum(spectrum.steps for spectrum in spectra) / len(spectra) + lanczos + k

    def over(values: Any, *names: str) -> list[Any]:
        return [(("layer",), np.array([getattr(value, name) for value in values])) for name in names]

    radius, error, numerical = over(spectra, "radius", "error", "numerical_radius")
    value, standard = over(departures, "value", "standard_error")
    variables = labelled(
        measurement,
        spectral_radius=(*radius, "spectral radius of the layer's Jacobian"),
        spectral_radius_error=(*error, "residual of the eigenvalue that attains it, times its condition"),
        numerical_radius=(*numerical, "lower bound of the numerical radius of the layer's Jacobian"),
        departure=(*value, "departure from normality, 0 (normal) to 1, of J - I"),
        departure_error=(*standard, "standard error of the departure over the probes"),
    )
    # The layer is recorded once more for its blocks.
    recorded = measurement.recordings - before + float(measurement.checkpoint.causal)
    products = steps + 2.0 * effort.commutator - (measurement.spared - spared)
    passes = PassCount(recorded, jvp=products, vjp=effort.commutator + lanczos + recorded)
    return commented(variables, faults), passes


def _on_singular_vectors(measurement: Measurement, layer: int, jacobian: LinearOperator) -> float:
    """Return the numerical radius of J on the span of its leading singular vectors, of which J v = sigma u is known."""
    from ctrlattn.stability.nonnormal.krylov import inner_radius

    triplets = measurement.triplets(layer, jacobian)
    of_left = (jacobian @ triplets.left.T.astype(jacobian.dtype)).T
    vectors = np.concatenate([triplets.right, triplets.left])
    return inner_radius(vectors, np.concatenate([triplets.values[:, None] * triplets.left, of_left]))


def _spectrum(measurement: Measurement, layer: int, jacobian: LinearOperator) -> tuple["Eigenvalues", list[str]]:
    """Return the spectral radius of the diagonal blocks, or a Ritz value of the whole Jacobian, with the reason."""
    from ctrlattn.stability.nonnormal.krylov import Eigenvalues, eigenvalues

    faults: list[str] = []
    if measurement.checkpoint.causal:
        f, h = measurement.functions[layer]
        try:
            exact = radius_of_blocks(measurement.checkpoint, f, h, jacobian, seed=measurement.seed)
            return Eigenvalues(exact.radius, exact.error, exact.radius, exact.steps + exact.checks), faults
        except ArithmeticError as error:
            faults = [f"layer {layer}: the spectral radius is a Ritz value of the whole Jacobian, since {error}"]
    return eigenvalues(jacobian, steps=measurement.effort.arnoldi, seed=measurement.seed), faults
