"""The Lipschitz constant of attention against differentiated and simulated signals; contraction against its promise."""

from itertools import pairwise

import control
import numpy as np
import pytest
import torch
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, LTIController, SoftmaxAttention, jacobian_operator, rms_norm, simulate
from ctrlattn.stability import attention_contraction, attention_lipschitz
from ctrlattn.stability.robustness.attention import AttentionContraction

N, D = 5, 4


def attention(seed, heads=1, size=1.0, **options):
    rng = np.random.default_rng(seed)
    wq, wk, wv, wo = (size * rng.standard_normal((D, D)) / np.sqrt(D) for _ in range(4))
    return SoftmaxAttention(wq, wk, wv, wo, heads=heads, **options)


def in_ball(rng, radius, corners=False):
    x = rng.standard_normal((N, D))
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return radius * x / length * (1.0 if corners else rng.uniform(0, 1, (N, 1)) ** (1 / D))


def longest(x):
    return np.linalg.norm(x, axis=-1).max()


def largest_stretch(predictor, x, rng, rounds=30):
    """max |J dx| / max |dx| over tokens, by ascent: dx from the longest row's sensitivity, each token of length 1."""
    in_torch = Loop(predictor).to(torch.zeros(1, dtype=torch.float64)).predictor
    jacobian, best = jacobian_operator(in_torch, x) @ np.eye(N * D), 0.0
    dx = rng.standard_normal((N, D))
    for _ in range(rounds):
        dx = dx / np.maximum(np.linalg.norm(dx, axis=-1, keepdims=True), 1e-12)
        moved = (jacobian @ dx.ravel()).reshape(N, D)
        best = max(best, longest(moved))
        row = int(np.argmax(np.linalg.norm(moved, axis=-1)))
        back = np.zeros((N, D))
        back[row] = moved[row]
        dx = (jacobian.T @ back.ravel()).reshape(N, D)
    return best


@pytest.mark.slow
@every_case(
    "options, radius",
    [
        ({}, 0.1), ({}, 1.0), ({}, 3.0), ({"causal": False}, 3.0), ({"heads": 2}, 1.0), ({"strict": True}, 3.0),
        ({"temperature": 0.5}, 1.0),
    ],
)  # fmt: skip
def test_no_point_of_the_ball_stretches_more(options, radius):
    rng, predictor = np.random.default_rng(1), attention(0, **options)
    bound = attention_lipschitz(predictor, radius)
    stretch = max(largest_stretch(predictor, in_ball(rng, radius, corners=i), rng) for i in range(2))
    assert stretch <= bound * (1 + 1e-9)
    for _ in range(20):
        x, y = in_ball(rng, radius), in_ball(rng, radius, corners=True)
        assert longest(predictor(x) - predictor(y)) <= bound * longest(x - y) * (1 + 1e-9)


def test_it_is_sharp_on_small_balls_and_grows_with_the_square_of_the_radius():
    predictor = attention(0)
    small = attention_lipschitz(predictor, 1e-9)
    assert_allclose(small, np.linalg.norm(predictor.wv @ predictor.wo, 2))
    assert_allclose(largest_stretch(predictor, np.zeros((N, D)), np.random.default_rng(0)), small, rtol=1e-6)
    first, second = (attention_lipschitz(predictor, r) - small for r in (1.0, 2.0))
    assert_allclose(second, 4 * first)


def test_the_constant_of_a_small_ball_fails_on_a_large_one():
    """Identity projections, two keys R and -R beside a query at 0: the answer to a move of the query grows with R^2."""
    predictor, radius = SoftmaxAttention(causal=False, temperature=1.0), 5.0
    x = np.array([[0.0], [radius], [-radius]])
    jacobian = jacobian_operator(predictor, x) @ np.eye(3)
    # Covariance of the tokens under equal weights, 2 R^2/3, and 1/3 for its own share as a value.
    assert_allclose(jacobian[0, 0], 2 * radius**2 / 3 + 1 / 3)
    assert jacobian[0, 0] > attention_lipschitz(predictor, 1.0, features=1)
    assert jacobian[0, 0] <= attention_lipschitz(predictor, radius, features=1)


@every_case("seed", range(4))
def test_two_simulations_approach_each_other_as_promised(seed):
    rng, radius = np.random.default_rng(seed), 1.0
    loop = Loop(attention(seed, size=0.6), skip=0.7, feedback=-0.4, controller=PID(0.5), reference_gain=0.5)
    bound = attention_contraction(loop, radius)
    assert bound.holds(radius)
    x, y, r = (in_ball(rng, radius, corners=True) for _ in range(3))
    first, second = (simulate(loop, start, 12, reference=r).state for start in (x, y))
    apart = [longest(a - b) for a, b in zip(first, second, strict=True)]
    assert all(after <= bound.rate * before + 1e-15 for before, after in pairwise(apart[1:]))
    assert max(longest(state) for state in first[2:]) <= bound.reach + 1e-12


@every_case("heads", [1, 2])
@every_case("temperature", [None, 0.7])
def test_the_constant_is_the_sum_over_the_heads(heads, temperature):
    """sum_h |V_h| (1 + 2 R^2 |B_h|), the norms as roots of the largest eigenvalue of a Gram matrix."""
    predictor, radius, width = attention(2, heads=heads, temperature=temperature), 1.3, D // heads

    def norm(m):
        return np.sqrt(np.linalg.eigvalsh(m.T @ m)[-1])

    constant, values = 0.0, 0.0
    for h in range(heads):
        columns = slice(h * width, (h + 1) * width)
        value = norm(predictor.wv[:, columns] @ predictor.wo[columns])
        scores = norm(predictor.wq[:, columns] @ predictor.wk[:, columns].T)
        scores /= np.sqrt(width) if temperature is None else temperature
        constant, values = constant + value * (1 + 2 * radius**2 * scores), values + value
    assert_allclose(attention_lipschitz(predictor, radius), constant, rtol=1e-12)
    loop = Loop(predictor, skip=0.7, feedback=-0.4, controller=PID(0.5), reference_gain=0.3)
    rate, reach = attention_contraction(loop, radius, reference=2.0)
    assert_allclose(rate, 0.2 + 0.4 * constant, rtol=1e-12)
    assert_allclose(reach, (0.2 + 0.4 * values) * radius + 0.5 * 0.3 * 2.0, rtol=1e-12)


def test_averaging_alone_never_contracts():
    assert attention_contraction(Loop(SoftmaxAttention(), skip=0.0, feedback=1.0), 0.5, features=3).rate >= 1


def test_refused():
    with pytest.raises(TypeError, match="SoftmaxAttention"):
        attention_lipschitz(CausalMean(), 1.0)
    with pytest.raises(ValueError, match="give features"):
        attention_lipschitz(SoftmaxAttention(), 1.0)
    with pytest.raises(ValueError, match="not negative"):
        attention_lipschitz(attention(0), -1.0)
    with pytest.raises(ValueError, match="without a normalizer"):
        attention_contraction(Loop(attention(0), normalizer=rms_norm), 1.0)
    with pytest.raises(ValueError, match="kp alone"):
        attention_contraction(Loop(attention(0), controller=PID(0.5, 0.1)), 1.0)


@every_case("rate, reach, holds", [(0.9, 1.0, True), (0.9, 1.1, False), (1.0, 0.5, False)])
def test_a_ball_is_kept_where_a_layer_contracts_and_reaches_no_farther(rate, reach, holds):
    assert AttentionContraction(rate, reach).holds(1.0) == holds


@pytest.mark.parametrize("heads", [1, 2])
def test_projections_that_are_not_given_are_the_identity(heads):
    """|V_h| (1 + 2 R^2 |B_h|) with blocks of the identity: |B_h| = 1/sqrt(width), |V_h| that of the rows of W_O."""
    wo = np.diag([3.0, 1.0, 2.0, 0.5])
    width = D // heads
    norms = [3.0] if heads == 1 else [3.0, 2.0]
    constant = sum(norm * (1 + 2 * 1.5**2 / np.sqrt(width)) for norm in norms)
    assert_allclose(attention_lipschitz(SoftmaxAttention(wo=wo, heads=heads), 1.5), constant)
    plain = heads * (1 + 2 * 1.5**2 / np.sqrt(width))
    assert_allclose(attention_lipschitz(SoftmaxAttention(heads=heads), 1.5, features=D), plain)


@every_case("radius", [np.inf, np.nan, -1e-9])
def test_a_radius_is_a_length(radius):
    with pytest.raises(ValueError, match="radius must be finite"):
        attention_lipschitz(attention(0), radius)
    with pytest.raises(ValueError, match="radius must be finite"):
        attention_contraction(Loop(attention(0)), 1.0, reference=radius)
    assert attention_contraction(Loop(attention(0), skip=0.25, feedback=0.0), 0.0) == (0.25, 0.0)


@every_case(
    "options, message",
    [
        ({"order": "sequential"}, "parallel order"),
        ({"hold_first": True}, "parallel order"),
        ({"controller": PID(0.5, 0.0, 0.1)}, "kp alone"),
        ({"controller": LTIController(control.tf([0.5], [1.0], 1))}, "kp alone"),
    ],
)
def test_each_part_that_has_no_bound_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        attention_contraction(Loop(attention(0), **options), 1.0)
