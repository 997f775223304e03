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
from ctrlattn.report.words import listed, number
from ctrlattn.stability import Margins, margins, root_locus, spectral_radius

GAINS = np.concatenate([[0.0], np.geomspace(0.02, 20.0, 2000)])
QUANTILES = (0.05, 0.95)
MOST = 2.0  # Ms: Astrom and Murray, section 13.5
_CAPTIONS = {
    "S": "S = 1/(1 + L) is how much of a change of the reference is left as error: below 0 dB it is reduced. L is the "
    "gain once round the loop. Lines: average mode; bands: 5 to 95 % of the stable modes.",
    "T": "T = L/(1 + L) is how much of the reference arrives in the state: at 0 dB all of it. Lines: average mode; "
    "bands: 5 to 95 % of the stable modes.",
}
CAVEAT = (
    "Frequency responses, margins, root loci and poles belong to one frozen attention mode that acts alike in every "
    "layer (weight-tied); a network whose layers differ has none. Unstable modes have no frequency response. They are "
    "left out of the bands, but counted."
)


def sections(material: Material) -> list[Section]:
    """Return the section with |S|, |T|, Ms, Mt, bandwidth, margins, gang of four, root locus and pole-zero map."""
    if not material.controlled:
        return [
            Section(
                "frequency",
                "Without a controller no frequency of the error is amplified or reduced",
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
            title=_title(peaks),
            sentences=_sentences(a, worst),
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
    """Return bands of |S| and |T| over the stable modes, their largest Ms, and the share that is unstable."""
    alpha = open_loop_pole(loop, modes)
    stable = spectral_radius(loop.controller, alpha) < 1
    robustness = performance(loop, modes, horizon=8)  # only its margins are used, so that a short horizon is enough
    s = sensitivity_response(loop.controller, alpha[stable], OMEGA)
    if not len(s):
        nan_band = np.full((2, len(OMEGA)), np.nan)
        return {"s": nan_band, "t": nan_band, "ms": np.nan, "unstable": 1.0}
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
                f"bode-{letter.lower()}",
                f"Magnitude of {letter} over frequency in rad/layer",
                plots.figure_of(axes),
                _CAPTIONS[letter],
            )
        )
    return tuple(pictures)


def _loops(loops: dict[str, Loop], a: float, stability: dict[str, Margins]) -> tuple[Picture, ...]:
    transfers = {name: loop_transfer(loop, a) for name, loop in loops.items()}
    inside = OMEGA[1:]  # an integrator is infinite at z = 1
    radii = {name: m.modulus_margin for name, m in stability.items()}
    nyquist = plots.nyquist_panels({name: L(np.exp(1j * inside)) for name, L in transfers.items()}, radii)
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
        Picture(
            "nyquist",
            "Nyquist curves of the average mode, each with the disk that it keeps clear around −1",
            nyquist,
            "L, the gain once round the loop, over all frequencies; the arrow points to higher ones. The shaded "
            "disk around −1 has the modulus margin as its radius: the curve stays out of it.",
        ),
        Picture(
            "gang-of-four",
            "Gang of four of the average mode: S, T, PS and CS",
            plots.gang_of_four(inside, four),
            "Four gains of the average mode. C is the controller, P = 1/(z − a) the layer without it.",
        ),
        _root_loci(loops, a),
        Picture(
            "pole-zero",
            "Closed-loop poles and zeros of the average mode in the z-plane",
            plots.figure_of(poles_and_zeros),
            "Inside the circle a pole dies out. Curves are of equal damping and of equal frequency. A zero on top of a "
            "pole cancels it.",
        ),
    )


def _root_loci(loops: dict[str, Loop], a: float) -> Picture:
    loci = {name: root_locus(replace(loop, controller=None), loop.controller, a, GAINS) for name, loop in loops.items()}
    zeros = {name: loop_transfer(loop, a).zeros() for name, loop in loops.items()}
    marks = {name: {"gain 1": mode(loop, a).poles()} for name, loop in loops.items()}
    loci_figure = plots.root_loci(GAINS, loci, zeros, marks=marks)
    return Picture(
        "root-locus",
        "Root locus of each loop in the overall gain of its controller",
        loci_figure,
        "Where the poles of the average mode go as one factor g of all gains grows from 0 (crosses) to infinity "
        "(zeros, or out of the frame). Squares: g = 1, the law as it is. Stable: all poles in the circle.",
    )


def _title(peaks: dict[str, Any]) -> str:
    """Say which laws keep the amplification of the error below the bound that control engineers ask for."""
    calm = [name for name, peak in peaks.items() if peak.ms < MOST]
    if len(calm) == len(peaks):
        return f"No controller amplifies a frequency of the error more than {MOST:g} times"
    if not calm:
        return f"Every controller amplifies some frequency of the error {MOST:g} times or more"
    return f"Only {listed(calm)} {'keeps' if len(calm) == 1 else 'keep'} the amplification of the error below {MOST:g}"


def _sentences(a: float, worst: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    unstable = [name for name, case in worst.items() if case["unstable"] > 0]
    return (
        f"Ms and Mt are the largest values of |S| and |T| over all frequencies, here of the average mode, "
        f"a = {number(a, 3)}. Ms below {MOST:g} is what control engineers ask for. The gain margin is the factor by "
        "which all gains may grow.",
        *((f"Ms is infinite on an unstable mode; {listed(unstable)} has such modes.",) if len(unstable) == 1 else ()),
        *((f"Ms is infinite on an unstable mode; {listed(unstable)} have such modes.",) if len(unstable) > 1 else ()),
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
        )
        for name, m in stability.items()
    )
    return Table(header, rows, f"Average mode, a = {number(a, 3)}, and worst case over the real spectrum")
