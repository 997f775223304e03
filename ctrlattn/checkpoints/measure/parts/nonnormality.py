"""rho(J), |J J' - J'J|: the part of the profile with the non-normality of the layers' Jacobians."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.checkpoints.measure.parts.measurement import Measurement, Passes, each_layer, labelled
from ctrlattn.stability.nonnormal.krylov import departure, eigenvalues

if TYPE_CHECKING:
    import xarray as xr


def nonnormality(measurement: Measurement) -> tuple["xr.Dataset", Passes]:
    """Spectral radius, numerical radius and departure from normality of the layers' Jacobians."""
    effort = measurement.effort

    def measure(i: int) -> Any:
        jacobian = measurement.jacobian(i)
        return (
            eigenvalues(jacobian, steps=effort.arnoldi, seed=measurement.seed),
            departure(jacobian, effort.commutator, seed=measurement.seed),
        )

    spectra, departures = zip(*each_layer(measurement, "nonnormality", measure), strict=True)
    steps = sum(spectrum.steps for spectrum in spectra) / len(spectra)

    def over(values: Any, *names: str) -> list[Any]:
        return [(("layer",), np.array([getattr(value, name) for value in values])) for name in names]

    radius, error, numerical = over(spectra, "radius", "error", "numerical_radius")
    value, standard = over(departures, "value", "standard_error")
    variables = labelled(
        measurement,
        spectral_radius=(*radius, "spectral radius of the layer's Jacobian (largest Ritz value)"),
        spectral_radius_error=(*error, "residual of that Ritz value"),
        numerical_radius=(*numerical, "lower bound of the numerical radius of the layer's Jacobian"),
        departure=(*value, "departure from normality, 0 (normal) to 1, of J - I"),
        departure_error=(*standard, "standard error of the departure over the probes"),
    )
    return variables, Passes(forward=1.0, jvp=steps + 2.0 * effort.commutator, vjp=effort.commutator + 1.0)
