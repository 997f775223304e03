"""LQR gains against the cost summed along the loop and against the closed form."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, FixedAttention, Loop, loop_transfer, margins
from ctrlattn.design import (
    lqr,
    lqr_margin,
)


def value_loop(pid):
    return Loop(CausalMean(), skip=0.0, feedback=1.0, controller=pid)


def cost_of(pid, a, weights, layers=400):
    """The cost itself, summed along the loop from x = 1 with the reference 0."""
    loop = replace(value_loop(pid), predictor=FixedAttention(np.array([[a]])))
    x = np.ones((1, 1))
    state = loop.init(x, 0 * x)._replace(controller=(0 * x, 0 * x), acting=True)
    error, integral, control = weights
    cost, total = 0.0, 0.0
    for _ in range(layers):
        x, state, signals = loop.step(x, state)
        total += signals.error.item()
        cost += error * signals.error.item() ** 2 + integral * total**2 + control * signals.control.item() ** 2
    return cost


@pytest.mark.parametrize("a", [-0.4, 0.3, 1.0, 1.5])
@pytest.mark.parametrize("weights", [(1.0, 0.0, 1.0), (1.0, 0.2, 1.0), (0.5, 1.0, 0.1)])
def test_no_neighbour_of_the_lqr_gains_costs_less(a, weights):
    error, integral, control = weights
    named = {"error": error, "integral": integral, "control": control}
    pid = lqr(value_loop(None), a, **named)
    best = cost_of(pid, a, weights)
    steps = [(1e-3, 0), (-1e-3, 0)] + ([(0, 1e-3), (0, -1e-3)] if integral else [])
    for p, i in steps:
        assert cost_of(PID(pid.kp + p, pid.ki + i), a, weights) > best
    margin = margins(loop_transfer(value_loop(pid), a)).modulus_margin
    assert margin >= lqr_margin(value_loop(None), a, **named) - 1e-9


def test_lqr_of_one_mode_in_closed_form():
    # X^2 + X (r - q - alpha^2 r) - q r = 0, kp = alpha X/(r + X)
    alpha, q, r = 0.7, 2.0, 0.5
    b = r - q - alpha**2 * r
    x = (-b + np.sqrt(b * b + 4 * q * r)) / 2
    assert_allclose(lqr(value_loop(None), alpha, error=q, control=r).kp, alpha * x / (r + x), rtol=1e-12)


def test_refused():
    with pytest.raises(ValueError, match="weights must be"):
        lqr(value_loop(None), 0.5, control=0.0)
    with pytest.raises(ValueError, match="one real mode"):
        lqr(value_loop(None), 0.5 + 0.1j)
