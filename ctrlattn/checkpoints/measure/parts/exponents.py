"""ln sigma(J_L ... J_1)/L: the part of the profile with the finite-time Lyapunov exponents over the whole depth."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from scipy.sparse.linalg import LinearOperator

from ctrlattn.checkpoints.measure.directions import token_energy
from ctrlattn.checkpoints.measure.parts.measurement import Measurement, PassCount, labelled

if TYPE_CHECKING:
    import xarray as xr


def exponents(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure finite-time Lyapunov exponents over the whole depth, and the tokens on which their directions lie."""
    from ctrlattn.stability.motion.depth_exponents import depth_exponents

    effort, layers = measurement.effort, len(measurement.functions)
    k = min(effort.exponents, measurement.functions[0][1].numel())
    total = (2 * effort.sweeps - 1) * layers  # a visit to a layer whose recording was not kept evaluates it again
    before = measurement.recordings
    done = iter(range(1, total + 2))

    def lazily(i: int) -> Callable[[], LinearOperator]:
        def jacobian() -> LinearOperator:
            measurement.report("exponents", min(next(done), total), total)
            return measurement.jacobian(i)

        return jacobian

    flow = depth_exponents([lazily(i) for i in range(layers)], k=k, sweeps=effort.sweeps, seed=measurement.seed)
    recorded = measurement.recordings - before
    tokens = token_energy(flow.right, measurement.functions[0][1].shape[0])
    variables = labelled(
        measurement,
        exponent=(("exponent_index",), flow.exponents, "finite-time Lyapunov exponent over depth", "nat/layer"),
        exponent_rate=(("layer", "exponent_index"), flow.rates, "growth of that direction in one layer", "nat"),
        exponent_change=(
            ("exponent_index",),
            flow.changes,
            "change of the exponent in the last sweep",
            "nat/layer",
        ),
        exponent_token=(("exponent_index",), tokens.argmax(-1), "token with most of the direction", "token"),
        exponent_token_share=(("exponent_index",), tokens.max(-1), "its share of the squared length of that direction"),
    )
    return variables, PassCount(forward=recorded, jvp=k * effort.sweeps, vjp=k * (effort.sweeps - 1.0) + recorded)
