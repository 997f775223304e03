"""Paired tests against scipy and by hand, Holm by hand and over a family, power by simulation."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

pytest.importorskip("torch")

from ctrlattn.nn.experiment.statistics import holm, paired, power, seeds_needed

DRAWN = np.random.default_rng(4).normal(0.3, 1.0, 9)


@pytest.mark.parametrize("direction", ["less", "greater", "two-sided"])
def test_student_is_scipys(direction):
    expected = stats.ttest_1samp(DRAWN, 0.0, alternative=direction)
    comparison = paired(DRAWN.tolist(), direction)
    assert comparison.p == pytest.approx(expected.pvalue, rel=1e-12)
    interval = stats.ttest_1samp(DRAWN, 0.0).confidence_interval(0.95)
    assert_allclose((comparison.low, comparison.high), (interval.low, interval.high), rtol=1e-12)


@pytest.mark.parametrize("direction", ["less", "greater", "two-sided"])
def test_sign_flips_are_scipys_exact_permutation_test(direction):
    expected = stats.permutation_test(
        (DRAWN,), np.mean, permutation_type="samples", alternative=direction, n_resamples=np.inf
    )
    assert paired(DRAWN.tolist(), direction).p_sign_flip == pytest.approx(expected.pvalue, rel=1e-12)


def test_ten_equal_signs_are_as_rare_as_two_to_the_minus_ten():
    comparison = paired([1.0 + k for k in range(10)], "greater")
    assert comparison.p_sign_flip == 2.0**-10
    assert paired([-1.0 - k for k in range(10)], "greater").p_sign_flip == 1.0


@pytest.mark.parametrize(("value", "p"), [(0.5, 0.0), (0.0, 0.5), (-0.5, 1.0)])
def test_equal_differences_have_no_spread(value, p):
    comparison = paired([value] * 4, "greater")
    assert (comparison.p, comparison.deviation, comparison.low, comparison.high) == (p, 0.0, value, value)


def test_many_differences_use_drawn_signs():
    sample = np.random.default_rng(0).normal(0.35, 1.0, 40)
    comparison = paired(sample.tolist(), "greater")
    assert comparison.p_sign_flip == pytest.approx(comparison.p, abs=0.005)
    assert paired([1.0] * 40, "greater").p_sign_flip == 1 / 100_001  # of what was seen, which no draw repeats


def test_holm_by_hand():
    # 4 x .005, 3 x .01, 2 x .03, 1 x .04 -> the last may not be smaller than the one before
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert_allclose([corrected[name] for name in "abcd"], [0.03, 0.06, 0.06, 0.02], rtol=1e-12)
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@pytest.mark.slow
def test_holm_keeps_the_level_over_a_family_without_effects():
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(400):
        p = {str(k): paired(rng.normal(size=6).tolist(), "greater").p for k in range(5)}
        wrong += min(holm(p).values()) < 0.05
    interval = stats.binomtest(wrong, 400).proportion_ci(0.999, method="wilson")
    assert interval.low <= 0.05  # with the corrections left out 23 % are wrong
    assert wrong / 400 < 0.1


@pytest.mark.parametrize(("effect", "sides"), [(0.8, 1), (0.8, 2), (-0.5, 1)])
def test_power_is_the_share_of_simulated_findings(effect, sides):
    rng, n = np.random.default_rng(5), 10
    d = rng.normal(abs(effect), 1.0, (20_000, n))
    t = d.mean(1) / (d.std(1, ddof=1) / math.sqrt(n))
    critical = stats.t.ppf(1 - 0.05 / sides, n - 1)
    found = np.mean((t > critical) | ((t < -critical) & (sides == 2)))
    assert power(n, effect, sides=sides) == pytest.approx(found, abs=0.012)


def test_the_seeds_needed_are_the_fewest():
    n = seeds_needed(1.0, 0.5)
    assert n == 27  # tables of the one-sample t test, one-sided, 5 %, 80 %
    assert power(n, 0.5) >= 0.8 > power(n - 1, 0.5)
    assert seeds_needed(1.0, 0.5, sides=2) == 34
    assert seeds_needed(1.0, 0.5, alpha=0.05 / 16) > n
    assert seeds_needed(1.0, 1e-6) == math.inf
    assert seeds_needed(0.0, 0.1) == 2
    assert seeds_needed(0.001, 0.1) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired([1.0, 2.0], "more"), "direction must be one of less, greater, two-sided, got 'more'"),
        (lambda: paired([1.0]), "at least two finite differences"),
        (lambda: paired([1.0, float("nan")]), "at least two finite differences"),
        (lambda: holm({"a": 1.5}), r"p values lie in \[0, 1\]"),
        (lambda: seeds_needed(-1.0, 0.5), "deviation >= 0"),
        (lambda: seeds_needed(1.0, 0.5, wanted=1.0), "power and level"),
    ],
)
def test_what_is_no_question_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
