"""numbers of the sections -> three sentences: what attention does as feedback, what is stable, what would be."""

import math
from collections.abc import Mapping
from typing import Any

from ctrlattn import presets
from ctrlattn.report.page import Front, LawRow
from ctrlattn.report.pages.loops.equations import equation
from ctrlattn.report.pages.loops.material import Material, why_not_linear
from ctrlattn.report.words import count, listed, number, percent


def front(material: Material, numbers: Mapping[str, Any]) -> Front:
    """Word the first screen; every number in it is one of `numbers`, which summary.json holds."""
    answers = (_feedback_sentence(material, numbers), _stable(material, numbers), _design_sentence(material, numbers))
    return Front(answers, _laws(material, numbers))


def _feedback_sentence(material: Material, numbers: Mapping[str, Any]) -> str:
    kinds = numbers["feedback"]
    medians_by_network = {name: kinds[name]["attention"]["median"] for name in kinds if "attention" in kinds[name]}
    parts = [
        f"in {sum(gain < 0 for gain in medians)} of {count(len(medians), 'layer')} of {name}"
        for name, medians in medians_by_network.items()
    ]
    sentences = [f"Attention works against the state (negative feedback) {listed(parts)}."] if parts else []
    alone = [name for name in material.networks if name not in medians_by_network]
    if alone:
        sentences.append(
            f"{listed(alone)}: recorded is attention alone, so that the sign of its feedback is not known."
        )
    gains = numbers["tokens"]["difference_gain_by_layer"]
    if float(max(gains)) > 0:
        sentences.append(
            f"Between the tokens it {_smooths(gains)}: the attention of {material.network} multiplies their "
            f"differences by {number(float(min(gains)))} to {number(float(max(gains)))}, by layer."
        )
    return " ".join(sentences) or "One token has nothing to attend to but itself."


def _smooths(gains: Any) -> str:
    smoothing = sum(gain < 1 for gain in gains)
    return "smooths" if smoothing == len(gains) else f"smooths in {smoothing} of {count(len(gains), 'layer')}"


def _stable(material: Material, numbers: Mapping[str, Any]) -> str:
    shares: Mapping[str, Mapping[str, float]] = numbers["spectra"].get("unstable_share", {})
    if not shares:
        return "None of the laws compared is linear and time-invariant, so that none has modes that could be stable."
    worst = {name: max(by_network.values()) for name, by_network in shares.items()}
    calm = [name for name, share in worst.items() if share == 0]
    of = count(len(shares), "linear law" if len(shares) < len(material.loops) else "law")
    sentence = (
        f"Of {of} compared, {listed(calm)} {'leaves' if len(calm) == 1 else 'leave'} no recorded mode unstable."
        if calm
        else f"Of {of} compared, none is stable on every recorded mode."
    )
    unstable = [f"{name} leaves {percent(share)}" for name, share in worst.items() if share > 0]
    where = "" if len(material.networks) == 1 else "On the network that suits it least, "
    return sentence + (
        f" {where}{'; '.join([f'{unstable[0]} of the modes unstable', *unstable[1:]])}." if unstable else ""
    )


def _design_sentence(material: Material, numbers: Mapping[str, Any]) -> str:
    factors: Mapping[str, Mapping[str, Any]] = numbers["design"]["stable_factors"]
    sentences = []
    if factors:
        parts = [f"on {network} {_factors(network, factors)}" for network in material.networks]
        sentences.append(f"With all gains multiplied by one factor, every mode is stable {'; '.join(parts)}.")
    for law, gains in numbers["design"]["designed"].items():
        if gains.get("stable_share") == 1:
            kp, ki, kd, margin = (number(gains[name]) for name in ("kp", "ki", "kd", "modulus_margin"))
            sentences.append(
                f"With kp = {kp}, ki = {ki} and kd = {kd} the {law} is stable on every mode of {material.network}, "
                f"with a modulus margin of {margin}."
            )
            break
    return " ".join(sentences) or "No law compared has a controller, and no other gains were found."


def _factors(network: str, factors: Mapping[str, Mapping[str, Any]]) -> str:
    """Say for which factors each law is stable on one network."""
    spans = {name: by_network[network] for name, by_network in factors.items()}
    parts = [f"{_span(*span)} ({name})" for name, span in spans.items() if span is not None]
    none = [name for name, span in spans.items() if span is None]
    never = f"for no factor ({listed(none)})" if none else ""
    return listed([*parts, never] if never else parts)


def _span(low: float, high: float) -> str:
    if math.isinf(high):
        return f"above {number(low)}" if low > 0 else "for every factor"
    return f"below {number(high)}" if low < 1e-9 else f"from {number(low)} to {number(high)}"


def _laws(material: Material, numbers: Mapping[str, Any]) -> tuple[LawRow, ...]:
    verdicts = numbers["comparison"]
    return tuple(
        LawRow(name, _line(name, loop), equation(loop), (verdicts[name]["verdict"], verdicts[name]["state"]))
        for name, loop in material.loops.items()
    )


def _line(name: str, loop: Any) -> str:
    """Return the summary of a preset; a loop of a file is said to be one."""
    if name in presets.names():
        head, _, formula = presets.describe(name).summary.partition(": ")
        return (
            head if "<-" in formula or not formula else f"{head}: {formula}".replace("v_0", "x₀")
        )  # the equation stands beside
    reason = why_not_linear(loop)
    return "a loop of your own" + (f"; {reason}" if reason else "")
