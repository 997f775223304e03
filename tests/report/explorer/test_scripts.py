"""The numbers of the page equal those of the package: 100 random settings, in node and in a browser."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctrlattn import PID, CausalMean, Loop, SoftmaxAttention, config, presets
from ctrlattn.frequency.sensitivity_functions import sensitivity_peaks, sensitivity_response
from ctrlattn.linear.mode_polynomial import open_loop_pole, overshoot, settling, static_gain, step_responses
from ctrlattn.report.explorer.page import _laws
from ctrlattn.stability.modes.regions import (
    closed_loop_poles,
    is_stable,
    mode_intervals,
    mode_radius,
    region_boundary,
)

COUNT, PEAKS, CLOSE = 100, 20, 1e-9


def law_of(rng, k):
    """A random law; gains of 0 and the leaky and the exact form are common."""
    pick = lambda low, high, often=1.0: float(rng.uniform(low, high)) if rng.random() < often else 0.0  # noqa: E731
    gains = {"kp": pick(-0.5, 1.5), "ki": pick(-0.2, 1.0, 0.8), "kd": pick(-0.6, 0.6, 0.8), "ema": pick(0.05, 1.0)}
    plant = {"skip": pick(-1, 1, 0.9), "feedback": pick(-1.5, 1.5), "reference_gain": pick(0, 2)}
    mode = {"a": [pick(-0.8, 1.0), pick(-0.5, 0.5, 0.5)], "omega": rng.uniform(0.01, np.pi, 4).tolist()}
    heights = np.sort(rng.uniform(-1.2, 1.2, 3)).tolist()
    return {**gains, "form": ("printed", "ema")[k % 2], **plant, **mode, "heights": heights}


SETTINGS = [law_of(np.random.default_rng([17, k]), k) for k in range(COUNT)]


def loop_of(law):
    controller = PID(law["kp"], law["ki"], law["kd"], form=law["form"], ema=law["ema"])
    gains = {name: law[name] for name in ("skip", "feedback", "reference_gain")}
    return Loop(CausalMean(), controller=controller, **gains)


def numbers(value):
    return np.array(value, dtype=float)  # "NaN" and "Infinity" are read as such


def complex_of(value):
    pairs = numbers(value)
    return pairs[..., 0] + 1j * pairs[..., 1]


def expected(law, k):
    """What the package says of one setting."""
    loop, a = loop_of(law), complex(*law["a"])
    pid, alpha, omega = loop.controller, open_loop_pole(loop, a), np.array(law["omega"])
    num, den = pid.fraction()
    num = np.pad(num, (len(den) - len(num), 0))
    final, stable = static_gain(num, den, alpha), bool(is_stable(pid, alpha))
    s = sensitivity_response(pid, alpha, omega)
    facts = {
        "alpha": alpha, "radius": mode_radius(loop, a), "final": final, "S": s, "T": 1 - s,
        "boundary": region_boundary(pid, omega), "y": step_responses(num, den, np.array(alpha), 40),
    }  # fmt: skip
    if stable:
        y = step_responses(num, den, np.array(alpha), 2000)
        facts |= {"settling": settling(y, final), "overshoot": overshoot(y, final)}
    if k < PEAKS:
        facts["peak"] = sensitivity_peaks(pid, alpha).ms
    return facts, stable, closed_loop_poles(pid, alpha), mode_intervals(loop)


@pytest.fixture(scope="module")
def package():
    return [expected(law, k) for k, law in enumerate(SETTINGS)]


def assert_equal_to(package, given):
    """Every number to 1e-9, relative where it is larger than 1."""
    assert len(given) == len(package)
    for law, (facts, stable, poles, intervals), page in zip(SETTINGS, package, given, strict=True):
        for name, value in facts.items():
            page_value = complex_of(page[name]) if np.iscomplexobj(value) or name == "final" else numbers(page[name])
            np.testing.assert_allclose(page_value, value, rtol=CLOSE, atol=CLOSE, err_msg=f"{name} of {law}")
        assert (page["verdict"] == 0) == (page["many"] == 0) == stable, law
        assert page["verdict"] == page["many"], law
        far = np.abs(poles[:, None] - complex_of(page["poles"])[None])
        size = CLOSE * np.maximum(1, np.abs(poles))
        assert np.all(far.min(axis=1) < size), law
        assert np.all(far.min(axis=0) < size.max()), law
        assert len(page["intervals"]) == len(intervals), law
        np.testing.assert_allclose(numbers(page["intervals"]), numbers(intervals), rtol=CLOSE, atol=CLOSE)


@pytest.mark.slow
def test_node_computes_what_the_package_computes(node, package):
    assert_equal_to(package, node("answers(settings, numerics, region)", settings=SETTINGS))


@pytest.mark.slow
def test_the_page_in_a_browser_computes_what_the_package_computes(browser, written, package):
    functions = (Path(__file__).parent / "answers.js").read_text(encoding="utf-8")
    script = f"{functions} return answers({json.dumps(SETTINGS)}, numerics, region);"
    assert_equal_to(package, json.loads(browser(written, script)))


@pytest.mark.slow
def test_the_region_is_where_modes_are_stable(node):
    """Spans of the outline against the poles of points beside it, real and complex alike."""
    rng = np.random.default_rng(3)
    for law, page in zip(SETTINGS, node("answers(settings, numerics, region)", settings=SETTINGS), strict=True):
        loop, re = loop_of(law), rng.uniform(-2, 2, 12)
        for height, spans in zip(law["heights"], page["spans"], strict=True):
            inside = np.array([any(float(low) < x < float(high) for low, high in spans) for x in re])
            radius = mode_radius(loop, re + 1j * height)
            clear = np.abs(radius - 1) > 1e-4  # the outline is a polygon
            assert np.array_equal(inside[clear], (radius < 1)[clear]), (law, height)


@pytest.mark.parametrize(
    ("law", "a", "poles", "verdict"),
    [
        ({"kp": 0.25, "ki": 0.25}, 0.5, [0.5, 0.5], 0),  # (z - 1/2)^2
        ({"kp": 0.0}, 1.0, [1.0], 1),  # the consensus mode of plain attention
        ({"kp": 1.5}, 0.5, [-1.0], 1),  # z = -1
        ({"kp": 0.0, "kd": -0.25}, 0.75, [0.5, 0.5], 0),  # z (z - 3/4) - (z - 1)/4
        ({"kp": 0.3}, 0.3, [0.0], 0),  # deadbeat
        ({"kp": 0.0, "ki": 0.25, "form": "ema", "ema": 1.0}, 1.0, [0.5, 0.5], 0),  # z (z - 1) + 1/4
        ({"kp": -1.0}, 1.0, [2.0], 2),
    ],
)
def test_degenerate_modes_have_their_exact_poles(node, law, a, poles, verdict):
    """A double root is as exact as a simple one, which eigenvalues of a companion matrix are not."""
    full = {"kp": 0.0, "ki": 0.0, "kd": 0.0, "form": "printed", "ema": 0.3, "skip": 0.0, "feedback": 1.0, **law}
    mode = node("JSON.stringify(numerics.describeMode(law, [a, 0]))", law=full, a=a)
    given = complex_of(mode["poles"])
    far = np.abs(given[:, None] - np.array(poles)[None])
    assert far.min(axis=0).max() < 1e-14
    assert far.min(axis=1).max() < 1e-14
    assert mode["verdict"] == verdict


@pytest.mark.parametrize("law", _laws(), ids=lambda law: law["name"])
@pytest.mark.parametrize("causal", [pytest.param(True, marks=pytest.mark.slow), False])
def test_every_copied_text_is_the_loop(node, law, causal, tmp_path):
    copied = node("JSON.stringify([words.toml, words.python, words.command].map((f) => f(law, c)))", law=law, c=causal)
    wanted = presets.get(law["name"], predictor=SoftmaxAttention(causal=causal))
    assert_texts_are(copied, wanted, tmp_path)


@pytest.mark.parametrize("k", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(20, COUNT, 20))])
def test_copied_texts_keep_every_digit(node, k, tmp_path):
    law = {**SETTINGS[k], "skip": -0.0, "kp": 1e-7 * SETTINGS[k]["kp"], "feedback": 3.0}
    copied = node("JSON.stringify([words.toml, words.python, words.command].map((f) => f(law, c)))", law=law, c=True)
    assert_texts_are(copied, replace(loop_of(law), predictor=SoftmaxAttention()), tmp_path)


def assert_texts_are(copied, wanted, folder):
    """TOML, Python and the file that the command writes, each read by what reads it."""
    toml, python, command = copied
    (folder / "a.toml").write_text(toml, encoding="utf-8")
    assert config.load(folder / "a.toml").loop == wanted
    names = {}
    exec(python, names)
    assert names["loop"] == wanted
    lines = command.splitlines()
    assert lines[0] == "cat > loop.toml <<'END'"
    assert lines[-2:] == ["END", "ctrlattn report --config loop.toml"]
    assert "\n".join(lines[1:-2]) + "\n" == toml


def test_an_address_says_everything_and_nothing_else(node):
    state = {
        "law": {k: v for k, v in SETTINGS[1].items() if k not in ("a", "omega", "heights")},
        "network": 1, "text": None, "layer": 3, "head": None, "mode": 77, "laws": ["neutreno", "softmax"],
    }  # fmt: skip
    again = node("JSON.stringify(words.parsed('#' + words.fragment(state)))", state=state)
    assert again["law"] == state["law"]
    assert again["laws"] == state["laws"]
    assert {name: again.get(name) for name in ("network", "text", "layer", "head", "mode")} == {
        name: state[name] for name in ("network", "text", "layer", "head", "mode")
    }


@pytest.mark.parametrize(
    ("fragment", "law"),
    [
        ("#spectra", None),  # a section of the report
        ("", None),
        ("#kp=nan&ki=1e999&kd=&ema=0&skip=x&feedback=2", {"feedback": 2}),
        ("#kp=0.5&form=<script>&ema=1.5&layer=-1&mode=%E0%A4%A", {"kp": 0.5}),
    ],
)
def test_what_an_address_says_wrongly_is_left_out(node, fragment, law):
    parsed = node("JSON.stringify(words.parsed(text))", text=fragment)
    assert parsed == (None if law is None else {"law": law, "laws": []})


SHOWN = {
    "words.number(NaN)": "undefined",
    "words.number(-Infinity)": "−∞",
    "words.number(0)": "0",
    "words.number(-0.123456)": "−0.123",
    "words.number(1.234e-5)": "1.23·10^−5",
    "words.number(98765.4)": "98765",
    "words.number(0.99999)": "1.00",
    "words.complex([0.5, -0.25])": "0.500 − 0.250i",
    "words.complex([0.5, 1e-9])": "0.500",
    "words.complex([NaN, 0])": "undefined",
    "words.percent(0, 100000)": "0\u00a0%",
    "words.percent(1, 100000)": "0.001\u00a0%",
    "words.percent(99999, 100000)": "99.9\u00a0%",
    "words.percent(1, 0)": "undefined",
    "words.counted(7560, 'mode')": "7,560 modes",
    "words.intervals([[-1, 1]])": "for a in (−1.00, 1.00)",
    "words.intervals([])": "for no a",
    "words.settling({verdict: 0, settling: Infinity}, 2000)": "not within 2,000 layers",
    "words.settling({verdict: 0, settling: 1}, 2000)": "after 1 layer",
    "words.settling({verdict: 2, settling: Infinity}, 2000)": "never: no stable pole",
}


def test_numbers_are_shown_with_the_digits_they_have(node):
    """One process shows all of them."""
    assert dict(zip(SHOWN, node(f"JSON.stringify([{', '.join(SHOWN)}])"), strict=True)) == SHOWN
