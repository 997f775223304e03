"""Frozen and softmax attention against literal loops, torch and each other."""

import math

import numpy as np
import numpy.testing as npt
import pytest
import torch
import torch.nn.functional as F
from cases import every_case

from ctrlattn import CausalMean, FixedAttention, SoftmaxAttention
from ctrlattn.arrays import like, move, to_numpy

N, D = 6, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def test_fixed_attention_gives_each_head_its_features(xp):
    a, x = draws(3, N, N), draws(N, 6)
    y = to_numpy(FixedAttention(as_kind(xp, a))(as_kind(xp, x)))
    for h in range(3):
        npt.assert_allclose(y[:, 2 * h : 2 * h + 2], a[h] @ x[:, 2 * h : 2 * h + 2], rtol=1e-12)


def test_one_head_is_a_matrix(xp):
    a, x = as_kind(xp, draws(N, N)), as_kind(xp, draws(2, N, D))
    npt.assert_allclose(to_numpy(FixedAttention(a[None])(x)), to_numpy(FixedAttention(a)(x)), rtol=1e-13)


def test_fixed_attention_knows_whether_it_is_causal(xp):
    a = np.tril(draws(2, N, N))
    assert FixedAttention(as_kind(xp, a)).causal
    a[1, 0, N - 1] = 1e-300
    assert not FixedAttention(as_kind(xp, a)).causal


def test_recorded_weights_reproduce_the_attention_they_were_recorded_from(xp):
    x = as_kind(xp, draws(N, D))
    softmax_attention = SoftmaxAttention(heads=2, strict=True)
    frozen = FixedAttention(softmax_attention.weights(x))
    npt.assert_allclose(to_numpy(frozen(x)), to_numpy(softmax_attention(x)), rtol=1e-13, atol=1e-15)


def test_fixed_attention_can_be_differentiated_by_its_matrix_and_mapped_over_it():
    # y = A x: dy_ik / dA_jl = x_lk if i = j
    a, x = torch.as_tensor(np.tril(draws(3, 3))), torch.as_tensor(draws(3, 2))
    expected = torch.einsum("ij,lk->ikjl", torch.eye(3).double(), x)
    npt.assert_allclose(torch.func.jacrev(lambda a: FixedAttention(a)(x))(a).numpy(), expected.numpy(), atol=1e-15)
    mapped = torch.func.vmap(lambda a: FixedAttention(a)(x))(torch.stack([a, 2 * a]))
    npt.assert_allclose(mapped.numpy(), torch.stack([a @ x, 2 * a @ x]).numpy(), rtol=1e-14)
    assert FixedAttention(a.bfloat16()).causal


@every_case(
    "matrix, message",
    [
        (np.ones((2, 3)), r"got ndarray of shape \(2, 3\)"),
        (np.ones(3), r"got ndarray of shape \(3,\)"),
        (np.ones((0, 0)), r"got ndarray of shape \(0, 0\)"),
        (np.ones((2, 2, 3, 3)), r"got ndarray of shape \(2, 2, 3, 3\)"),
        ([[1.0, 0.0], [0.0, 1.0]], "got list"),
        (np.diag([1.0, math.nan]), r"found nan at index \(1, 1\)"),
    ],
)
def test_what_is_no_attention_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        FixedAttention(matrix)


def test_fixed_attention_refuses_another_number_of_tokens_or_features():
    with pytest.raises(ValueError, match="is for 6 tokens, the signal has 5"):
        FixedAttention(np.eye(6))(draws(5, D))
    with pytest.raises(ValueError, match="is for 3 tokens, the prefix has 5"):
        FixedAttention(np.eye(3)).last(draws(5, D))
    with pytest.raises(ValueError, match="3 heads do not divide 4 features"):
        FixedAttention(np.ones((3, N, N)))(draws(N, D))
    with pytest.raises(TypeError, match="mixed"):
        FixedAttention(np.eye(N))(torch.as_tensor(draws(N, D)))
    with pytest.raises(TypeError, match="mixed"):
        FixedAttention(np.eye(N)).last(torch.as_tensor(draws(N, D)))


def literal_attention(x, *, wq, wk, wv, wo, heads, causal, strict, temperature):
    """(y, weights) by two Python loops over the tokens, head by head."""
    q, k, v = (x if w is None else x @ w for w in (wq, wk, wv))
    n, p, pv = len(x), q.shape[1] // heads, v.shape[1] // heads
    temperature = math.sqrt(p) if temperature is None else temperature
    y, weights = np.zeros((n, v.shape[1])), np.zeros((heads, n, n))
    for h in range(heads):
        for i in range(n):
            seen = range(i) if strict else range(i + 1) if causal else range(n)
            scores = {j: math.exp(q[i, h * p : (h + 1) * p] @ k[j, h * p : (h + 1) * p] / temperature) for j in seen}
            for j, score in scores.items():
                weights[h, i, j] = score / math.fsum(scores.values())
                y[i, h * pv : (h + 1) * pv] += weights[h, i, j] * v[j, h * pv : (h + 1) * pv]
    return (y if wo is None else y @ wo), weights


MASKS = [{"causal": False, "strict": False}, {"causal": True, "strict": False}, {"causal": True, "strict": True}]


@every_case("mask", MASKS, ids=["full", "causal", "strict"])
@every_case("heads", [1, 2])
@every_case("temperature", [None, 0.6])
@every_case("projected", [(), ("wq",), ("wq", "wk", "wv", "wo")])
def test_attention_is_its_formula(xp, mask, heads, temperature, projected):
    shapes = {"wq": (D, D), "wk": (D, D), "wv": (D, 6), "wo": (6, D)}
    w = {name: draws(*shape) if name in projected else None for name, shape in shapes.items()}
    options = {"heads": heads, "temperature": temperature, **mask}
    x = draws(N, D)
    y, weights = literal_attention(x, **w, **options)
    predictor = move(SoftmaxAttention(**w, **options), as_kind(xp, x))
    npt.assert_allclose(to_numpy(predictor(as_kind(xp, x))), y, rtol=1e-11, atol=1e-13)
    recorded = to_numpy(predictor.weights(as_kind(xp, x)))
    npt.assert_allclose(recorded, weights, rtol=1e-11, atol=1e-14)
    rows = np.ones((heads, N))
    rows[:, 0] = 0.0 if mask["strict"] else 1.0
    npt.assert_allclose(recorded.sum(-1), rows, rtol=1e-14)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs_own_with_heads(causal):
    b, n, h, p = 2, 5, 3, 4
    x = torch.as_tensor(draws(b, n, 7))
    wq, wk, wv, wo = (torch.as_tensor(draws(*s)) for s in ((7, h * p), (7, h * p), (7, h * p), (h * p, 7)))
    q, k, v = ((x @ w).view(b, n, h, p).transpose(1, 2) for w in (wq, wk, wv))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(b, n, h * p) @ wo
    y = SoftmaxAttention(wq, wk, wv, wo, heads=h, causal=causal)(x)
    npt.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-12, atol=1e-12)


def test_one_token_attends_to_itself_or_strictly_to_nothing(xp):
    x = as_kind(xp, draws(1, D))
    npt.assert_allclose(to_numpy(SoftmaxAttention()(x)), to_numpy(x), rtol=1e-15)
    npt.assert_array_equal(to_numpy(SoftmaxAttention(strict=True)(x)), np.zeros((1, D)))
    npt.assert_array_equal(to_numpy(SoftmaxAttention(strict=True).last(x)), np.zeros((1, D)))
    assert SoftmaxAttention(strict=True).weights(x).tolist() == [[[0.0]]]


def test_equal_tokens_make_strict_attention_the_causal_mean():
    x = draws(N, D)
    uniform = SoftmaxAttention(strict=True, temperature=1e14)
    npt.assert_allclose(uniform(x), CausalMean()(x), atol=1e-12)


@every_case(
    "options, message",
    [
        ({"heads": 0}, "heads must be a whole number of at least 1, got 0"),
        ({"heads": 1.5}, "heads must be a whole number of at least 1, got 1.5"),
        ({"heads": True}, "heads must be a whole number of at least 1, got True"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"temperature": math.nan}, "temperature must be finite"),
        ({"strict": True, "causal": False}, "needs causal=True"),
        ({"wq": np.ones(3)}, r"wq must be a matrix \(d_in, d_out\), got ndarray of shape \(3,\)"),
        ({"wo": [[1.0]]}, "wo must be a matrix .* got list"),
        ({"wv": np.full((2, 2), math.inf)}, r"wv must be finite: found inf at index \(0, 0\)"),
    ],
)
def test_an_attention_that_cannot_be_is_refused_when_made(options, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxAttention(**options)


@every_case("method", ["__call__", "last"])
@every_case(
    "options, message",
    [
        ({"heads": 3}, "3 heads do not divide 4 features"),
        ({"wq": np.ones((3, D))}, "takes 3 features, the signal has 4"),
        ({"wo": np.ones((3, D))}, "takes 3 features, the signal has 4"),
        ({"wq": np.ones((D, 2))}, "queries have 2 features a head, keys 4: wq and wk must agree"),
    ],
)
def test_projections_that_do_not_fit_say_so(method, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(SoftmaxAttention(**options), method)(draws(N, D))


@every_case("name", ["wq", "wk", "wv", "wo"])
@every_case("w", [torch.eye(D), np.eye(D, dtype=np.float32)], ids=["kind", "dtype"])
def test_a_projection_of_another_kind_or_dtype_is_refused(name, w):
    with pytest.raises(TypeError, match="mixed"):
        SoftmaxAttention(**{name: w})(draws(N, D))


@every_case("heads", [None, 2])
def test_the_last_row_on_a_prefix_is_that_of_the_whole_matrix(xp, heads):
    a = np.tril(draws(N, N) if heads is None else draws(heads, N, N))
    x = draws(2, N, D)
    fixed = FixedAttention(as_kind(xp, a))
    whole = to_numpy(fixed(as_kind(xp, x)))
    for i in range(N):
        last = to_numpy(fixed.last(as_kind(xp, x[:, : i + 1])))
        npt.assert_allclose(last, whole[:, i : i + 1], rtol=1e-12)


@every_case("n", [2, 3, 6])
def test_the_last_prediction_of_strict_attention_reads_every_token_before(n):
    x = draws(n, D)
    attention = SoftmaxAttention(strict=True, temperature=0.5)
    npt.assert_allclose(attention.last(x), attention(x)[-1:], rtol=1e-12)
