"""The operations on which numpy and torch differ: one meaning for both, and a clear word for a mixture."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn.arrays import (
    arange,
    attend,
    attention_weights,
    causal_bias,
    like,
    machine_epsilon,
    move,
    namespace,
    require_finite,
    require_number,
    require_tokens,
    running_sum,
    softmax,
    to_numpy,
    token_sum,
)


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_the_arguments_decide_the_library(xp):
    assert namespace(xp.ones(2, dtype=xp.float64), xp.zeros((3, 2), dtype=xp.float64)) is xp
    assert namespace(xp.ones(2, dtype=xp.complex128)) is xp


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.ones(2), torch.ones(2, dtype=torch.float64)), "numpy and torch arrays are mixed"),
        ((torch.ones(2), np.ones(2)), "numpy and torch arrays are mixed"),
        ((np.ones(2), np.ones(2, np.float32)), "dtypes are mixed: float64 and float32"),
        ((torch.ones(2), torch.ones(2).double()), "dtypes are mixed: torch.float32 and torch.float64"),
        ((torch.ones(2), torch.ones(2, device="meta")), "devices are mixed: cpu and meta"),
        ((np.ones(2, int),), r"must be floating point, got int64: use x.astype\(float\)"),
        ((torch.ones(2, dtype=torch.int32),), r"must be floating point, got torch.int32: use x.double\(\)"),
        ((torch.ones(2, dtype=torch.bool),), "must be floating point, got torch.bool"),
        (([1.0, 2.0],), "expected a numpy array or a torch tensor, got list"),
        ((np.ones(2), 1.0), "expected a numpy array or a torch tensor, got float"),
        ((None,), "got NoneType"),
        ((np.ma.masked_array(np.ones(2), [0, 1]),), "got MaskedArray"),
        (
            (np.ones(2, np.dtype(float).newbyteorder()),),
            r"byte order of this machine, got [<>]f8: use x.astype\(float\)",
        ),
    ],
)
def test_a_mixture_is_refused_in_words(arrays, message):
    with pytest.raises(TypeError, match=message):
        namespace(*arrays)


@pytest.mark.parametrize("template", [np.zeros(1, np.float32), torch.zeros(1, dtype=torch.float64)], ids=["np", "pt"])
@pytest.mark.parametrize("value", [[1.0, 2.0], np.array([1, 2]), torch.tensor([1.0, 2.0])], ids=["list", "np", "pt"])
def test_like_takes_kind_dtype_and_device_of_the_template(value, template):
    moved = like(value, template)
    assert type(moved) is type(template)
    assert moved.dtype == template.dtype
    npt.assert_array_equal(to_numpy(moved), [1.0, 2.0])


def test_like_moves_to_another_device():
    assert like(np.ones(2), torch.zeros(1, device="meta")).device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_to_numpy_reads_every_precision(dtype):
    npt.assert_array_equal(to_numpy(torch.tensor([0.5, -2.0], dtype=dtype)), [0.5, -2.0])
    with pytest.raises(ValueError, match=r"x must be finite: found nan at index \(1,\)"):
        require_finite("x", torch.tensor([0.5, math.nan], dtype=dtype))


def test_to_numpy_leaves_the_gradient_behind():
    npt.assert_array_equal(to_numpy(torch.ones(2, requires_grad=True)), np.ones(2))


@dataclass(frozen=True)
class Holder:
    array: Any
    inner: Any = None
    derived: Any = field(init=False, default=None)

    def __post_init__(self):
        object.__setattr__(self, "derived", type(self.array).__name__)


def test_move_reaches_dataclasses_partials_and_sequences():
    template = torch.zeros(1, dtype=torch.float32)
    function = partial(pow, np.ones(2), exp=np.ones(3))
    moved = move(Holder(np.ones(2), inner=[Holder(np.ones(1)), (function, "text", 3, None)]), template)
    inside, (bound, *rest) = moved.inner
    arrays = [moved.array, inside.array, bound.args[0], bound.keywords["exp"]]
    assert all(isinstance(a, torch.Tensor) and a.dtype == torch.float32 for a in arrays)
    assert moved.derived == inside.derived == "Tensor"  # derived fields are derived again, not copied
    assert rest == ["text", 3, None]
    assert bound.func is pow


def test_move_leaves_classes_and_foreign_things_alone():
    foreign = object()
    assert move(foreign, np.ones(1)) is foreign
    assert move(Holder, np.ones(1)) is Holder


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_value_that_is_not_finite_is_named(xp, bad):
    x = np.ones((2, 3, 4))
    x[1, 2, 0] = bad
    x[1, 2, 3] = math.nan
    with pytest.raises(ValueError, match=rf"^the signal must be finite: found {bad} at index \(1, 2, 0\)$"):
        require_finite("the signal", like(x, xp.zeros(1)))


def test_finite_values_pass_also_inside_a_function_transform():
    def checked(x):
        require_finite("x", x)
        return 2 * x

    npt.assert_array_equal(torch.func.vmap(checked)(torch.ones(3, 2)).numpy(), 2 * np.ones((3, 2)))


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.float64(2), np.array(2.0), np.int64(2)])
def test_a_number_of_numpy_becomes_pythons(number):
    assert type(require_number("kp", number)) is float
    assert require_number("kp", number) == 2.0


def test_a_scalar_tensor_keeps_its_gradient():
    gain = torch.tensor(0.5, requires_grad=True)
    assert require_number("kp", gain) is gain


@pytest.mark.parametrize("thing", ["a", None, [1.0], np.ones(2), torch.ones(2)])
def test_what_is_no_number_is_named(thing):
    with pytest.raises(TypeError, match=r"^kp must be a number, got "):
        require_number("kp", thing)


@pytest.mark.parametrize("number", [math.nan, -math.inf, np.float64(math.inf), torch.tensor(math.nan), 10**400])
def test_a_number_is_finite(number):
    with pytest.raises(ValueError, match=r"^kp must be finite, got "):
        require_number("kp", number)


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 0), (5, 0, 2)])
def test_a_signal_has_tokens_and_features(xp, shape):
    with pytest.raises(ValueError, match=r"a signal is \(..., tokens, features\) .* got shape \("):
        require_tokens(xp.zeros(shape))
    require_tokens(xp.zeros((0, 2, 3)))  # an empty batch has signals of a shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_over_tokens_keep_their_digits(xp, dtype):
    x = like(np.full((2, 100_000, 1), 0.1), xp.zeros(1, dtype=getattr(xp, dtype)))
    exact = float(x[0, 0, 0]) * 100_000
    assert running_sum(x).dtype == token_sum(x).dtype == x.dtype
    assert tuple(token_sum(x).shape) == (2, 1, 1)
    tolerance = 2e-7 if dtype == "float32" else 1e-11
    npt.assert_allclose(to_numpy(running_sum(x))[:, -1, 0], exact, rtol=tolerance)
    npt.assert_allclose(to_numpy(token_sum(x)).ravel(), exact, rtol=max(tolerance, 1e-11))
    npt.assert_allclose(to_numpy(running_sum(x))[0, :3, 0], float(x[0, 0, 0]) * np.arange(1, 4), rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_spellings_agree(xp, dtype):
    x = xp.ones((2, 3), dtype=getattr(xp, dtype))
    assert machine_epsilon(x) == np.finfo(dtype).eps
    assert arange(4, x).dtype == x.dtype
    assert arange(4, x).tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_is_its_formula_also_far_from_zero(xp, dtype):
    scores = draws(2, 3, 5)
    y = softmax(like(scores + 1000.0, xp.zeros(1, dtype=getattr(xp, dtype))))
    powers = np.exp(scores)
    tolerance = 1e-12 if dtype == "float64" else 2e-4  # 1000 is known to 6e-5 in float32
    npt.assert_allclose(to_numpy(y), powers / powers.sum(-1, keepdims=True), rtol=tolerance)
    assert y.dtype == getattr(xp, dtype)


def test_softmax_of_a_hidden_score_is_zero(xp):
    assert softmax(xp.asarray([0.0, -math.inf, 0.0])).tolist() == [0.5, 0.0, 0.5]


def test_softmax_of_complex_scores_is_refused():
    with pytest.raises(TypeError, match="needs real scores"):
        softmax(np.ones(2, complex))


def literal_attend(q, k, v, scale, bias):
    """softmax(scale q k^T + bias) v by three Python loops."""
    out = np.zeros((len(q), v.shape[-1]))
    for i in range(len(q)):
        powers = [math.exp(scale * float(q[i] @ k[j]) + bias[i, j]) for j in range(len(k))]
        for j in range(len(k)):
            out[i] += powers[j] / math.fsum(powers) * v[j]
    return out


def test_attend_is_the_formula_with_hidden_keys(xp):
    q, k, v = draws(4, 3), draws(5, 3, seed=1), draws(5, 2, seed=2)
    bias = draws(4, 5, seed=3)
    bias[0, 1:] = bias[2, 3] = -math.inf
    kind = xp.zeros(1, dtype=xp.float64)
    y = attend(*(like(t, kind) for t in (q, k, v)), scale=0.7, bias=like(bias, kind))
    npt.assert_allclose(to_numpy(y), literal_attend(q, k, v, 0.7, bias), rtol=1e-13)
    weights = attention_weights(like(q, kind), like(k, kind), scale=0.7, bias=like(bias, kind))
    npt.assert_allclose(to_numpy(weights) @ v, to_numpy(y), rtol=1e-13)
    assert weights[0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_attend_broadcasts_batches_alike():
    q, k, v = draws(2, 1, 4, 3), draws(5, 3, seed=1), draws(3, 5, 2, seed=2)
    y = attend(q, k, v, scale=1.0)
    same = attend(*(torch.from_numpy(t) for t in (q, k, v)), scale=1.0)
    assert y.shape == tuple(same.shape) == (2, 3, 4, 2)
    npt.assert_allclose(same.numpy(), y, rtol=1e-13)
    npt.assert_allclose(y[1, 2], attend(q[1, 0], k, v[2], scale=1.0), rtol=1e-14)


def test_attend_refuses_a_mixture():
    with pytest.raises(TypeError, match="mixed"):
        attend(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2), np.float32), scale=1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_causal_bias_hides_the_future_and_nothing_else(xp, dtype):
    bias = causal_bias(3, xp.zeros(1, dtype=getattr(xp, dtype)))
    inf = math.inf
    assert bias.tolist() == [[0.0, -inf, -inf], [0.0, 0.0, -inf], [0.0, 0.0, 0.0]]
    assert bias.dtype == getattr(xp, dtype)
