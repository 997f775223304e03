"""What given gains meet, and gains that meet more."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import FixedAttention, presets, simulate
from ctrlattn.design import (
    judge,
    judge_published,
    judgement,
)

SPECTRUM = np.array([0.02, 0.1, 0.3, 0.6, 1.0])


def test_a_fault_of_the_search_is_not_taken_for_gains_that_are_not_there(monkeypatch):
    def broken(*_, **__):
        raise ValueError("a fault of ours")

    monkeypatch.setattr(judgement, "tune", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        judge(presets.get("pidformer-ema"), SPECTRUM)


def test_published_gains_are_judged():
    judgements = judge_published({"a": [0.0, 0.3, 1.0]}, ["neutreno", "pidformer-printed"], improve=False)
    p = judgements["neutreno"]["a"]
    assert_allclose([p.meets.modulus_margin, p.meets.steady_state_error], [0.4, 1 - 0.6 / 1.6])
    printed = judgements["pidformer-printed"]["a"]
    assert printed.meets is None
    assert printed.stable_part.steady_state_error == 0.0
    assert "unstable on 33.3% of the modes" in printed.in_words()


def test_better_gains_are_better_in_everything():
    actual = judge(presets.get("pidformer-ema"), SPECTRUM)
    assert actual.better is not None, actual.why_not
    was, now = actual.performance.worst(), actual.better.performance.worst()
    assert now["modulus_margin"] >= was["modulus_margin"]
    assert all(now[k] <= was[k] + 1e-9 for k in ("settling", "overshoot", "steady_state_error"))
    x = np.ones((len(SPECTRUM), 1))
    run = simulate(replace(actual.better.loop, predictor=FixedAttention(np.diag(SPECTRUM)), reference_gain=1.0), x, 60)
    assert np.all(np.abs(1 - run.state[-1]) <= was["steady_state_error"] + 1e-6)


def test_gains_of_another_law_are_refused():
    with pytest.raises(TypeError, match="PID gains"):
        judge(replace(presets.get("neutreno"), controller=None), [0.5])
