"""rho(J), |J J' - J'J|: the part of the profile with the non-normality of the layers' Jacobians."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn.checkpoints.measure.causal_radius import radius_of_blocks
from ctrlattn.checkpoints.measure.parts.measurement import Measurement, Passes, commented, each_layer, labelled

if TYPE_CHECKING:
    import xarray as xr

    from ctrlattn.stability.nonnormal.krylov import Departure, Eigenvalues


def nonnormality(measurement: Measurement) -> tuple["xr.Dataset", Passes]:
    """Spectral radius, numerical radius and departure from normality of the layers' Jacobians.

    The radius of a causal layer is that of the diagonal blocks of its Jacobian. Where their check fails, and in a
    network that is not causal, it is a Ritz value of the whole Jacobian, whose error may be large; the attribute
    `comment` says in which layers.
    """
    from ctrlattn.stability.nonnormal.krylov import departure, eigenvalues

    effort = measurement.effort
    faults: list[str] = []

    def measure(i: int) -> tuple["Eigenvalues", "Departure"]:
        jacobian = measurement.jacobian(i)
        spectrum = eigenvalues(jacobian, steps=effort.arnoldi, seed=measurement.seed)
        if measurement.checkpoint.causal:
            spectrum, fault = _from_blocks(measurement, i, jacobian, spectrum)
            faults.extend(fault)
        return spectrum, departure(jacobian, effort.commutator, seed=measurement.seed)

    before, spared = measurement.recordings, measurement.spared
    spectra, departures = zip(*each_layer(measurement, "nonnormality", measure), strict=True)
    steps = sum(spectrum.steps for spectrum in spectra) / len(spectra)

    def over(values: Any, *names: str) -> list[Any]:
        return [(("layer",), np.array([getattr(value, name) for value in values])) for name in names]

    radius, error, numerical = over(spectra, "radius", "error", "numerical_radius")
    value, standard = over(departures, "value", "standard_error")
    variables = labelled(
        measurement,
        spectral_radius=(*radius, "spectral radius of the layer's Jacobian"),
        spectral_radius_error=(*error, "residual of the eigenvalue that attains it"),
        numerical_radius=(*numerical, "lower bound of the numerical radius of the layer's Jacobian"),
        departure=(*value, "departure from normality, 0 (normal) to 1, of J - I"),
        departure_error=(*standard, "standard error of the departure over the probes"),
    )
    # The layer is recorded once more for its blocks.
    recorded = measurement.recordings - before + float(measurement.checkpoint.causal)
    products = steps + 2.0 * effort.commutator - (measurement.spared - spared)
    passes = Passes(recorded, jvp=products, vjp=effort.commutator + recorded)
    return commented(variables, faults), passes


def _from_blocks(
    measurement: Measurement, layer: int, jacobian: LinearOperator, spectrum: "Eigenvalues"
) -> tuple["Eigenvalues", list[str]]:
    """The spectrum with the radius of the diagonal blocks, or as it was, with the reason."""
    f, h = measurement.functions[layer]
    try:
        exact = radius_of_blocks(measurement.checkpoint, f, h, jacobian, seed=measurement.seed)
    except ArithmeticError as error:
        return spectrum, [f"layer {layer}: the spectral radius is a Ritz value of the whole Jacobian, since {error}"]
    # The checks take five products with the whole Jacobian.
    steps = spectrum.steps + exact.steps + 5
    numerical = max(spectrum.numerical_radius, exact.radius)
    return spectrum._replace(radius=exact.radius, error=exact.error, numerical_radius=numerical, steps=steps), []
