"""The equation of a loop, evaluated as written, is the next state of the loop."""

import numpy as np
import pytest

from ctrlattn import PID, FixedAttention, Loop, presets, rms_norm
from ctrlattn.report.pages.loops.equations import equation


def evaluated(text, **letters):
    """What an equation of this page says, as a number: its letters stand for the given values."""
    total = 0.0
    for sign, term in zip(*split(text.removeprefix("x⁺ = ")), strict=True):
        *gain, letter = term.split(" ")
        total += sign * float(gain[0] if gain else 1) * letters[letter]
    return total


def split(text):
    words, signs = text.replace("−", " − ").replace("+", " + ").split(), []
    terms = [[]]
    for word in words:
        if word in "+−":
            signs.append(1 if word == "+" else -1)
            terms.append([])
        else:
            terms[-1].append(word)
    terms = [" ".join(term) for term in terms if term]
    return ([1] if len(signs) < len(terms) else []) + signs, terms


@pytest.mark.parametrize("seed", range(20))
def test_the_equation_is_what_a_layer_computes(seed):
    rng = np.random.default_rng(seed)
    skip, feedback, kp, ki, kd = (float(rng.choice([0, 1, -1, round(x, 3)])) for x in rng.normal(size=5))
    loop = Loop(FixedAttention(np.array([[0.5]])), skip=skip, feedback=feedback, controller=PID(kp, ki, kd))
    start, r = np.array([[1.3]]), np.array([[2.0]])
    x, state, _ = loop.step(start, loop.init(start, r))  # layer 0, where no controller acts
    after, _, signals = loop.step(x, state)
    e, before = float((r - x)[0, 0]), float((r - start)[0, 0])
    letters = {"x": x[0, 0], "y": signals.prediction[0, 0], "e": e, "Σe": e, "Δe": e - before}
    text = equation(loop)
    assert text == "x⁺ = 0" or np.isclose(evaluated(text, **letters), after[0, 0])


def test_words_of_each_kind_of_loop():
    assert equation(presets.get("softmax")) == "x⁺ = y"
    assert equation(presets.get("pidformer-ema")) == "x⁺ = y + 0.8 e + 0.5 e̅ + 0.05 Δe₋"
    assert equation(presets.get("prediction-error-rms")) == "x⁺ = N(x − y)"
    matrix = FixedAttention(np.eye(2))
    assert equation(Loop(matrix, skip=0.0, feedback=0.0)) == "x⁺ = 0"
    assert equation(Loop(matrix, skip=np.ones(3), feedback=-2.0)) == "x⁺ = g∘x − 2 y"
    assert equation(Loop(matrix, normalizer=rms_norm, normalize_input=True)) == "x⁺ = x − y, y from N(x)"
