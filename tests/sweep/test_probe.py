"""The probe of the automaton, its hits, and their rate."""

from dataclasses import replace

import numpy as np
import pytest

from ctrlattn import InputError, presets
from ctrlattn.sweep.probe import TOKENS, hit_rate, hits


def test_a_hit_is_a_d_that_is_nearest_to_the_last_token():
    x = np.eye(len(TOKENS))[None].repeat(3, 0)
    x[0, -1] = x[0, 3]  # the first D
    x[1, -1] = x[1, 7] + 0.5 * x[1, 2]  # nearer to the second D than to a C
    x[2, -1] = x[2, 2]
    assert hits(x).tolist() == [True, True, False]


def test_no_pass_is_chance_and_fifteen_passes_find_it():
    loop = presets.get("prediction-error")
    assert hit_rate(loop, 15, draws=200) > 0.9
    assert abs(hit_rate(loop, 0, draws=2000) - 1 / 4) < 0.03  # before, E is as near to A as to B, C or D
    assert hit_rate(loop, 15, draws=20, seed=1) == hit_rate(loop, 15, draws=20, seed=1)


def test_a_state_that_grows_far_is_measured_and_an_infinite_one_is_refused():
    loop = presets.get("prediction-error")
    grown = replace(loop, skip=1e60, feedback=0.0)  # all tokens but the held one, along themselves
    assert hit_rate(grown, 5, draws=50) == hit_rate(loop, 0, draws=50)
    with pytest.raises(ArithmeticError, match="not finite after 6 passes"):
        hit_rate(grown, 6, draws=50)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(InputError, match="draws"):
        hit_rate(presets.get("prediction-error"), 3, draws=0)
