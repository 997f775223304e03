"""Section: time responses over depth, y_k = <x_k, x_0> / <x_0, x_0> on recorded attention and unit steps of a mode."""

from dataclasses import asdict
from typing import Any

import numpy as np

from ctrlattn import plots
from ctrlattn.linear import StepMetrics, step_metrics
from ctrlattn.linear.mode_polynomial import BAND
from ctrlattn.report.pages.loops.average_mode import HORIZON, mode_metrics, step_response
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, layers_until, listed, number

TOLERATED = 0.05  # an error below this share of the reference counts as reaching it
CAVEAT = (
    "The first picture is a time-varying simulation: layer l attends with the recorded matrix of layer l, one head per "
    "group of features, and values are neither re-projected nor normalised. The second is one frozen mode, which is "
    "linear and time-invariant."
)


def sections(material: Material) -> list[Section]:
    """Show tracking, settling, overshoot and steady-state error, by recorded matrices and average mode."""
    real = {name: _along_reference(runs) for name, runs in material.trajectories.items()}
    average = {
        name: step_response(loop, material.average_mode, material.layers) for name, loop in material.linear.items()
    }
    metrics = {
        "real": {
            name: step_metrics(np.median(y, axis=1), material.loops[name].reference_gain) for name, y in real.items()
        },
        "average": {name: mode_metrics(loop, material) for name, loop in material.linear.items()},
    }
    return [
        Section(
            key="time",
            title=_title(metrics["average"]),
            sentences=_sentences(material, metrics),
            pictures=_pictures(material, real, average),
            caveat=CAVEAT,
            tables=(
                _table(
                    "Driven by the real attention matrices, layer after layer (median token)",
                    metrics["real"],
                    material.layers,
                ),
                _table(
                    f"Unit step of the reference, average mode, a = {number(material.average_mode, 3)}",
                    metrics["average"],
                    HORIZON,
                ),
            ),
            numbers={kind: {name: asdict(m) for name, m in responses.items()} for kind, responses in metrics.items()},
            variables={
                **_variable("time_response_real", {name: np.median(y, axis=1) for name, y in real.items()}),
                **_variable("time_response_average", average),
            },
        )
    ]


def _along_reference(runs: list[np.ndarray]) -> np.ndarray:
    """Return the projection of each token on its state at layer 0, (depth, tokens of all texts)."""
    return np.concatenate([np.sum(x * x[0], -1) / np.sum(x[0] * x[0], -1) for x in runs], axis=-1)


def _pictures(material: Material, real: dict[str, np.ndarray], average: dict[str, np.ndarray]) -> tuple[Picture, ...]:
    quartiles = {name: np.quantile(y, [0.25, 0.5, 0.75], axis=1).T for name, y in real.items()}
    by_network = plots.time_response(
        quartiles, ylabel="Response along the reference", title=f"Driven by the attention of {material.network}"
    )
    by_mode = plots.time_response(
        average,
        ylabel="State of the mode",
        reference=1.0,
        title=f"Step of the reference, average mode a = {number(material.average_mode, 3)}",
    )
    return (
        Picture(
            "time-real",
            "Response along the reference over the layers, median and quartiles",
            plots.figure_of(by_network),
            "The part of a token that still points to where it started: 1 at layer 0. Median and quartiles over the "
            "tokens. A law that turns round at every layer has a line for even and one for odd layers.",
        ),
        Picture(
            "time-average",
            "Step response of the average attention mode over the layers",
            plots.figure_of(by_mode),
            "From rest, after a unit step of the reference. The average mode has the mean of all recorded eigenvalues "
            "a of the network.",
        ),
    )


def _title(metrics: dict[str, StepMetrics]) -> str:
    """Say which laws end near the reference, on the average mode."""
    if not metrics:
        return "Over depth: no loop compared has a mode of its own"
    near = [name for name, m in metrics.items() if abs(m.steady_state_error) <= TOLERATED and np.isfinite(m.settling)]
    if not near:
        return "No law brings the average mode to its reference"
    if len(near) == len(metrics):
        slowest = max(metrics.values(), key=lambda m: m.settling).settling
        return f"Every law brings the average mode to its reference, the slowest within {count(int(slowest), 'layer')}"
    return f"Only {listed(near)} {'brings' if len(near) == 1 else 'bring'} the average mode to its reference"


def _sentences(material: Material, metrics: dict[str, dict[str, StepMetrics]]) -> tuple[str, ...]:
    driven = (
        f"Driven by the real matrices, each loop starts at {material.start_words} and should hold its reference β·x₀."
    )
    if not metrics["average"]:
        return (driven,)
    return (
        driven,
        f"At its reference is a mode that ends within {TOLERATED:.0%} of it; settled is a response that stays within "
        f"{BAND:.0%} of its change.",
    )


def _table(caption: str, metrics: dict[str, StepMetrics], horizon: int) -> Table:
    header = ("loop", "settling (layers)", "overshoot (%)", "steady-state error", "ends at")
    rows = tuple(
        (
            name,
            layers_until(m.settling, horizon),
            number(100 * m.overshoot, 1),
            number(m.steady_state_error, 3),
            number(m.final, 3),
        )
        for name, m in metrics.items()
    )
    return Table(header, rows, caption)


def _variable(name: str, responses: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return one variable with the loops along a labelled dimension."""
    if not responses:
        return {}
    attrs, dim = {"long_name": name.replace("_", " "), "units": "1"}, f"loop_{name}"
    return {
        name: ((dim, "depth"), np.stack(list(responses.values())), attrs),
        dim: ((dim,), np.array(list(responses)), {"long_name": "loop"}),
    }
