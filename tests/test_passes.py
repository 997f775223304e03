"""One controlled pass against its equation written out, on both array kinds, and every way to make it wrongly."""

import control
import numpy as np
import numpy.testing as npt
import pytest

from ctrlattn import PID, InputError, InputTypeError, LTIController
from ctrlattn.arrays import like, to_numpy
from ctrlattn.passes import Passes


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def run(loop, h, predictions):
    """States, errors and controls for predictions that are given beforehand."""
    state, states, errors, controls = loop.init(h), [to_numpy(h)], [], []
    for y in predictions:
        h, e, u, state = loop.step(h, y, state)
        for record, value in ((states, h), (errors, e), (controls, u)):
            record.append(to_numpy(value))
    return np.stack(states), np.stack(errors), np.stack(controls)


def test_without_a_controller_the_next_state_is_the_prediction(xp):
    y = as_kind(xp, draws(3, 2, 4))
    states, errors, controls = run(Passes(), as_kind(xp, draws(2, 4)), y)
    npt.assert_array_equal(states[1:], to_numpy(y))  # to the last bit: it is the network as it was
    npt.assert_array_equal(errors, controls)


@pytest.mark.parametrize("recall", [0.0, 0.7])
def test_all_terms_of_the_printed_law_act_from_pass_0_on(xp, recall):
    y, h = draws(5, 2, 4), draws(2, 4, seed=1)
    states, errors, controls = run(Passes(PID(0.4, 0.2, 0.1), recall=recall), as_kind(xp, h), as_kind(xp, y))
    npt.assert_allclose(errors, y - states[:-1] + recall * (h - states[:-1]), rtol=1e-12, atol=1e-13)
    before = np.concatenate([errors[:1], errors[:-1]])  # the memory of a past error starts at e_0
    expected = 0.4 * errors + 0.2 * np.cumsum(errors, 0) + 0.1 * (errors - before)
    npt.assert_allclose(controls, expected, rtol=1e-12, atol=1e-13)
    npt.assert_allclose(np.diff(states, axis=0), controls, rtol=1e-11, atol=1e-12)


def test_a_transfer_function_starts_from_rest_at_pass_0(xp):
    heavy = control.tf([0.5, 0], [1, -0.6], 1)  # h' = h + g e + mu (h - h_before)
    y, h = draws(4, 1, 3), draws(1, 3, seed=1)
    states = run(Passes(heavy), as_kind(xp, h), as_kind(xp, y))[0]
    expected, before = h, h
    for k in range(4):
        expected, before = expected + 0.5 * (y[k] - expected) + 0.6 * (expected - before), expected
        npt.assert_allclose(states[k + 1], expected, rtol=1e-12, atol=1e-14)


def test_linear_analysis_reads_no_controller_as_the_gain_1():
    assert Passes().law.fraction()[0].tolist() == [1.0]
    assert Passes(PID(0.3)).law.kp == 0.3


def test_float32_stays_float32(xp):
    h = as_kind(xp, draws(2, 2), "float32")
    new = Passes(PID(0.5), recall=np.float64(0.5)).step(h, 2 * h, Passes().init(h))[0]
    assert new.dtype == h.dtype


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"recall": -0.1}, "at least 0, got -0.1"),
        ({"recall": float("nan")}, "recall must be finite"),
        ({"recall": "much"}, "recall must be a number"),
        ({"controller": control.tf([1], [1, 1])}, "continuous-time"),
        ({"controller": 0.5}, "controller must be a PID"),
        ({"controller": PID}, "is the class PID"),
        ({"controller": control.tf([1, 0, 0], [1, 0.5], 1)}, "improper"),
    ],
)
def test_bad_input_says_what_would_be_right(options, says):
    with pytest.raises(InputError, match=says):
        Passes(**options)
    assert issubclass(InputTypeError, TypeError)


def test_the_memory_of_another_state_is_refused(xp):
    loop, h = Passes(LTIController(control.tf([1.0], [1.0, -0.5], 1))), as_kind(xp, draws(2, 2))
    state = loop.step(h, 2 * h, loop.init(h))[3]
    wide = as_kind(xp, draws(2, 3))
    with pytest.raises(InputError, match="memories have the shape"):
        loop.step(wide, 2 * wide, state._replace(start=wide))
