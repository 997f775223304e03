"""The compiled sweep against a literal loop: pass after pass, token after token, in float64."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import Scaling, sweep

SKIP, FEEDBACK, N, D, PASSES = 0.9, -0.6, 7, 3, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def factor(token, scaling):
    return 1.0 / np.sqrt(scaling.power * np.sum(token**2) + scaling.eps)


def literal(x, sums, scaling, start=0, hold_first=False, control=None):
    """(states, predictions, sums) of one sequence; `sums` holds what came before, for each pass."""
    states, predictions, sums = [x], [], sums.copy()
    for p in range(len(sums)):
        state, prediction = [], []
        for i, token in enumerate(states[-1]):
            y = sums[p] / max(start + i, 1)
            new = SKIP * token + FEEDBACK * y + (0.0 if control is None else control[i])
            if hold_first and start + i == 0:
                new, y = token, 0.0 * y
            elif scaling is not None and not scaling.pre:
                new = new * factor(new, scaling) * (1.0 if scaling.weight is None else scaling.weight)
            seen = new * factor(new, scaling) if scaling is not None and scaling.pre else new
            sums[p] = sums[p] + seen
            state.append(new)
            prediction.append(y)
        states.append(np.stack(state))
        predictions.append(np.stack(prediction))
    return np.stack(states), np.stack(predictions), sums


SCALINGS = {
    "none": None,
    "rms": Scaling(1.0 / D, 1e-3),
    "weight": Scaling(1.0 / D, 1e-3, np.array([2.0, 0.5, -1.0])),
    "pre": Scaling(1.0, 0.1, None, pre=True),
}


@every_case("start", [0, 5])
@every_case("hold_first", [False, True])
@every_case("name", SCALINGS)
def test_the_sweep_is_the_literal_loop(name, hold_first, start):
    x, before = draws(2, N, D), draws(2, PASSES, D, seed=1) if start else np.zeros((2, PASSES, D))
    options = {"skip": SKIP, "feedback": FEEDBACK, "scaling": SCALINGS[name], "start": start, "hold_first": hold_first}
    sums = before.copy()
    states, predictions = sweep(x, sums, **options, record=True)
    last, nothing = sweep(x, before.copy(), **options)
    assert nothing is None
    for b in range(2):
        expected = literal(x[b], before[b], SCALINGS[name], start, hold_first)
        for array, exact in zip((states[:, b], predictions[:, b], sums[b]), expected, strict=True):
            assert_allclose(array, exact, rtol=1e-11, atol=1e-12)
        assert_allclose(last[0, b], expected[0][-1], rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "weight"])  # each one is compiled; with and without a norm go different ways
def test_a_control_is_added_in_its_pass(name):
    x, control = draws(1, N, D), draws(1, N, D, seed=2)
    states, predictions = sweep(
        x, np.zeros((1, 1, D)), skip=SKIP, feedback=FEEDBACK, scaling=SCALINGS[name], control=control, record=True
    )
    expected = literal(x[0], np.zeros((1, D)), SCALINGS[name], control=control[0])
    assert_allclose(states[:, 0], expected[0], rtol=1e-11, atol=1e-12)
    assert_allclose(predictions[:, 0], expected[1], rtol=1e-11, atol=1e-12)


@every_case("n", [1, 2, 3])
def test_pairs_of_tokens_and_the_last_one_alone(n):
    x = draws(1, n, D).astype(np.float32)
    states, _ = sweep(x, np.zeros((1, PASSES, D)), skip=SKIP, feedback=FEEDBACK, scaling=None)
    assert states.dtype == np.float32
    expected = literal(x[0].astype(float), np.zeros((PASSES, D)), None)[0][-1]
    assert_allclose(states[0, 0], expected, rtol=1e-5, atol=1e-6)
