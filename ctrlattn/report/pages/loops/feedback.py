"""Section: <F(x), x> / <x, x>, the feedback gain of the sublayers of each recorded network."""

from typing import Any

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import count, number, percent
from ctrlattn.signals import feedback_gain

SUBLAYERS = {"attention": ("state", "attention_out"), "MLP": ("mid", "mlp_out")}


def sections(material: Material) -> list[Section]:
    """The section on sign and gain of the feedback of each recorded layer."""
    gains = {name: network_gains(texts) for name, texts in material.networks.items()}
    gains = {name: by_sublayer for name, by_sublayer in gains.items() if by_sublayer}
    if not gains:
        return [
            Section(
                "feedback",
                "The sign and gain of the feedback",
                (
                    "These signals hold attention matrices only: without states and contributions no gain can be "
                    "measured.",
                ),
            )
        ]
    pictures = tuple(
        Picture(
            f"feedback-{i}" if i else "feedback",
            f"Feedback gain of every attention and MLP sublayer of {name}",
            plots.feedback_gain(by_sublayer, title=name),
        )
        for i, (name, by_sublayer) in enumerate(gains.items())
    )
    return [
        Section(
            key="feedback",
            title="The sign and gain of the feedback in a real network",
            sentences=(
                "The gain of a sublayer F on a token x of the residual stream is ⟨F(x), x⟩ / ⟨x, x⟩. Below zero it "
                "subtracts from the state what is there: this is negative feedback, a comparator. Above zero it adds.",
                *(_sentence(name, by_sublayer) for name, by_sublayer in gains.items()),
            ),
            pictures=pictures,
            numbers={name: _numbers(by_sublayer) for name, by_sublayer in gains.items()},
            variables=_variables(gains),
        )
    ]


def network_gains(texts: Any) -> dict[str, np.ndarray]:
    """Gain of each kind of sublayer, (layers, tokens of all texts); a kind that was not recorded is absent."""
    return {
        kind: np.concatenate([feedback_gain(_signal(t, x), _signal(t, f)) for t in texts], axis=-1)
        for kind, (x, f) in SUBLAYERS.items()
        if all(x in t and f in t for t in texts)
    }


def _signal(text: Any, name: str) -> np.ndarray:
    """One recorded signal in float64, (layers, tokens, features)."""
    return text[name].to_numpy()[: text.sizes["layer"]].astype(np.float64)


def _sentence(name: str, gains: dict[str, np.ndarray]) -> str:
    parts = []
    for kind, gain in gains.items():
        median = np.median(gain, axis=-1)
        negative = int(np.sum(median < 0))
        low, high = int(np.argmin(median)), int(np.argmax(median))
        parts.append(
            f"the median gain of the {kind} is negative in {negative} of {count(len(median), 'layer')}; it is lowest "
            f"in layer {low} ({number(median[low])}, negative on {percent(float(np.mean(gain[low] < 0)))} of tokens) "
            f"and highest in layer {high} ({number(median[high])})"
        )
    return f"{name}: {'; '.join(parts)}."


def _numbers(gains: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        kind: {
            "median": np.median(gain, axis=-1).tolist(),
            "share_of_tokens_negative": np.mean(gain < 0, axis=-1).tolist(),
        }
        for kind, gain in gains.items()
    }


def _variables(gains: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    return {
        f"feedback_gain_{kind.lower()}_{i}": (
            (f"layer_{i}", f"token_{i}"),
            gain,
            {"long_name": f"feedback gain of the {kind} sublayers of {name}", "units": "1"},
        )
        for i, (name, by_sublayer) in enumerate(gains.items())
        for kind, gain in by_sublayer.items()
    }
