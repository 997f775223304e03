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
from ctrlattn.report.words import layers_until, listed, number

CAVEAT = (
    "The first picture is a time-varying simulation: layer l attends with the recorded matrix of layer l, one head per "
    "group of features, and values are neither re-projected nor normalised. The second is one frozen mode, which is "
    "linear and time-invariant."
)


def sections(material: Material) -> list[Section]:
    """The section on tracking, settling, overshoot and steady-state error, by recorded matrices and average mode."""
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
            title="Time response over depth: what follows its reference, how fast, how far off?",
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
    """Projection of each token on its state at layer 0, (depth, tokens of all texts)."""
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
        ),
        Picture(
            "time-average", "Step response of the average attention mode over the layers", plots.figure_of(by_mode)
        ),
    )


def _sentences(material: Material, metrics: dict[str, dict[str, StepMetrics]]) -> tuple[str, ...]:
    real, average = metrics["real"], metrics["average"]
    errors = listed([f"{number(m.steady_state_error)} ({name})" for name, m in real.items()])
    reached = listed([f"{number(m.final)} ({name})" for name, m in average.items()])
    settled = [f"{layers_until(m.settling, HORIZON)} ({name})" for name, m in average.items() if m.settling > 0]
    return (
        f"Driven by the real matrices, each loop starts at {material.start_words} and should hold its reference β·x₀; "
        "the response is the part of a token that still points to where it started, 1 at layer 0. "
        f"After {material.layers} layers the median token is off its reference by {errors}.",
        "From rest, after a unit step of its reference, the average mode "
        f"(a = {number(material.average_mode, 3)}) ends at {reached}; "
        + (
            f"it stays within {BAND:.0%} of the change after this many layers: {listed(settled)}."
            if settled
            else "no loop moves."
        ),
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
    """One variable with the loops along a labelled dimension."""
    if not responses:
        return {}
    attrs, dim = {"long_name": name.replace("_", " "), "units": "1"}, f"loop_{name}"
    return {
        name: ((dim, "depth"), np.stack(list(responses.values())), attrs),
        dim: ((dim,), np.array(list(responses)), {"long_name": "loop"}),
    }
