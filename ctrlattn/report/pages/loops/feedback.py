"""Section: <F(x), x> / <x, x>, the feedback gain of the sublayers of each recorded network."""

from typing import Any

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, listed, number, percent
from ctrlattn.signals import feedback_gain

SUBLAYERS = {"attention": ("state", "attention_out"), "MLP": ("mid", "mlp_out")}


def sections(material: Material) -> list[Section]:
    """Return the section on sign and gain of the feedback of each recorded layer."""
    gains = {name: network_gains(texts) for name, texts in material.networks.items()}
    gains = {name: by_sublayer for name, by_sublayer in gains.items() if by_sublayer}
    if not gains:
        return [
            Section(
                "feedback",
                "Attention alone was recorded: the sign of its feedback is not known",
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
            f"{name}: the gain ⟨F(x), x⟩ / ⟨x, x⟩ of each sublayer F over the layers. x is a token of the residual "
            "stream, F(x) what the sublayer adds to it. Below 0 the sublayer takes away what is there.",
        )
        for i, (name, by_sublayer) in enumerate(gains.items())
    )
    return [
        Section(
            key="feedback",
            title=_title(gains),
            sentences=(
                "Below zero a sublayer subtracts from the state what is there: negative feedback, a comparator. Above "
                "zero it adds.",
                *(
                    f"{name}: without states and contributions no gain can be measured."
                    for name in material.networks
                    if name not in gains
                ),
            ),
            pictures=pictures,
            tables=(_table(gains),),
            numbers={name: _numbers(by_sublayer) for name, by_sublayer in gains.items()},
            variables=_variables(gains),
        )
    ]


def _title(gains: dict[str, dict[str, np.ndarray]]) -> str:
    """Say how many layers have a negative median, of the first kind of sublayer that all networks have."""
    kind = next((kind for kind in SUBLAYERS if all(kind in by_sublayer for by_sublayer in gains.values())), None)
    if kind is None:
        return "The sign of the feedback differs from sublayer to sublayer"
    parts = [
        f"{int(np.sum(np.median(by_kind[kind], axis=-1) < 0))} of {count(len(by_kind[kind]), 'layer')} of {name}"
        for name, by_kind in gains.items()
    ]
    return f"{'Attention' if kind == 'attention' else 'The MLP'} is negative feedback in {listed(parts)}"


def network_gains(texts: Any) -> dict[str, np.ndarray]:
    """Return the gain of each kind of sublayer that was recorded, (layers, tokens of all texts)."""
    return {
        kind: np.concatenate([feedback_gain(_signal(t, x), _signal(t, f)) for t in texts], axis=-1)
        for kind, (x, f) in SUBLAYERS.items()
        if all(x in t and f in t for t in texts)
    }


def _signal(text: Any, name: str) -> np.ndarray:
    """Return one recorded signal in float64, (layers, tokens, features)."""
    return text[name].to_numpy()[: text.sizes["layer"]].astype(np.float64)


def _table(gains: dict[str, dict[str, np.ndarray]]) -> Table:
    header = ("network", "sublayer", "layers below 0", "lowest median", "tokens below 0 there", "highest median")
    rows = [(name, *_row(kind, gain)) for name, by_sublayer in gains.items() for kind, gain in by_sublayer.items()]
    return Table(header, tuple(rows), "Median gain of each sublayer over the tokens")


def _row(kind: str, gain: np.ndarray) -> tuple[str, ...]:
    median = np.median(gain, axis=-1)
    low, high = int(np.argmin(median)), int(np.argmax(median))
    return (
        kind,
        f"{int(np.sum(median < 0))} of {len(median)}",
        f"{number(median[low])} (layer {low})",
        percent(float(np.mean(gain[low] < 0))),
        f"{number(median[high])} (layer {high})",
    )


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
