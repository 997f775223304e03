"""Section: S = 1/(1 + L), T = 1 - S over depth, margins and root loci of each loop, per mode and in the worst case."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ctrlattn import plots
from ctrlattn.design import performance
from ctrlattn.frequency import gang_of_four, sensitivity_peaks, sensitivity_response
from ctrlattn.linear import loop_transfer, mode, open_loop_pole
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.average_mode import OMEGA
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import listed, number, percent
from ctrlattn.stability import Margins, margins, root_locus, spectral_radius

GAINS = np.concatenate([[0.0], np.geomspace(0.02, 20.0, 2000)])
QUANTILES = (0.05, 0.95)
CAVEAT = (
    "Frequency responses, margins, root loci and poles belong to one frozen attention mode that acts alike in every "
    "layer (weight-tied); a network whose layers differ has none. Unstable modes have no frequency response. They are "
    "left out of the bands, but counted."
)


def sections(material: Material) -> list[Section]:
    """The section with |S|, |T|, Ms, Mt, bandwidth, margins, gang of four, root locus and pole-zero map."""
    title = "Frequency response over depth: how much is amplified, how robust is it?"
    if not material.controlled:
        return [
            Section(
                "frequency",
                title,
                ("None of the loops has a controller: S = 1 and T = 0 at every frequency.",),
                caveat=CAVEAT,
            )
        ]
    a = material.average_mode
    peaks = {
        name: sensitivity_peaks(loop.controller, open_loop_pole(loop, a)) for name, loop in material.controlled.items()
    }
    stability = {name: margins(loop_transfer(loop, a)) for name, loop in material.controlled.items()}
    worst = {name: worst_case(loop, material.spectra[material.network]) for name, loop in material.controlled.items()}
    average = {
        name: sensitivity_response(loop.controller, open_loop_pole(loop, a), OMEGA)
        for name, loop in material.controlled.items()
    }
    return [
        Section(
            key="frequency",
            title=title,
            sentences=_sentences(a, peaks, stability, worst),
            pictures=(*_responses(average, worst), *_loops(material.controlled, a, stability)),
            caveat=CAVEAT,
            tables=(_table(a, peaks, stability, worst),),
            numbers={
                name: {
                    "peaks": peaks[name]._asdict(),
                    "margins": asdict(stability[name]),
                    "worst_ms": worst[name]["ms"],
                    "unstable_share": worst[name]["unstable"],
                }
                for name in material.controlled
            },
            variables={
                "omega": (("omega",), OMEGA, {"units": "rad/layer", "long_name": "frequency over depth"}),
                "controlled_loop": (("controlled_loop",), np.array(list(average)), {"long_name": "loop"}),
                "sensitivity_average_mode": (
                    ("controlled_loop", "omega"),
                    np.stack(list(average.values())),
                    {"long_name": "S of the average mode"},
                ),
            },
        )
    ]


def worst_case(loop: Loop, modes: np.ndarray) -> dict[str, Any]:
    """Bands of |S| and |T| over the stable modes, their largest Ms, and the share that is unstable."""
    alpha = open_loop_pole(loop, modes)
    stable = spectral_radius(loop.controller, alpha) < 1
    robustness = performance(loop, modes, horizon=8)  # only its margins are used, so that a short horizon is enough
    s = sensitivity_response(loop.controller, alpha[stable], OMEGA)
    if not len(s):
        nothing = np.full((2, len(OMEGA)), np.nan)
        return {"s": nothing, "t": nothing, "ms": np.nan, "unstable": 1.0}
    return {
        "s": np.quantile(np.abs(s), QUANTILES, axis=0),
        "t": np.quantile(np.abs(1 - s), QUANTILES, axis=0),
        "ms": float(1 / robustness.modulus_margin[robustness.stable].min()),
        "unstable": float(np.mean(~stable)),
    }


def _responses(average: dict[str, np.ndarray], worst: dict[str, dict[str, Any]]) -> tuple[Picture, ...]:
    pictures = []
    for letter, curves in (("S", average), ("T", {name: 1 - s for name, s in average.items()})):
        axes = plots.bode_magnitude(
            OMEGA,
            {name: np.abs(curve) for name, curve in curves.items()},
            bands={name: case[letter.lower()] for name, case in worst.items()},
            ylabel=f"|{letter}| (dB)",
            title=f"|{letter}|: average mode, and 5 to 95 % of the real modes",
        )
        pictures.append(
            Picture(
                f"bode-{letter.lower()}", f"Magnitude of {letter} over frequency in rad/layer", plots.figure_of(axes)
            )
        )
    return tuple(pictures)


def _loops(loops: dict[str, Loop], a: float, stability: dict[str, Margins]) -> tuple[Picture, ...]:
    transfers = {name: loop_transfer(loop, a) for name, loop in loops.items()}
    inside = OMEGA[1:]  # an integrator is infinite at z = 1
    nyquist = plots.nyquist_curves({name: L(np.exp(1j * inside)) for name, L in transfers.items()}, margins=stability)
    four = {
        name: {key: np.abs(system(np.exp(1j * OMEGA[1:]))) for key, system in gang_of_four(loop, a).items()}
        for name, loop in loops.items()
    }
    closed = {name: mode(loop, a) for name, loop in loops.items()}
    poles_and_zeros = plots.poles_and_zeros(
        {name: system.poles() for name, system in closed.items()},
        {name: system.zeros() for name, system in closed.items()},
        title="Closed-loop poles and zeros of the average mode",
    )
    return (
        Picture("nyquist", "Nyquist curves of the average mode with their margins", plots.figure_of(nyquist)),
        Picture("gang-of-four", "Gang of four of the average mode: S, T, PS and CS", plots.gang_of_four(inside, four)),
        _root_loci(loops, a),
        Picture(
            "pole-zero",
            "Closed-loop poles and zeros of the average mode in the z-plane",
            plots.figure_of(poles_and_zeros),
        ),
    )


def _root_loci(loops: dict[str, Loop], a: float) -> Picture:
    loci = {name: root_locus(replace(loop, controller=None), loop.controller, a, GAINS) for name, loop in loops.items()}
    zeros = {name: loop_transfer(loop, a).zeros() for name, loop in loops.items()}
    marks = {name: {"gain 1": mode(loop, a).poles()} for name, loop in loops.items()}
    loci_figure = plots.root_loci(GAINS, loci, zeros, marks=marks)
    return Picture("root-locus", "Root locus of each loop in the overall gain of its controller", loci_figure)


def _sentences(
    a: float, peaks: dict[str, Any], stability: dict[str, Margins], worst: dict[str, Any]
) -> tuple[str, ...]:
    def say(values: dict[str, str]) -> str:
        return listed([f"{value} ({name})" for name, value in values.items()])

    return (
        f"For the average mode (a = {number(a, 3)}) the largest amplification of the error, Ms, is "
        f"{say({n: number(p.ms) for n, p in peaks.items()})}; a value below 2 is what control engineers ask for.",
        "The controller's gain could grow by a factor of "
        f"{say({n: number(m.gain_margin) for n, m in stability.items()})} before the loop oscillates.",
        "Over the real spectrum the worst Ms among the stable modes is "
        + say({n: number(w["ms"]) for n, w in worst.items()})
        + f". It is infinite wherever a mode is unstable, which is so for "
        f"{say({n: percent(w['unstable']) for n, w in worst.items()})} of the modes.",
    )


def _table(a: float, peaks: dict[str, Any], stability: dict[str, Margins], worst: dict[str, Any]) -> Table:
    header = (
        "loop",
        "Ms",
        "Mt",
        "bandwidth (rad/layer)",
        "gain margin",
        "phase margin (deg)",
        "delay margin (layers)",
        "modulus margin",
        "worst Ms, stable modes",
        "modes unstable",
    )
    rows = tuple(
        (
            name,
            number(peaks[name].ms),
            number(peaks[name].mt),
            number(peaks[name].bandwidth),
            number(m.gain_margin),
            number(m.phase_margin, 1),
            number(m.delay_margin),
            number(m.modulus_margin),
            number(worst[name]["ms"]),
            percent(worst[name]["unstable"]),
        )
        for name, m in stability.items()
    )
    return Table(header, rows, f"Average mode, a = {number(a, 3)}, and worst case over the real spectrum")
