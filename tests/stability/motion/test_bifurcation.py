"""Where the state of a map ends up, against closed forms of the logistic map and of a bistable one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import Loop, SoftmaxAttention, rms_norm
from ctrlattn.stability import bifurcation_diagram, layer_map
from ctrlattn.stability.motion import bifurcation


def logistic(r):
    return lambda x: r * x * (1 - x)


@pytest.mark.slow
def test_logistic_diagram_against_closed_forms():
    gains = [2.8, 3.2, 3.5, 3.83, 4.0, 4.5]
    diagram = bifurcation_diagram(
        logistic, np.array([0.3]), gains, observe=lambda x: x[0], transient=400, keep=40, exponent_steps=0
    )
    rates = bifurcation_diagram(
        logistic, np.array([0.3]), [2.8, 3.2, 4.5], observe=lambda x: x[0], transient=400, exponent_steps=160
    )
    assert diagram.period.tolist() == [1, 2, 4, 3, 0, -1]
    assert_allclose(diagram.values[0], 1 - 1 / 2.8, atol=1e-9)
    two = (4.2 + np.array([-1, 1]) * math.sqrt(4.2 * 0.2)) / 6.4
    assert_allclose(np.unique(diagram.values[1].round(9)), two, atol=1e-8)
    product = 4 + 2 * 3.2 - 3.2**2  # multiplier of the cycle of two
    assert_allclose(rates.exponent[:2], [math.log(0.8), math.log(abs(product)) / 2], atol=1e-6)
    assert np.isnan(diagram.exponent).all()  # not asked for
    assert np.isnan(rates.exponent[2])
    assert np.isnan(diagram.values[5]).all()
    chaos = bifurcation_diagram(logistic, np.array([0.3]), [4.0], observe=lambda x: x[0], exponent_steps=1000)
    assert abs(chaos.exponent[0] - math.log(2)) < 5e-3


def test_following_shows_hysteresis():
    # x' = x + (g + x - x^3)/5 has two stable branches for |g| < 2/(3 sqrt 3) = 0.385.
    def family(g):
        return lambda x: x + 0.2 * (g + x - x**3)

    gains = np.linspace(-0.6, 0.6, 25)
    up, down = (
        bifurcation_diagram(family, np.array([s]), order, observe=lambda x: x[0], follow=True).values[:, -1]
        for s, order in ((-1.0, gains), (1.0, gains[::-1]))
    )
    apart = np.abs(up - down[::-1]) > 1e-3
    assert_allclose([gains[apart].min(), gains[apart].max()], [-0.35, 0.35], atol=1e-9)


def test_a_normalised_loop_in_its_gain():
    x = np.random.default_rng(0).standard_normal((4, 3))
    loop = Loop(SoftmaxAttention(), normalizer=rms_norm)
    diagram = bifurcation_diagram(
        lambda g: layer_map(replace(loop, feedback=-g), x)[0],
        layer_map(loop, x)[1],
        [-0.5, 0.0],
        observe=lambda z: z[0, 0] @ z[0, 3] / 3,
    )
    assert diagram.period.tolist() == [1, 1]
    assert_allclose(diagram.values[0], 1.0, atol=1e-6)  # positive feedback: all tokens alike


def test_refused():
    with pytest.raises(ValueError, match="gains must be"):
        bifurcation_diagram(logistic, np.array([0.5]), [], observe=lambda x: x[0])
    with pytest.raises(ValueError, match="keep must be a whole number of at least 2"):
        bifurcation_diagram(logistic, np.array([0.5]), [3.0], observe=lambda x: x[0], keep=1)
    with pytest.raises(ValueError, match="transient must be a whole number of at least 0, got -1"):
        bifurcation_diagram(logistic, np.array([0.5]), [3.0], observe=lambda x: x[0], transient=-1)
    with pytest.raises(ValueError, match="exponent_steps must be a whole number of at least 0, got -1"):
        bifurcation_diagram(logistic, np.array([0.5]), [3.0], observe=lambda x: x[0], exponent_steps=-1)


def test_each_gain_starts_anew_unless_it_follows_and_one_that_diverges_leaves_no_start():
    def steps(gain):
        return lambda x: x + gain

    def first(follow, gains, family=steps):
        diagram = bifurcation_diagram(
            family, np.array([0.0]), gains, observe=lambda x: x[0], transient=0, keep=2, exponent_steps=0, follow=follow
        )
        return diagram.values[:, 0].tolist()

    assert first(False, [1.0, 1.0, 2.0]) == [1.0, 1.0, 2.0]
    assert first(True, [1.0, 1.0, 2.0]) == [1.0, 3.0, 6.0]  # two steps of each gain before the next
    lost = first(True, [1.0, 400.0, 2.0], lambda gain: lambda x: x + gain if gain < 100 else np.full_like(x, np.inf))
    assert np.isnan(lost[1])
    assert lost[2] == 4.0  # from where the first gain had left it


@every_case("size, share, period", [(0.1, 0.9, 1), (0.1, 1.1, 2), (50.0, 45.0, 1), (50.0, 55.0, 2)])
def test_observations_are_equal_within_a_share_of_the_larger_of_1_and_the_largest(size, share, period):
    tol = 1e-3  # the state changes by share * tol at every step, there and back

    def family(_):
        return lambda x: 2 * size + share * tol - x

    diagram = bifurcation_diagram(
        family, np.array([size]), [1.0], observe=lambda x: x[0], transient=0, keep=8, tol=tol, exponent_steps=0
    )
    assert diagram.period.tolist() == [period]


def test_a_row_has_its_smallest_period_or_none():
    row = np.tile([1.0, 2.0, 3.0], 4)
    assert bifurcation._period(row, 1e-9) == 3
    assert bifurcation._period(row[:6], 1e-9) == 3
    assert bifurcation._period(row[:5], 1e-9) == 0
    assert bifurcation._period(np.ones(2), 1e-9) == 1
    assert bifurcation._period(np.array([1.0, np.nan]), 1e-9) == -1
