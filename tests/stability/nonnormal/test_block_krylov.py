"""Arnoldi steps on all diagonal blocks at once against the eigenvalues of each block."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import InputError
from ctrlattn.stability.nonnormal import block_krylov
from ctrlattn.stability.nonnormal.block_krylov import block_radius


def product_of(blocks):
    return lambda v: np.einsum("nij,nj->ni", blocks, v)


@pytest.mark.parametrize("seed", range(20))
def test_d_steps_give_every_block_whole(seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(1, 7), rng.integers(1, 9)
    blocks = rng.standard_normal((n, d, d))
    outermost = block_radius(product_of(blocks), (n, d), seed=seed)
    radii = np.abs(np.linalg.eigvals(blocks)).max(axis=1)
    assert_allclose(abs(outermost.value), radii.max(), rtol=1e-9)
    assert outermost.block == radii.argmax()
    residual = blocks[outermost.block] @ outermost.vector - outermost.value * outermost.vector
    assert_allclose(np.abs(residual).max(), 0, atol=1e-8)
    assert outermost.settled


def test_a_large_block_settles_long_before_all_steps():
    rng = np.random.default_rng(0)
    blocks = rng.standard_normal((5, 300, 300)) / 40
    blocks[3] += 4 * np.outer(np.ones(300), np.ones(300)) / 300
    outermost = block_radius(product_of(blocks), (5, 300))
    assert outermost.block == 3
    assert outermost.settled
    assert outermost.steps < 40
    assert_allclose(abs(outermost.value), np.abs(np.linalg.eigvals(blocks[3])).max(), rtol=1e-6)


def test_too_few_steps_are_said_not_to_settle():
    blocks = np.random.default_rng(0).standard_normal((2, 100, 100))
    assert not block_radius(product_of(blocks), (2, 100), steps=5).settled


def test_the_residual_is_that_of_the_pair():
    blocks = np.random.default_rng(0).standard_normal((2, 30, 30))
    outermost = block_radius(product_of(blocks), (2, 30), steps=10)
    residual = blocks[outermost.block] @ outermost.vector - outermost.value * outermost.vector
    assert_allclose(outermost.error, np.linalg.norm(residual), rtol=1e-8)


def test_a_start_that_spans_an_invariant_space_ends_there():
    blocks = np.stack([2 * np.eye(6), np.diag([1.0, 1, 1, 3, 3, 3])])
    outermost = block_radius(product_of(blocks), (2, 6))
    assert outermost.block == 1
    assert_allclose(outermost.value, 3, rtol=1e-9)


def test_no_step_is_refused():
    with pytest.raises(InputError, match="steps"):
        block_radius(lambda v: v, (1, 2), steps=0)


def test_what_a_basis_leaves_of_the_vectors_of_every_block():
    basis = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    unit, coefficients = block_krylov._orthogonal(np.array([[2.0, 3.0, -4.0], [0.0, 5.0, 6.0]]), basis)
    assert_allclose(unit, [[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    assert_allclose(coefficients, [[2.0, 3.0, 4.0], [5.0, 6.0, 0.0]])
