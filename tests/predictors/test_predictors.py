"""What all predictors share: causality, the last token, batches, kinds, derivatives, and what they refuse."""

import math

import numpy as np
import numpy.testing as npt
import pytest
import torch
from cases import every_case
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlattn import AssociativeMemory, BilateralFilter, CausalMean, FixedAttention, SoftmaxAttention
from ctrlattn.arrays import like, move, to_numpy

N, D = 6, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def causal_predictors(n, d):
    """Every predictor whose token i reads tokens 0 ... i alone; d must be even."""
    w = [draws(d, d, seed=s) / math.sqrt(d) for s in range(4)]
    return {
        "mean": CausalMean(),
        "fixed": FixedAttention(np.tril(draws(n, n))),
        "fixed, 2 heads": FixedAttention(np.tril(draws(2, n, n))),
        "softmax": SoftmaxAttention(),
        "softmax, strict": SoftmaxAttention(strict=True),
        "softmax, 2 heads": SoftmaxAttention(*w, heads=2, temperature=0.7),
        "softmax, 2 heads, strict": SoftmaxAttention(*w, heads=2, strict=True),
        "memory": AssociativeMemory(draws(3, d), draws(3, d, seed=1), temperature=0.5, sink=0.2),
        "bilateral": BilateralFilter(1.3, causal=True),
        "bilateral, window": BilateralFilter(1.3, causal=True, radius=2, spatial_bandwidth=1.5),
        "bilateral, grid": BilateralFilter(1.3, causal=True, radius=1, grid=(n, 3)),
    }


def other_predictors(n, d):
    return {
        "fixed, full": FixedAttention(draws(n, n)),
        "softmax, full": SoftmaxAttention(draws(d, 6), draws(d, 6, seed=1), causal=False),
        "bilateral, full": BilateralFilter(0.8),
        "bilateral, image": BilateralFilter(0.8, grid=(n // 2, 2), radius=1, spatial_bandwidth=2.0),
    }


def every_predictor(n, d):
    return causal_predictors(n, d) | other_predictors(n, d)


CAUSAL, EVERY = list(causal_predictors(N, D)), list(every_predictor(N, D))


@pytest.mark.parametrize("name", CAUSAL)
@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 7), half=st.integers(1, 3), batch=st.sampled_from([(), (2,), (2, 3), (0,)]))
def test_a_causal_prediction_of_a_token_is_the_last_of_its_prefix(name, n, half, batch):
    predictor, x = causal_predictors(n, 2 * half)[name], draws(*batch, n, 2 * half)
    assert predictor.causal
    y = predictor(x)
    assert y.shape == x.shape
    for i in range(n):
        last = predictor.last(x[..., : i + 1, :])
        assert last.shape == (*batch, 1, 2 * half)
        npt.assert_allclose(last[..., 0, :], y[..., i, :], rtol=1e-12, atol=1e-13)


@every_case("name", CAUSAL)
def test_the_derivative_by_a_later_token_is_exactly_zero(name):
    x = torch.as_tensor(draws(N, D))
    predictor = move(causal_predictors(N, D)[name], x)
    jacobian = torch.func.jacrev(predictor)(x).abs().amax(dim=(1, 3))  # (N, N): which token depends on which
    assert torch.count_nonzero(jacobian.triu(1)) == 0
    assert torch.count_nonzero(jacobian.tril()) > 0


@every_case("name", list(other_predictors(N, D)))
def test_what_reads_later_tokens_says_so(name):
    predictor, x = other_predictors(N, D)[name], draws(N, D)
    assert not predictor.causal
    assert np.abs(predictor(x)[0] - predictor(np.concatenate([x[:1], 2.0 * x[1:]]))[0]).max() > 1e-9


@every_case("name", EVERY)
@every_case("batch", [(), (2, 3)])
def test_torch_computes_what_numpy_computes(name, batch):
    predictor, x = every_predictor(N, D)[name], draws(*batch, N, D)
    tensor = torch.as_tensor(x)
    y = move(predictor, tensor)(tensor)
    assert y.dtype == torch.float64
    npt.assert_allclose(y.numpy(), predictor(x), rtol=1e-12, atol=1e-13)


@every_case("name", EVERY)
def test_a_batch_is_a_loop_over_its_signals(xp, name):
    x = as_kind(xp, draws(2, 3, N, D))
    predictor = move(every_predictor(N, D)[name], x)
    y = predictor(x)
    for i in range(2):
        for j in range(3):
            npt.assert_allclose(to_numpy(y[i, j]), to_numpy(predictor(x[i, j])), rtol=1e-12, atol=1e-13)


@every_case("name", EVERY)
def test_float32_stays_float32(xp, name):
    x = as_kind(xp, draws(N, D), "float32")
    predictor = move(every_predictor(N, D)[name], x)
    y = predictor(x)
    assert y.dtype == x.dtype
    npt.assert_allclose(to_numpy(y), every_predictor(N, D)[name](draws(N, D)), rtol=1e-4, atol=1e-5)


@every_case("name", EVERY)
def test_the_input_is_not_overwritten(xp, name):
    x = as_kind(xp, draws(N, D))
    move(every_predictor(N, D)[name], x)(x)
    npt.assert_array_equal(to_numpy(x), draws(N, D))


@every_case("name", EVERY)
def test_derivatives_agree_with_differences(name):
    x = torch.as_tensor(draws(N, D)).requires_grad_()
    assert torch.autograd.gradcheck(move(every_predictor(N, D)[name], x), x)


@every_case("name", [n for n in EVERY if n != "memory"])
@every_case("shape", [(0, D), (N, 0), (D,)])
def test_a_signal_without_tokens_or_features_is_refused(name, shape):
    predictor = every_predictor(N, D)[name]
    with pytest.raises(ValueError, match=r"a signal is \(..., tokens, features\) with at least one of each"):
        predictor(np.ones(shape))


@every_case("name", [n for n in CAUSAL if n != "memory"])
def test_a_prefix_without_tokens_is_refused(name):
    with pytest.raises(ValueError, match="at least one of each"):
        causal_predictors(N, D)[name].last(np.ones((0, D)))


@every_case("name", EVERY)
@every_case("x", [np.ones((N, D), int), [[1.0] * D] * N], ids=["integers", "list"])
def test_what_is_not_a_signal_is_refused(name, x):
    with pytest.raises(TypeError, match=r"must be floating point|expected a numpy array|dtypes are mixed"):
        every_predictor(N, D)[name](x)


@every_case("name", [n for n in EVERY if n != "mean"])  # the mean does not read the last token
def test_nan_is_handed_on_and_never_hidden(name):
    x = draws(N, D)
    x[-1, -1] = math.nan
    assert np.isnan(every_predictor(N, D)[name](x)).any()
