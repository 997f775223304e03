"""Equality by value, hashes, and short reprs."""

from functools import partial

import control
import numpy as np
import pytest
import torch

from ctrlattn import (
    PID,
    AssociativeMemory,
    BilateralFilter,
    CausalMean,
    FixedAttention,
    Loop,
    LTIController,
    SoftmaxAttention,
    presets,
    rms_norm,
    simulate,
)
from ctrlattn.nn import ControlledAttention
from ctrlattn.nn.modules.gains import Actuator, LearnedPID
from ctrlattn.passes import Passes
from ctrlattn.tracking import Tracking
from ctrlattn.values import Value, same, short

EYE = np.eye(3)
# What makes one thing, and what differs from it in one number each.
KINDS = {
    "PID": (PID, (0.5, 0.1, 0.2), [{"kp": 0.6}, {"ki": 0.0}, {"kd": 0.3}, {"form": "ema"}, {"ema": 0.4}]),
    "Tracking": (Tracking, (PID(0.5), 0.9), [{"controller": PID(0.6)}, {"reference_gain": 1.0}]),
    "Passes": (Passes, (PID(0.5),), [{"controller": None}, {"recall": 0.25}]),
    "CausalMean": (CausalMean, (), []),
    "BilateralFilter": (BilateralFilter, (1.5,), [{"bandwidth": 2.0}, {"causal": True}, {"radius": 3.0}]),
    "FixedAttention": (FixedAttention, (EYE,), [{"matrix": EYE + 0.5}, {"matrix": EYE[:2, :2]}]),
    "SoftmaxAttention": (
        SoftmaxAttention,
        (EYE, EYE),
        [{"wq": None}, {"wk": 2 * EYE}, {"heads": 3}, {"causal": False}],
    ),
    "AssociativeMemory": (AssociativeMemory, (EYE, EYE, 0.5), [{"keys": 2 * EYE}, {"temperature": 1.0}, {"sink": 0.0}]),
    "Loop": (
        Loop,
        (CausalMean(),),
        [
            {"predictor": FixedAttention(EYE)},
            {"skip": 0.5},
            {"skip": np.ones(3)},
            {"feedback": 1.0},
            {"controller": PID(0.1)},
            {"reference_gain": 0.0},
            {"normalizer": rms_norm},
            {"order": "sequential"},
            {"hold_first": True},
        ],
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_equal_numbers_make_equal_things_and_any_other_number_does_not(name):
    kind, arguments, others = KINDS[name]
    names = [
        one for one in kind.__dataclass_fields__ if one not in ("tracking", "causal") or name == "SoftmaxAttention"
    ]
    given = dict(zip(names, (np.array(a) if isinstance(a, np.ndarray) else a for a in arguments), strict=False))
    first, second = kind(*arguments), kind(**given)
    assert first == second
    assert hash(first) == hash(second)
    for other in others:
        assert kind(**{**given, **other}) != first


def test_every_value_of_the_signal_rooms_is_tried():
    made = {kind.__name__ for kind in Value.__subclasses__() if kind.__module__.count(".") <= 2}
    assert made - {"LTIController"} == set(KINDS)  # the controller of a system is compared below


def test_another_kind_dtype_or_class_is_not_equal():
    assert FixedAttention(EYE) != FixedAttention(torch.eye(3, dtype=torch.float64))
    assert FixedAttention(EYE) != FixedAttention(EYE.astype(np.float32))
    assert PID(0.5) != Tracking(PID(0.5))
    assert PID(0.5) != 0.5
    assert FixedAttention(torch.eye(3)) == FixedAttention(torch.eye(3).requires_grad_())


def test_a_system_is_equal_where_its_matrices_are():
    one, two = (LTIController(control.tf([0.5, 0.1], [1, -0.5], 1)) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != LTIController(control.tf([0.5, 0.2], [1, -0.5], 1))


def test_an_array_that_is_written_to_makes_another_value_of_the_same_hash():
    matrix = EYE.copy()
    loop, other = Loop(FixedAttention(EYE)), Loop(FixedAttention(matrix))
    before = hash(other)
    matrix[0, 0] = 0.5
    assert loop != other
    assert hash(other) == before


def test_every_preset_is_equal_to_itself_and_to_no_other():
    names = presets.names()
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if i <= j:
                assert (presets.get(a) == presets.get(b)) == (a == b), (a, b)


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (PID(), "PID()"),
        (PID(0.5, 0.0, -0.25), "PID(kp=0.5, kd=-0.25)"),
        (PID(0.5, form="ema", ema=0.3), "PID(kp=0.5, form='ema')"),
        (PID(np.float64(0.5)), "PID(kp=0.5)"),
        (FixedAttention(np.ones((2, 3, 3))), "FixedAttention(array(2, 3, 3))"),
        (FixedAttention(torch.ones(3, 3)), "FixedAttention(tensor(3, 3))"),
        (SoftmaxAttention(wq=EYE, causal=False), "SoftmaxAttention(wq=array(3, 3), causal=False)"),
        (LTIController(control.ss([[0.5]], [[1]], [[1]], [[0]], 1)), "LTIController(StateSpace of order 1, dt=1)"),
        (LTIController(control.tf([1], [1, 0, 0], 1)), "LTIController(TransferFunction of order 2, dt=1)"),
        (Passes(PID(0.5), recall=0.25), "Passes(controller=PID(kp=0.5), recall=0.25)"),
    ],
)
def test_what_differs_from_the_defaults_is_shown(thing, text):
    assert repr(thing) == text


def test_short_names_functions_and_what_is_bound_to_them():
    assert short(partial(rms_norm, eps=1e-6)) == "partial(rms_norm, eps=1e-06)"
    assert short(torch.tensor(0.125)) == "0.125"
    assert short("x" * 80) == "str(...)"
    assert same(float("inf"), float("inf"))
    assert not same([EYE], [EYE, EYE])
    assert not same((1,), [1])


def test_a_loop_shows_itself_as_its_diagram():
    lines = repr(Loop(CausalMean(), controller=PID(0.5), normalizer=rms_norm, skip=np.ones(4), hold_first=True)).split(
        "\n"
    )
    assert lines[0] == "Loop, parallel order, token 0 is held"
    assert "r = 1.0 * x_0 ──►(+)── e ──► PID(kp=0.5) ── u ──" in lines[1]
    assert "rms_norm ◄──" in lines[3]
    assert lines[3].endswith("(+)◄── array(4) · x")
    assert "CausalMean() ── y ──" in lines[5]
    assert lines[5].endswith("┘ -1.0 · y")


def test_a_trajectory_shows_shapes():
    shown = repr(simulate(Loop(CausalMean()), np.ones((4, 2)), 3))
    assert (
        shown
        == "Trajectory(state=array(4, 4, 2), prediction=array(3, 4, 2), error=array(3, 4, 2), control=array(3, 4, 2))"
    )
    last = simulate(Loop(CausalMean()), np.ones((4, 2)), 3, record="last")
    assert repr(last) == "Trajectory(state=array(4, 2), prediction=None, error=None, control=None)"


def test_modules_show_their_controllers():
    assert "heads=2, causal=False, controller=PID(kp=0.5), reference_gain=1.0" in repr(
        ControlledAttention(8, 2, controller=PID(0.5))
    )
    assert "now PID(kp=0.5)" in repr(ControlledAttention(8, 2, controller=LearnedPID(PID(0.5))))
    assert repr(Actuator(PID(0.5), gain=0.5, limit=2.0)) == "Actuator(PID(kp=0.5), gain=0.5, limit=2)"
    assert "controller" not in repr(ControlledAttention(8, 2))


def test_a_gain_with_a_gradient_is_written_as_its_number():
    gains = torch.tensor([0.5, 0.25], requires_grad=True)  # a warning is an error here
    assert repr(PID(gains[0], gains[1])) == repr(PID(0.5, 0.25))
