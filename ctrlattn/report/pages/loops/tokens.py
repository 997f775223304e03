"""Section: attention as a filter along the tokens, and the diversity of the tokens over depth."""

from typing import Any

import numpy as np

from ctrlattn import plots
from ctrlattn.frequency import difference_gain, mean_cosine, participation_rank, token_frequency_response
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, number, percent

OMEGA = np.linspace(0.0, np.pi, 97)  # rad/token


def sections(material: Material) -> list[Section]:
    """Return the section on attenuation per token frequency and per mode, and on diversity over depth."""
    attention = [text["attention"].to_numpy().astype(np.float64) for text in material.texts]
    gains = _by_layer(attention, difference_gain)
    response = _responses(attention)
    cosine = _diversity(material, mean_cosine)
    rank = _diversity(material, participation_rank)
    return [
        Section(
            key="tokens",
            title=_title(gains),
            sentences=(_filter_sentence(material, gains), _mode_sentence(material)),
            tables=(_table(material, cosine, rank),),
            pictures=_pictures(material, response, cosine, rank),
            caveat=(
                f"The simulated loops are value dynamics: the recorded matrices act on {material.start_words}, without "
                "MLP, norm and re-projection. The network's own curve, where states were recorded, has all of them."
            ),
            numbers={
                "difference_gain_by_layer": gains,
                "mean_cosine_at_the_end": {name: float(curve[-1]) for name, curve in cosine.items()},
                "participation_rank_at_the_end": {name: float(curve[-1]) for name, curve in rank.items()},
            },
            variables={
                "token_difference_gain": (("layer",), gains, {"long_name": "gain on token differences", "units": "1"}),
                **_variables("mean_cosine", cosine),
                **_variables("participation_rank", rank),
            },
        )
    ]


def _by_layer(attention: list[np.ndarray], measure: Any) -> np.ndarray:
    """Return the mean of a measure over heads and texts, (layers, ...)."""
    return np.mean([np.mean(measure(a), axis=1) for a in attention], axis=0)


def _responses(attention: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the gain per token frequency of the first, middle and last layer."""
    by_layer = _by_layer(attention, lambda a: token_frequency_response(a, OMEGA))
    layers = sorted({0, len(by_layer) // 2, len(by_layer) - 1})
    return {f"layer {i}": by_layer[i] for i in layers}


def _diversity(material: Material, measure: Any) -> dict[str, np.ndarray]:
    """Return a measure over depth, averaged over texts, of the network and of each loop that its attention drives."""
    curves = {}
    if all("state" in text for text in material.texts):
        states = [text["state"].to_numpy().astype(np.float64) for text in material.texts]
        curves["the network itself"] = np.mean([measure(x) for x in states], axis=0)
    with np.errstate(over="ignore", invalid="ignore"):  # an unstable loop may overflow
        for name, runs in material.trajectories.items():
            curves[name] = np.mean([measure(x) for x in runs], axis=0)
    return curves


def _pictures(
    material: Material, response: dict[str, np.ndarray], cosine: dict[str, np.ndarray], rank: dict[str, np.ndarray]
) -> tuple[Picture, ...]:
    depth = np.arange(material.layers + 1)
    return (
        Picture(
            "token-response",
            f"Gain of {material.network}'s attention over the frequency along the tokens",
            plots.figure_of(plots.token_response(OMEGA, response)),
            "How much attention passes of a wave along the tokens: 0 is a constant, π changes sign at every token. "
            "Below 0 dB it smooths. Mean over heads and texts.",
        ),
        Picture(
            "diversity-cosine",
            "Mean pairwise cosine of the tokens over depth",
            plots.figure_of(plots.diversity(depth, cosine, ylabel="Mean pairwise cosine")),
            "Mean cosine of all pairs of tokens: 1 means that all tokens are alike.",
        ),
        Picture(
            "diversity-rank",
            "Participation rank of the tokens over depth",
            plots.figure_of(plots.diversity(depth, rank, ylabel="Participation rank")),
            "The effective number of directions that the tokens use: 1 means that all tokens are alike.",
        ),
    )


def _title(gains: np.ndarray) -> str:
    smoothing = int(np.sum(gains < 1))
    if smoothing == len(gains):
        return "Along the tokens attention smooths in every layer"
    return f"Along the tokens attention smooths in {smoothing} of {count(len(gains), 'layer')}"


def _filter_sentence(material: Material, gains: np.ndarray) -> str:
    return (
        f"Every attention matrix of {material.network} passes the mean of the tokens unchanged. Its mean gain on "
        f"their differences, as a root mean square, lies between {number(float(gains.min()))} and "
        f"{number(float(gains.max()))}, by layer; "
        "below 1 it smooths."
    )


def _mode_sentence(material: Material) -> str:
    moduli = np.abs(material.spectra[material.network])
    strong = float(np.mean(moduli < 0.1))
    return (
        f"Mode by mode, {percent(strong)} of its eigenvalues are below 0.1 in modulus: one layer of pure attention "
        f"takes more than 20 dB off them; the median mode is attenuated by "
        f"{number(-20 * float(np.log10(max(np.median(moduli), 1e-300))), 1)} dB."
    )


def _table(material: Material, cosine: dict[str, np.ndarray], rank: dict[str, np.ndarray]) -> Table:
    rows = tuple((name, number(float(cosine[name][-1])), number(float(rank[name][-1]), 1)) for name in cosine)
    caption = f"Diversity of the tokens after {count(material.layers, 'layer')}"
    return Table(("network or law", "mean pairwise cosine", "participation rank"), rows, caption)


def _variables(name: str, curves: dict[str, np.ndarray]) -> dict[str, Any]:
    if not curves:
        return {}
    attrs, dim = {"long_name": name.replace("_", " "), "units": "1"}, f"curve_{name}"
    return {
        name: ((dim, "depth"), np.stack(list(curves.values())), attrs),
        dim: ((dim,), np.array(list(curves)), {"long_name": "the network itself, or a loop that its attention drives"}),
    }
