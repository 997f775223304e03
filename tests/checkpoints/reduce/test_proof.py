"""A module that is missed elsewhere stays: seen by running, with and without it."""

import pytest

from ctrlattn import InputError, checkpoints
from ctrlattn.checkpoints.network.families import Answer
from ctrlattn.checkpoints.reduce.proof import answers_of, missed


def test_keys_that_others_share_stay(of_type):
    network = of_type("gemma4_text")
    smaller = checkpoints.drop(network, attention=[0])
    assert smaller.model.config.ctrlattn["attention"] == {"0": {"kept": None}}
    # Layer 2 alone reads the keys of layer 0: where both go, nothing has to stay.
    both = checkpoints.drop(network, attention=[0, 2])
    assert both.model.config.ctrlattn["attention"] == {"0": None, "2": None}
    with pytest.raises(InputError, match="the attention of layer 0 is gone already"):
        checkpoints.drop(smaller, attention=[0])


def test_what_modules_return(of_type):
    network = of_type("gemma4_text")
    attention, mlp, gate = network.sublayers()[:3]
    answers = answers_of(network.family, network.model, [attention, mlp, gate])
    assert answers == {attention: Answer(1, 24, True), mlp: Answer(0, 24, True), gate: Answer(0, 4, False)}


def test_only_what_is_read_elsewhere_is_missed(of_type):
    network = of_type("gemma4_text")
    there = network.sublayers("attention")
    family = network.family.answering(answers_of(network.family, network.model, there))
    known = [s for s in family.sublayers_of(network.model) if s.kind == "attention"]
    assert missed(family, network.model, known[:2]) == {(0, "self_attn"), (1, "self_attn")}
    assert missed(family, network.model, known[2:]) == set()
