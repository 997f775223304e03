"""The arms of the trained comparison of loops."""

import pytest

pytest.importorskip("torch")

from ctrlattn import InputError
from ctrlattn.nn.experiment.loop_arms import DEFAULT, LOOP_ARMS, LoopArm, loop_arm


def test_arms_differ_from_plain_in_what_their_names_say():
    plain = LOOP_ARMS["plain"]
    assert (plain.norm, plain.injection, plain.random, plain.penalty, plain.held) == ("inner", "none", *[False] * 3)
    changed = {
        name: {key for key in vars(plain) if key != "summary" and getattr(arm, key) != getattr(plain, key)}
        for name, arm in LOOP_ARMS.items()
    }
    assert changed == {
        "plain": set(), "plain-again": {"again"}, "outer": {"norm"}, "random": {"random"},
        "penalty": {"random", "penalty"}, "recall": {"injection"}, "recall-outer": {"norm", "injection"},
        "recall-outer-random": {"norm", "injection", "random"}, "parcae": {"injection"}, "held": {"held"},
    }  # fmt: skip
    assert loop_arm("parcae") == LoopArm("A h + B e with 0 < A < 1, both learned", injection="parcae")
    assert set(DEFAULT) < set(LOOP_ARMS)


def test_an_unknown_arm_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'recall-outer'"):
        loop_arm("recal-outer")
