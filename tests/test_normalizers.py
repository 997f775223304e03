"""Norms against torch's own, and the cases where a norm divides by nothing."""

import math
from functools import partial

import numpy as np
import numpy.testing as npt
import pytest
import torch
import torch.nn.functional as F

from ctrlattn import InputError, layer_norm, rms_norm, unit_norm
from ctrlattn.arrays import like, to_numpy

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-5])  # at 1e-5 the epsilon decides
def test_rms_norm_is_torchs(xp, dtype, eps, weighted, scale):
    kind = xp.zeros(1, dtype=getattr(xp, dtype))
    x, weight = like(scale * draws(2, 3, 8), kind), like(draws(8, seed=1), kind) if weighted else None
    reference = F.rms_norm(
        torch.as_tensor(to_numpy(x)), (8,), None if weight is None else torch.as_tensor(to_numpy(weight)), eps
    )
    y = rms_norm(x, weight=weight, eps=eps)
    assert y.dtype == x.dtype
    npt.assert_allclose(to_numpy(y), reference.numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
@pytest.mark.parametrize("weighted", [False, True])
def test_layer_norm_is_torchs(xp, dtype, eps, weighted):
    kind = xp.zeros(1, dtype=getattr(xp, dtype))
    x = like(draws(2, 3, 8) + 5.0, kind)
    weight, bias = (like(draws(8, seed=s), kind) if weighted else None for s in (1, 2))
    tensors = [None if t is None else torch.as_tensor(to_numpy(t)) for t in (weight, bias)]
    y = layer_norm(x, weight=weight, bias=bias, eps=eps)
    assert y.dtype == x.dtype
    expected = F.layer_norm(torch.as_tensor(to_numpy(x)), (8,), *tensors, eps).numpy()
    npt.assert_allclose(to_numpy(y), expected, rtol=TOLERANCE[dtype], atol=5 * TOLERANCE[dtype])


def test_layer_norm_keeps_its_digits_on_a_large_mean():
    # The variance of the centred token, not mean(x^2) - mean(x)^2, which would be 0 or negative here.
    x = draws(4, 16)
    npt.assert_allclose(layer_norm(x + 1e8, eps=0.0), layer_norm(x, eps=0.0), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unit_norm_gives_points_of_the_sphere(xp, dtype):
    x = like(draws(2, 5, 7), xp.zeros(1, dtype=getattr(xp, dtype)))
    y = unit_norm(x)
    assert y.dtype == x.dtype
    lengths = np.linalg.norm(to_numpy(y), axis=-1)
    npt.assert_allclose(lengths, 1.0, rtol=4 * np.finfo(dtype).eps)
    expected = F.normalize(torch.as_tensor(to_numpy(x)), dim=-1).numpy()
    npt.assert_allclose(to_numpy(y), expected, rtol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("eps", [None, 1e-3])
def test_the_epsilon_of_unit_norm_is_a_length(xp, eps):
    # A token as long as eps comes out with length 1 / sqrt(2).
    size = np.finfo(float).eps if eps is None else eps
    y = to_numpy(unit_norm(like(size * np.array([[0.6, 0.8]]), xp.zeros(1, dtype=xp.float64)), eps=eps))
    npt.assert_allclose(y, np.array([[0.6, 0.8]]) / math.sqrt(2), rtol=1e-14)


@pytest.mark.parametrize("norm", [rms_norm, layer_norm, unit_norm])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_zero_token_stays_zero_and_does_not_touch_its_neighbour(xp, norm, dtype):
    x = draws(2, 4)
    x[0] = 0.0
    y = to_numpy(norm(like(x, xp.zeros(1, dtype=getattr(xp, dtype)))))
    npt.assert_array_equal(y[0], 0.0)
    npt.assert_array_equal(y[1], to_numpy(norm(like(x[1], xp.zeros(1, dtype=getattr(xp, dtype))))))


def test_rms_norm_and_unit_norm_differ_by_the_root_of_d():
    x = draws(3, 16)
    npt.assert_allclose(rms_norm(x, eps=0.0), 4.0 * unit_norm(x, eps=0.0), rtol=1e-14)


def test_the_jacobian_of_rms_norm_is_the_projector_of_the_theory():
    # (1 / rms) (I - x x^T / (d rms^2))
    x = torch.as_tensor(draws(5))
    rms = math.sqrt(float((x * x).mean()))
    expected = (torch.eye(5, dtype=torch.float64) - torch.outer(x, x) / (5 * rms**2)) / rms
    jacobian = torch.func.jacrev(partial(rms_norm, eps=0.0))(x)
    npt.assert_allclose(jacobian.numpy(), expected.numpy(), atol=1e-14)


@pytest.mark.parametrize("norm", [rms_norm, unit_norm, layer_norm])
def test_an_epsilon_from_an_array_does_not_change_the_dtype(norm):
    assert norm(np.ones((2, 3), np.float32), eps=np.float64(1e-6)).dtype == np.float32


@pytest.mark.parametrize("norm", [rms_norm, layer_norm])
def test_a_weight_of_another_shape_kind_or_dtype_is_refused(norm):
    with pytest.raises(ValueError, match=r"weight must have shape \(4,\), one number for each feature, got \(3,\)"):
        norm(np.ones((3, 4)), weight=np.ones(3))
    with pytest.raises(ValueError, match=r"weight must have shape \(4,\), one number for each feature, got \(3, 1\)"):
        norm(np.ones((3, 4)), weight=np.ones((3, 1)))
    with pytest.raises(TypeError, match="mixed"):
        norm(np.ones((3, 4)), weight=torch.ones(4))


def test_a_bias_of_another_shape_or_kind_is_refused():
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\)"):
        layer_norm(np.ones((3, 4)), bias=np.ones(3))
    with pytest.raises(TypeError, match="dtypes are mixed"):
        layer_norm(np.ones((3, 4), np.float32), bias=np.ones(4))


@pytest.mark.parametrize("norm", [rms_norm, layer_norm, unit_norm])
def test_integers_are_refused(norm):
    with pytest.raises(TypeError, match="must be floating point"):
        norm(np.ones((3, 4), int))


@pytest.mark.parametrize("norm", [rms_norm, layer_norm, unit_norm])
def test_a_number_has_no_features_and_an_epsilon_is_a_number(xp, norm):
    with pytest.raises(InputError, match=r"needs \(..., d\), got a single number"):
        norm(xp.ones(()))
    with pytest.raises(InputError, match="eps must be a number, got 'small'"):
        norm(xp.ones(3), eps="small")


@pytest.mark.parametrize("norm", [unit_norm, partial(layer_norm, eps=0.0), partial(rms_norm, eps=0.0)])
def test_a_token_whose_squares_overflow_is_normalised_as_its_small_copy_and_the_others_as_they_are(norm):
    small = np.array([[3.0, 0.0, -4.0], [1.0, 2.0, 0.0]])
    npt.assert_allclose(norm(small * [[2.0**700], [1.0]]), norm(small), rtol=1e-15)
