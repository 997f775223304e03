"""Section: ||x_k|| <= ||A^k|| ||x_0||, transient growth of a disturbance, and pseudospectra of the automaton's pass."""

from dataclasses import replace
from typing import Any

import numpy as np

from ctrlattn import plots, presets
from ctrlattn.linear import pass_operator, token_system
from ctrlattn.loop import Loop
from ctrlattn.predictors import FixedAttention
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, number, percent
from ctrlattn.stability import pseudospectral_radius, pseudospectrum, transient_growth
from ctrlattn.stability.modes.regions import mode_radius

PASSES, TOKENS, DISTURBANCE = 15, 12, 1e-3
RE, IM = np.linspace(-0.4, 2.4, 71), np.linspace(-1.4, 1.4, 71)
CAVEAT = (
    "Attention is frozen: each recorded matrix acts in every layer, one head at a time, without residual stream, "
    "projections, MLP or norm. The values of the tokens are disturbed at one layer, and their 2-norm is measured. "
    "A pole on the unit circle, the consensus of plain softmax, counts as stable."
)


def sections(material: Material) -> list[Section]:
    """Show the automaton's pass operator, and every linear loop with every recorded matrix of one text."""
    automaton = pass_operator(presets.get("prediction-error"), TOKENS)
    growth = transient_growth(automaton, PASSES)
    rho = pseudospectral_radius(automaton, DISTURBANCE)
    peaks = {name: amplification(loop, material) for name, loop in material.linear.items()}
    return [
        Section(
            key="transients",
            title=_title(peaks, float(growth.norms[-1])),
            sentences=(
                _automaton(growth.norms, rho),
                *(
                    f"{name}: none of the {len(stable)} recorded matrices leaves it stable."
                    for name, (_, stable) in peaks.items()
                    if not stable.any()
                ),
            ),
            pictures=_pictures(automaton, growth, material, peaks),
            caveat=CAVEAT,
            tables=(_table(peaks),) if peaks else (),
            numbers={
                "automaton_growth": growth.norms,
                "automaton_radius_after_disturbance": rho,
                "loops": {name: _summary(*growth_and_stable) for name, growth_and_stable in peaks.items()},
            },
            variables={"automaton_growth": (("passes",), growth.norms, {"long_name": "norm of the power of a pass"})},
        )
    ]


def amplification(loop: Loop, material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Return (growth, stable) of each recorded matrix of the first text: (matrices, layers + 1) and (matrices,).

    Growth is the 2-norm of the map from a disturbance of the tokens at one layer to the tokens k layers later. The
    controller is at rest before.
    """
    matrices = material.texts[0]["attention"].to_numpy().astype(np.float64)
    matrices = matrices.reshape(-1, *matrices.shape[-2:])
    n = matrices.shape[-1]
    a = np.stack([token_system(replace(loop, predictor=FixedAttention(m)), n).A for m in matrices])
    width = a.shape[-1] // n  # states of a token, its value first
    power = np.broadcast_to(np.eye(a.shape[-1])[:, ::width], (len(a), a.shape[-1], n))
    norms = [np.ones(len(a))]
    for _ in range(material.layers):
        power = a @ power
        norms.append(np.linalg.norm(power[:, ::width], 2, axis=(1, 2)))
    radius = mode_radius(loop, np.linalg.eigvals(matrices))
    return np.stack(norms, axis=1), np.max(radius, axis=-1) <= 1 + 1e-9


def _summary(growth: np.ndarray, stable: np.ndarray) -> dict[str, float]:
    """Return the peak of the growth and its value at the last layer, over the stable matrices."""
    stable_growth = growth[stable]
    if not len(stable_growth):
        return {"stable_share": 0.0, "median_peak": np.nan, "largest_peak": np.nan, "median_end": np.nan}
    peak = stable_growth.max(axis=1)
    return {
        "stable_share": float(np.mean(stable)),
        "median_peak": float(np.median(peak)),
        "largest_peak": float(peak.max()),
        "median_end": float(np.median(stable_growth[:, -1])),
    }


def _automaton(norms: np.ndarray, rho: float) -> str:
    return (
        f"All eigenvalues of one pass of the prediction-error automaton on {count(TOKENS, 'token')} are 1, and yet "
        f"its powers grow: {number(norms[1])} after one pass, {number(norms[5])} after 5, {number(norms[-1], 1)} after "
        f"{PASSES}. A disturbance of the operator of {DISTURBANCE:g} can move an eigenvalue out to {number(rho, 3)}: "
        "here the spectrum alone decides nothing."
    )


def _title(peaks: dict[str, Any], automaton: float) -> str:
    """Say the largest growth among stable matrices; without any, that of the automaton."""
    largest = max((float(norms[stable].max()) for norms, stable in peaks.values() if stable.any()), default=0.0)
    if largest > 1 + 1e-6:
        return f"Stable is not calm: a disturbance can grow {number(largest, 1)} times on its way"
    if largest > 0:
        return "Where a law is stable, no disturbance grows on its way"
    return f"With all eigenvalues at 1, the automaton still amplifies {number(automaton, 1)} times"


def _pictures(automaton: np.ndarray, growth: Any, material: Material, peaks: dict[str, Any]) -> tuple[Picture, ...]:
    sigma = pseudospectrum(automaton, RE[None, :] + 1j * IM[:, None])
    contours = plots.pseudospectrum_contours(
        RE, IM, sigma, np.diagonal(automaton), title=f"One pass of the automaton, {TOKENS} tokens"
    )
    powers = plots.transient_growth(growth, title="Powers of one pass of the automaton", unit="passes")
    quartiles = {
        name: np.quantile(norms[stable], [0.25, 0.5, 0.75], axis=0).T
        for name, (norms, stable) in peaks.items()
        if stable.any()
    }
    pictures = [
        Picture(
            "pseudospectrum",
            "Pseudospectra of one pass of the automaton: contours leave the unit circle around the eigenvalue 1",
            plots.figure_of(contours),
            "Where eigenvalues of the automaton's pass A can go: on the contour 10⁻ᵏ the smallest singular value of "
            "zI − A is 10⁻ᵏ, and a disturbance of A of that norm can put an eigenvalue there.",
        ),
        Picture(
            "automaton-growth",
            "Norm of the powers of one pass of the automaton",
            plots.figure_of(powers),
            "How much k passes amplify at most, between the bound from one pass and what the eigenvalues alone say.",
        ),
    ]
    if quartiles:
        decay = plots.time_response(
            quartiles, ylabel="Amplification (2-norm)", title=f"A disturbance under the attention of {material.network}"
        )
        pictures.append(
            Picture(
                "disturbance", "Amplification of a disturbance over the layers, quartiles over the recorded matrices",
                plots.figure_of(decay),
                "A disturbance of the tokens at layer 0, as the norm of what is left of it. Lines: median over the "
                "recorded matrices on which the law is stable; bands: quartiles.",
            )
        )  # fmt: skip
    return tuple(pictures)


def _table(peaks: dict[str, Any]) -> Table:
    rows = tuple(
        (
            name,
            percent(summary["stable_share"]),
            number(summary["median_peak"]),
            number(summary["largest_peak"]),
            number(summary["median_end"], 3),
        )
        for name, summary in ((name, _summary(*values)) for name, values in peaks.items())
    )
    header = ("loop", "matrices stable", "peak, median", "peak, worst", "left at the end, median")
    return Table(header, rows, "Amplification of a disturbance of the tokens, over the stable matrices of one text")
