"""The first screen: its numbers are those of the sections, and headings stay true in opposite cases."""

import re

import numpy as np
import pytest

from ctrlattn import presets, signals
from ctrlattn.linear import StepMetrics
from ctrlattn.report.pages.loops import (
    configurations,
    exponents,
    feedback,
    frequency,
    spectra,
    time_response,
    tokens,
    transients,
)
from ctrlattn.report.pages.loops.front import front
from ctrlattn.report.pages.loops.material import Material, named_loops
from ctrlattn.report.words import number, percent

LAWS = ("softmax", "neutreno", "pidformer-printed")


def recording(layers=3, heads=2, n=5, **leave):
    rng = np.random.default_rng(4)
    scores = np.tril(rng.random((layers, heads, n, n)) + 0.05)
    arrays = {"attention": scores / scores.sum(-1, keepdims=True)}
    if not leave.get("alone"):
        arrays |= {name: rng.standard_normal((layers, n, 4 * heads)) for name in ("attention_out", "mlp_out")}
        arrays["embedding"] = rng.standard_normal((n, 4 * heads))
    return signals.dataset(arrays, attrs={"model": "toy", "norm": "pre", "causal": 1})


def material(names=LAWS, networks=("toy", "<b>other</b>")):
    return Material(named_loops(names, {}), {network: [recording()] for network in networks})


def numbers_of(shares, factors, medians, gains, designed=None):
    return {
        "feedback": {network: {"attention": {"median": values}} for network, values in medians.items()},
        "tokens": {"difference_gain_by_layer": np.array(gains)},
        "spectra": {"unstable_share": shares} if shares else {},
        "comparison": {law: {"verdict": "a verdict", "state": "warn"} for law in (*LAWS, "prediction-error")},
        "design": {"stable_factors": factors, "designed": designed or {"printed law": {"not_met": "margin"}}},
    }


@pytest.mark.parametrize("seed", range(40))
def test_every_number_of_the_answers_is_one_of_the_sections(seed):
    rng = np.random.default_rng(seed)
    networks = ("toy", "<b>other</b>")[: 1 + seed % 2]
    shares = {law: {net: float(rng.choice([0, rng.random(), 1e-3 * rng.random()])) for net in networks} for law in LAWS}
    choices = [None, (0.0, float(rng.random())), (float(rng.random()), 1 + float(rng.random())), (0.0, np.inf)]
    factors = {law: {net: choices[rng.integers(4)] for net in networks} for law in LAWS[1:]}
    medians = {net: rng.normal(size=7).tolist() for net in networks}
    gains = rng.uniform(0, 1.4, 5)
    design = {name: float(rng.normal()) for name in ("kp", "ki", "kd", "modulus_margin")}
    design["stable_share"] = float(rng.choice([0.9, 1.0]))
    answers = front(
        material(networks=networks), numbers_of(shares, factors, medians, gains, {"printed law": design})
    ).answers
    assert len(answers) == 3
    acts, stable, would = answers
    for net in networks:
        assert f"{sum(value < 0 for value in medians[net])} of 7 layers of {net}" in acts
    assert f"by {number(gains.min())} to {number(gains.max())}" in acts
    worst = {law: max(by_network.values()) for law, by_network in shares.items()}
    assert stable.count("of the modes unstable") == any(share > 0 for share in worst.values())
    assert re.findall(r"([\w-]+) leaves (\d[^;]*?)(?: of the modes unstable)?(?:;|\.$)", stable) == [
        (law, percent(share)) for law, share in worst.items() if share > 0
    ]
    calm = [law for law, share in worst.items() if share == 0]
    assert ("none is stable" in stable) == (not calm)
    head = stable.partition("no recorded mode")[0]
    assert all(law in head for law in calm)
    said = set(re.findall(r"−?\d+\.\d\d", would))
    spans = [span for by_network in factors.values() for span in by_network.values() if span is not None]
    ends = {number(end) for span in spans for end in span if 0 < end < np.inf}
    own = (
        {number(design[name]) for name in ("kp", "ki", "kd", "modulus_margin")}
        if design["stable_share"] == 1
        else set()
    )
    assert said == ends | own
    assert would.count("for no factor") == sum(any(factors[law][net] is None for law in factors) for net in networks)


def test_answers_without_laws_that_have_modes_and_without_states():
    alone = Material(named_loops(["prediction-error"], {}), {"bare": [recording(alone=True)]})
    answers = front(alone, numbers_of({}, {}, {}, [0.5])).answers
    assert "attention alone" in answers[0]
    assert "negative feedback" not in answers[0]
    assert "None of the laws compared is linear" in answers[1]
    assert "No law compared has a controller" in answers[2]


def test_a_single_token_has_no_differences_to_smooth():
    answers = front(material(), numbers_of({"softmax": {"toy": 0.0}}, {}, {"toy": [0.0]}, [0.0])).answers
    assert "in 0 of 1 layer of toy" in answers[0]
    assert "differences" not in answers[0]


def test_laws_have_a_line_an_equation_and_the_verdict():
    shown = front(material(), numbers_of({"softmax": {"toy": 0.0}}, {}, {}, [0.5])).laws
    assert [law.name for law in shown] == list(LAWS)
    assert [law.equation for law in shown] == ["x⁺ = y", "x⁺ = y + 0.6 e", "x⁺ = y + 0.8 e + 0.5 Σe + 0.05 Δe"]
    assert all(law.line and "<-" not in law.line and law.verdict == ("a verdict", "warn") for law in shown)


@pytest.mark.parametrize(
    ("shares", "title"),
    [
        ({"a": {"n": 0.0}}, "The one law leaves no recorded mode unstable"),
        ({"a": {"n": 0.0}, "b": {"n": 0.0}}, "All 2 laws leave no recorded mode unstable"),
        ({"a": {"n": 0.0, "m": 1e-9}, "b": {"n": 0.0, "m": 0.0}}, "1 of 2 laws leaves no recorded mode unstable"),
        ({"a": {"n": 1.0}, "b": {"n": 0.1}}, "No law is stable on every recorded mode"),
    ],
)
def test_heading_of_the_spectra(shares, title):
    assert spectra._title(shares) == title


def metrics(error, settling=3.0):
    return StepMetrics(1 - error, settling, 0.0, error, diverged=False)


def test_headings_in_opposite_cases():
    assert exponents._title({"a": np.array([[-0.1]]), "b": np.array([[0.0]])}).endswith(
        "no law lets a disturbance grow for good"
    )
    assert exponents._title({"a": np.array([[0.1]]), "b": np.array([[0.0]])}).endswith("grows under a alone")
    assert exponents._title({"a": np.array([[0.1]]), "b": np.array([[0.2]])}).endswith(
        "every law lets a disturbance grow"
    )
    assert time_response._title({"a": metrics(0.0), "b": metrics(0.5)}).startswith("Only a brings")
    assert time_response._title({"a": metrics(0.0, np.inf)}).startswith("No law")
    assert time_response._title({"a": metrics(-0.04)}).startswith("Every law")
    assert "none" not in time_response._title({"a": metrics(0.0)})
    assert tokens._title(np.array([0.5, 0.9])).endswith("in every layer")
    assert tokens._title(np.array([0.5, 1.1])).endswith("in 1 of 2 layers")
    assert tokens._title(np.array([1.0])).endswith("in 0 of 1 layer")
    grown, calm = np.array([[1.0, 2.5]]), np.array([[1.0, 0.5]])
    assert "2.5 times" in transients._title({"a": (grown, np.array([True]))}, 9.0)
    assert "no disturbance grows" in transients._title({"a": (calm, np.array([True]))}, 9.0)
    assert "9.0 times" in transients._title({"a": (grown, np.array([False]))}, 9.0)
    assert "9.0 times" in transients._title({}, 9.0)
    gains = {"attention": np.array([[-1.0, -2.0], [1.0, 2.0], [1.0, 2.0]])}
    assert feedback._title({"n": gains}) == "Attention is negative feedback in 1 of 3 layers of n"
    assert feedback._title({"n": {"MLP": gains["attention"]}}).startswith("The MLP is negative feedback in 1 of 3")
    facts = {"a": {"outside": {"n": 0.0}}, "b": {"outside": {"n": 0.2}}}
    assert configurations._title(facts).startswith("1 of 2 published configurations is stable")
    assert configurations._title({"b": facts["b"]}).startswith("None of 1")
    assert configurations._title({"a": facts["a"]}).startswith("All 1")


def test_heading_of_the_frequency_section():
    peaks = {name: frequency.sensitivity_peaks(presets.get(name).controller, 0.5) for name in LAWS[1:]}
    calm = [name for name, peak in peaks.items() if peak.ms < 2]
    title = frequency._title(peaks)
    assert calm == [name for name in peaks if name in title] or len(calm) in (0, len(peaks))
    low = {"a": peaks["neutreno"]._replace(ms=1.2)}
    assert frequency._title(low).startswith("No controller amplifies")
    assert frequency._title({"a": low["a"]._replace(ms=np.inf)}).startswith("Every controller")
    assert frequency._title({**low, "b": low["a"]._replace(ms=2.0)}).startswith("Only a keeps")
