"""Every predictor against a literal loop, a second method, and the edge where it has nothing to read."""

import math

import numpy as np
import numpy.testing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlattn import AssociativeMemory, BilateralFilter, CausalMean, FixedAttention, SoftmaxAttention, read
from ctrlattn.arrays import like, move, softmax, to_numpy

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


# --- what all of them share ---------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", CAUSAL)
def test_the_derivative_by_a_later_token_is_exactly_zero(name):
    x = torch.as_tensor(draws(N, D))
    predictor = move(causal_predictors(N, D)[name], x)
    jacobian = torch.func.jacrev(predictor)(x).abs().amax(dim=(1, 3))  # (N, N): which token depends on which
    assert torch.count_nonzero(jacobian.triu(1)) == 0
    assert torch.count_nonzero(jacobian.tril()) > 0


@pytest.mark.parametrize("name", list(other_predictors(N, D)))
def test_what_reads_later_tokens_says_so(name):
    predictor, x = other_predictors(N, D)[name], draws(N, D)
    assert not predictor.causal
    assert np.abs(predictor(x)[0] - predictor(np.concatenate([x[:1], 2.0 * x[1:]]))[0]).max() > 1e-9


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_torch_computes_what_numpy_computes(name, batch):
    predictor, x = every_predictor(N, D)[name], draws(*batch, N, D)
    tensor = torch.as_tensor(x)
    y = move(predictor, tensor)(tensor)
    assert y.dtype == torch.float64
    npt.assert_allclose(y.numpy(), predictor(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_a_loop_over_its_signals(xp, name):
    x = as_kind(xp, draws(2, 3, N, D))
    predictor = move(every_predictor(N, D)[name], x)
    y = predictor(x)
    for i in range(2):
        for j in range(3):
            npt.assert_allclose(to_numpy(y[i, j]), to_numpy(predictor(x[i, j])), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", EVERY)
def test_float32_stays_float32(xp, name):
    x = as_kind(xp, draws(N, D), "float32")
    predictor = move(every_predictor(N, D)[name], x)
    y = predictor(x)
    assert y.dtype == x.dtype
    npt.assert_allclose(to_numpy(y), every_predictor(N, D)[name](draws(N, D)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_the_input_is_not_overwritten(xp, name):
    x = as_kind(xp, draws(N, D))
    move(every_predictor(N, D)[name], x)(x)
    npt.assert_array_equal(to_numpy(x), draws(N, D))


@pytest.mark.parametrize("name", EVERY)
def test_derivatives_agree_with_differences(name):
    x = torch.as_tensor(draws(N, D)).requires_grad_()
    assert torch.autograd.gradcheck(move(every_predictor(N, D)[name], x), x)


@pytest.mark.parametrize("name", [n for n in EVERY if n != "memory"])
@pytest.mark.parametrize("shape", [(0, D), (N, 0), (D,)])
def test_a_signal_without_tokens_or_features_is_refused(name, shape):
    predictor = every_predictor(N, D)[name]
    with pytest.raises(ValueError, match=r"a signal is \(..., tokens, features\) with at least one of each"):
        predictor(np.ones(shape))


@pytest.mark.parametrize("name", [n for n in CAUSAL if n != "memory"])
def test_a_prefix_without_tokens_is_refused(name):
    with pytest.raises(ValueError, match="at least one of each"):
        causal_predictors(N, D)[name].last(np.ones((0, D)))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("x", [np.ones((N, D), int), [[1.0] * D] * N], ids=["integers", "list"])
def test_what_is_not_a_signal_is_refused(name, x):
    with pytest.raises(TypeError, match=r"must be floating point|expected a numpy array|dtypes are mixed"):
        every_predictor(N, D)[name](x)


@pytest.mark.parametrize("name", [n for n in EVERY if n != "mean"])  # the mean does not read the last token
def test_nan_is_handed_on_and_never_hidden(name):
    x = draws(N, D)
    x[-1, -1] = math.nan
    assert np.isnan(every_predictor(N, D)[name](x)).any()


# --- read ---------------------------------------------------------------------------------------------------------


def literal_read(query, keys, values, temperature, sink):
    """softmax(q K^T / T) V, one key after another; the null key adds to the denominator alone."""
    powers = [math.exp(float(query @ key) / temperature) for key in keys]
    total = math.fsum(powers) + (0.0 if sink is None else math.exp(sink / temperature))
    return sum(p / total * value for p, value in zip(powers, values, strict=True))


@pytest.mark.parametrize("sink", [None, -1.0, 0.0, 2.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_read_is_its_formula(xp, sink, temperature):
    query, keys, values = draws(3, D), draws(5, D), draws(5, 2)
    y = read(*(as_kind(xp, a) for a in (query, keys, values)), temperature=temperature, sink=sink)
    expected = [literal_read(q, keys, values, temperature, sink) for q in query]
    npt.assert_allclose(to_numpy(y), expected, rtol=1e-12)


@pytest.mark.parametrize("sink", [None, 0.5])
def test_one_query_is_a_vector_and_gives_a_vector(xp, sink):
    query, keys, values = (as_kind(xp, a) for a in (draws(D), draws(5, D), draws(5, 2)))
    y = read(query, keys, values, sink=sink)
    assert tuple(y.shape) == (2,)
    npt.assert_array_equal(to_numpy(y), to_numpy(read(query[None], keys, values, sink=sink)[0]))


def test_one_query_reads_a_batch_of_memories(xp):
    query, keys, values = (as_kind(xp, a) for a in (draws(D), draws(2, 3, 5, D), draws(2, 3, 5, 2)))
    y = read(query, keys, values, sink=0.5)
    assert tuple(y.shape) == (2, 3, 2)
    npt.assert_allclose(to_numpy(y[1, 2]), to_numpy(read(query, keys[1, 2], values[1, 2], sink=0.5)), rtol=1e-13)


def test_a_high_sink_silences_and_a_low_one_changes_nothing(xp):
    query, keys, values = (as_kind(xp, a) for a in (draws(3, D), draws(5, D), draws(5, 2)))
    npt.assert_array_equal(to_numpy(read(query, keys, values, sink=1e4)), np.zeros((3, 2)))
    npt.assert_allclose(to_numpy(read(query, keys, values, sink=-1e4)), to_numpy(read(query, keys, values)), rtol=1e-13)


def test_a_cold_read_finds_the_nearest_key_and_a_hot_one_the_mean():
    query, keys, values = draws(D), draws(5, D), draws(5, 2)
    npt.assert_allclose(read(query, keys, values, temperature=1e-3), values[np.argmax(keys @ query)], atol=1e-12)
    npt.assert_allclose(read(query, keys, values, temperature=1e12), values.mean(0), rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_read_with_keys_as_values_never_raises_the_hopfield_energy(seed):
    # Ramsauer et al., equation 2: E(q) = -T logsumexp(K q / T) + |q|^2 / 2
    keys, q, temperature = draws(6, D, seed=seed), draws(D, seed=seed), 0.5

    def energy(q):
        return -temperature * np.logaddexp.reduce(keys @ q / temperature) + q @ q / 2

    for _ in range(20):
        after = read(q, keys, keys, temperature=temperature)
        assert energy(after) <= energy(q) + 1e-12
        q = after


@pytest.mark.parametrize("temperature", [np.float64(0.5), np.array(0.5)])
def test_a_numpy_number_does_not_change_the_dtype(temperature):
    ones = np.ones((2, 2), np.float32)
    assert read(ones, ones, ones, temperature=temperature, sink=np.float64(0.1)).dtype == np.float32
    assert SoftmaxAttention(temperature=temperature)(ones).dtype == np.float32
    assert BilateralFilter(temperature, spatial_bandwidth=temperature)(ones).dtype == np.float32
    assert AssociativeMemory(ones, ones, temperature=temperature, sink=temperature)(ones).dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((draws(2), draws(5, D), draws(5, 2)), {}, r"4 features has as many, got \(2,\)"),
        ((np.array(1.0), draws(5, D), draws(5, 2)), {}, r"4 features has as many, got \(\)"),
        ((draws(D), draws(5, D), draws(4, 2)), {}, r"must share n >= 1, got \(5, 4\) and \(4, 2\)"),
        ((draws(D), draws(0, D), draws(0, 2)), {}, "must share n >= 1"),
        ((draws(D), draws(D), draws(D)), {}, "must share n >= 1"),
        ((draws(D), draws(5, D), draws(5, 2)), {"temperature": 0.0}, "temperature must be positive"),
        ((draws(D), draws(5, D), draws(5, 2)), {"temperature": -1}, "temperature must be positive"),
        ((draws(D), draws(5, D), draws(5, 2)), {"temperature": math.inf}, "temperature must be finite"),
        ((draws(D), draws(5, D), draws(5, 2)), {"sink": math.nan}, "sink must be finite"),
    ],
)
def test_a_read_that_cannot_be_done_says_why(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        read(*arguments, **options)


def test_a_temperature_that_is_no_number_is_named():
    with pytest.raises(TypeError, match="temperature must be a number, got 'cold'"):
        read(draws(D), draws(5, D), draws(5, 2), temperature="cold")


# --- CausalMean ---------------------------------------------------------------------------------------------------


def test_causal_mean_is_the_mean_of_the_earlier_tokens(xp):
    x = draws(2, N, D)
    y = to_numpy(CausalMean()(as_kind(xp, x)))
    npt.assert_array_equal(y[:, 0], 0.0)
    for i in range(1, N):
        npt.assert_allclose(y[:, i], x[:, :i].mean(1), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("constant", [True, False])
def test_causal_mean_of_a_long_float32_text_keeps_its_digits(xp, constant):
    # Summed in float32 one token after another, the constant .1 would be off by 1e-4 after 100,000 tokens.
    x = np.full((100_000, 2), 0.1) if constant else 1.0 + draws(100_000, 2)
    exact = CausalMean()(np.float64(np.float32(x)))
    y = CausalMean()(as_kind(xp, x, "float32"))
    npt.assert_allclose(to_numpy(y)[100:], exact[100:], rtol=5e-7)
    last = CausalMean().last(as_kind(xp, x, "float32"))
    npt.assert_allclose(to_numpy(last)[0], exact[-1], rtol=2e-6)


# --- FixedAttention -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("matrix", "message"),
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


# --- SoftmaxAttention ---------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("mask", MASKS, ids=["full", "causal", "strict"])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("temperature", [None, 0.6])
@pytest.mark.parametrize("projected", [(), ("wq",), ("wq", "wk", "wv", "wo")], ids=len)
def test_attention_is_its_formula(xp, mask, heads, temperature, projected):
    shapes = {"wq": (D, D), "wk": (D, D), "wv": (D, 6), "wo": (6, D)}
    w = {name: draws(*shape) if name in projected else None for name, shape in shapes.items()}
    options = {"heads": heads, "temperature": temperature, **mask}
    x = draws(N, D)
    y, weights = literal_attention(x, **w, **options)
    predictor = move(SoftmaxAttention(**w, **options), as_kind(xp, x))
    npt.assert_allclose(to_numpy(predictor(as_kind(xp, x))), y, rtol=1e-11, atol=1e-13)
    found = to_numpy(predictor.weights(as_kind(xp, x)))
    npt.assert_allclose(found, weights, rtol=1e-11, atol=1e-14)
    rows = np.ones((heads, N))
    rows[:, 0] = 0.0 if mask["strict"] else 1.0
    npt.assert_allclose(found.sum(-1), rows, rtol=1e-14)


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


@pytest.mark.parametrize(
    ("options", "message"),
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


@pytest.mark.parametrize("method", ["__call__", "last"])
@pytest.mark.parametrize(
    ("options", "message"),
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


@pytest.mark.parametrize("name", ["wq", "wk", "wv", "wo"])
@pytest.mark.parametrize("w", [torch.eye(D), np.eye(D, dtype=np.float32)], ids=["kind", "dtype"])
def test_a_projection_of_another_kind_or_dtype_is_refused(name, w):
    with pytest.raises(TypeError, match="mixed"):
        SoftmaxAttention(**{name: w})(draws(N, D))


# --- AssociativeMemory --------------------------------------------------------------------------------------------


def test_a_memory_reads_token_by_token(xp):
    keys, values, x = draws(5, D), draws(5, 2), draws(2, N, D)
    memory = AssociativeMemory(as_kind(xp, keys), as_kind(xp, values), temperature=0.4, sink=0.1)
    y = to_numpy(memory(as_kind(xp, x)))
    assert y.shape == (2, N, 2)
    npt.assert_allclose(y[1, 3], literal_read(x[1, 3], keys, values, 0.4, 0.1), rtol=1e-12)


def test_a_batch_of_memories_reads_a_batch_of_signals(xp):
    keys, values, x = draws(2, 3, 5, D), draws(2, 3, 5, D, seed=1), draws(2, 3, N, D)
    memory = AssociativeMemory(as_kind(xp, keys), as_kind(xp, values), temperature=0.4, sink=0.1)
    y, last = memory(as_kind(xp, x)), memory.last(as_kind(xp, x))
    for i in range(2):
        for j in range(3):
            one = AssociativeMemory(keys[i, j], values[i, j], temperature=0.4, sink=0.1)
            npt.assert_allclose(to_numpy(y[i, j]), one(x[i, j]), rtol=1e-12, atol=1e-14)
            npt.assert_allclose(to_numpy(last[i, j]), one.last(x[i, j]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("keys", "values", "options", "message"),
    [
        (np.ones(3), np.ones((3, 2)), {}, r"keys must be \(..., slots, d\), got ndarray of shape \(3,\)"),
        (np.ones((3, 2)), [[1.0]], {}, "values must be .* got list"),
        (np.ones((0, 2)), np.ones((0, 2)), {}, r"got ndarray of shape \(0, 2\)"),
        (np.ones((3, 2)), np.ones((2, 2)), {}, "3 keys but 2 values"),
        (np.full((3, 2), math.nan), np.ones((3, 2)), {}, "keys must be finite"),
        (np.ones((3, 2)), np.ones((3, 2)), {"temperature": -1.0}, "temperature must be positive"),
        (np.ones((3, 2)), np.ones((3, 2)), {"sink": math.inf}, "sink must be finite"),
    ],
)
def test_what_is_no_memory_is_refused(keys, values, options, message):
    with pytest.raises(ValueError, match=message):
        AssociativeMemory(keys, values, **{"temperature": 1.0, **options})


# --- BilateralFilter ----------------------------------------------------------------------------------------------


def literal_filter(x, positions, h, *, causal=False, radius=None, spatial=None):
    """Tomasi and Manduchi's weighted mean, every distance computed as it is written."""
    out = np.zeros_like(x)
    for i in range(len(x)):
        total = 0.0
        for j in range(i + 1 if causal else len(x)):
            offset = np.abs(np.subtract(positions[i], positions[j]))
            if radius is not None and offset.max() > radius:
                continue
            exponent = -((x[i] - x[j]) @ (x[i] - x[j])) / h**2
            exponent -= 0.0 if spatial is None else offset @ offset / spatial**2
            total += math.exp(exponent)
            out[i] += math.exp(exponent) * x[j]
        out[i] /= total
    return out


LINE, IMAGE = [(i,) for i in range(12)], [(i // 4, i % 4) for i in range(12)]


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("radius", [None, 0, 2, 2.5])
@pytest.mark.parametrize("spatial", [None, 1.7])
@pytest.mark.parametrize("grid", [None, (3, 4)])
def test_the_filter_is_the_textbooks(xp, offset, causal, radius, spatial, grid):
    x = draws(12, 2) + offset
    expected = literal_filter(x, IMAGE if grid else LINE, 0.9, causal=causal, radius=radius, spatial=spatial)
    predictor = BilateralFilter(0.9, causal=causal, radius=radius, spatial_bandwidth=spatial, grid=grid)
    npt.assert_allclose(to_numpy(predictor(as_kind(xp, x))), expected, rtol=1e-10, atol=1e-12)
    weights = to_numpy(predictor.weights(as_kind(xp, x)))
    assert weights.shape == (1, 12, 12)
    npt.assert_allclose(weights[0] @ x, expected, rtol=1e-10, atol=1e-12)
    npt.assert_allclose(weights.sum(-1), 1.0, rtol=1e-14)


@pytest.mark.parametrize("causal", [False, True])
def test_a_common_offset_changes_nothing_but_is_added(xp, causal):
    # Distances as 2 x.x' - |x|^2 would lose 5 more digits here; the offset itself costs 1e6 times the machine epsilon.
    x, predictor = draws(8, 3), BilateralFilter(1.0, causal=causal)
    moved = to_numpy(predictor(as_kind(xp, x + 1e6))) - 1e6
    npt.assert_allclose(moved, predictor(x), atol=2e-9)


def test_equal_norms_make_it_dot_product_attention():
    # softmax(-|x_i - x_j|^2 / h^2) = softmax(2 x_i.x_j / h^2)
    x = draws(8, 3)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    for causal in (False, True):
        attention = SoftmaxAttention(causal=causal, temperature=0.7**2 / 2)
        npt.assert_allclose(BilateralFilter(0.7, causal=causal)(x), attention(x), rtol=1e-12, atol=1e-14)


def test_a_window_of_radius_zero_is_the_identity(xp):
    x = as_kind(xp, draws(5, 2))
    npt.assert_allclose(to_numpy(BilateralFilter(1.0, radius=0)(x)), to_numpy(x), rtol=1e-14)


def test_a_wide_range_kernel_is_a_gaussian_blur():
    x = draws(9, 1)
    i = np.arange(9.0)
    blur = softmax(-((i[:, None] - i) ** 2) / 1.5**2) @ x
    npt.assert_allclose(BilateralFilter(1e7, spatial_bandwidth=1.5)(x), blur, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": 0.0}, "bandwidth must be positive"),
        ({"bandwidth": math.nan}, "bandwidth must be finite"),
        ({"spatial_bandwidth": -1.0}, "spatial_bandwidth must be positive"),
        ({"radius": -1}, "radius must not be negative"),
        ({"radius": math.nan}, "radius must not be negative"),
        ({"grid": 3}, "grid must be .* got 3"),
        ({"grid": (3, 0)}, r"grid must be .* got \(3, 0\)"),
        ({"grid": (2.5, 2)}, r"grid must be .* got \(2.5, 2\)"),
        ({"grid": (2, 2, 2)}, "grid must be"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BilateralFilter(**{"bandwidth": 1.0, **options})


@pytest.mark.parametrize(("n", "causal"), [(13, True), (13, False), (11, False)])
def test_an_image_of_another_size_is_refused(n, causal):
    with pytest.raises(ValueError, match=rf"grid \(3, 4\) has 12 pixels, the signal has {n} tokens"):
        BilateralFilter(1.0, causal=causal, grid=(3, 4))(draws(n, 2))
