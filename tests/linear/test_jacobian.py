"""Products with the Jacobian against the whole Jacobian, finite differences and linearize."""

import numpy as np
import pytest
import torch
from cases import every_case
from numpy.testing import assert_allclose
from scipy.sparse.linalg import eigs, svds

from ctrlattn import (
    AssociativeMemory,
    CausalMean,
    FixedAttention,
    Loop,
    SoftmaxAttention,
    jacobian_operator,
    layer_norm,
    linearize,
    pass_operator,
    presets,
    rms_norm,
    simulate,
)
from ctrlattn.linear.jacobian import _adjoint, jacobian_products

X = np.random.default_rng(0).standard_normal((6, 3))
MEMORY = AssociativeMemory(np.eye(3), np.arange(9.0).reshape(3, 3), temperature=0.7)
LOOPS = {
    "softmax": Loop(SoftmaxAttention()),
    "heads": Loop(SoftmaxAttention(heads=3), skip=0.9, feedback=0.5, normalizer=rms_norm),
    "pre-norm": Loop(SoftmaxAttention(causal=False), feedback=1.0, normalizer=layer_norm, normalize_input=True),
    "sequential": Loop(CausalMean(), normalizer=rms_norm, order="sequential"),
    "memory": Loop(MEMORY, feedback=1.0),
}


def layer(loop):
    return lambda x: loop.to(x).step(x, loop.init(x))[0]


@pytest.mark.parametrize("name", LOOPS)
def test_equals_linearize(name):
    # One layer at layer 0: no controller acts, r = x is held.
    jacobian = jacobian_operator(layer(LOOPS[name]), X)
    whole = linearize(LOOPS[name], X).A
    assert jacobian.shape == (18, 18)
    assert_allclose(jacobian @ np.eye(18), whole, atol=1e-12)
    assert_allclose(jacobian.T @ np.eye(18), whole.T, atol=1e-12)
    assert_allclose(jacobian.rmatvec(np.arange(18.0)), whole.T @ np.arange(18.0), atol=1e-11)


def test_many_layers_against_finite_differences():
    loop = presets.get("prediction-error-rms")

    def deep(x):
        return simulate(loop, x, 4, record="last").state

    jacobian = jacobian_operator(deep, X)
    v = np.random.default_rng(1).standard_normal(X.size)
    step = 1e-6
    numeric = (deep(X + step * v.reshape(X.shape)) - deep(X - step * v.reshape(X.shape))).ravel() / (2 * step)
    assert_allclose(jacobian @ v, numeric, atol=1e-7 * np.abs(numeric).max())
    w = np.random.default_rng(2).standard_normal(X.size)
    assert_allclose(w @ (jacobian @ v), (jacobian.T @ w) @ v, rtol=1e-11)


def test_numpy_and_torch_points_keep_their_dtype(xp):
    x = X.astype(np.float32)
    point = x if xp is np else xp.from_numpy(x)
    jacobian = jacobian_operator(layer(LOOPS["softmax"]), point)
    assert jacobian.dtype == np.float32
    assert (jacobian @ np.ones(18, np.float32)).dtype == np.float32
    assert_allclose(jacobian @ np.eye(18), linearize(LOOPS["softmax"], X).A, atol=1e-4)
    assert np.array_equal(np.asarray(point), x)


def test_maps_between_shapes():
    import torch

    jacobian = jacobian_operator(lambda x: torch.stack([x.sum(), (x**2).sum()]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert jacobian.shape == (2, 4)
    assert_allclose(jacobian @ np.eye(4), [[1, 1, 1, 1], [2, 4, 6, 8]])
    scalar = jacobian_operator(lambda x: (x**3).sum(), np.array(2.0))
    assert_allclose(scalar @ np.ones(1), [12.0])


class Squared(torch.autograd.Function):
    """x^2; who derives from it says its derivatives."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def setup_context(context, inputs, output):
        context.save_for_backward(*inputs)
        context.save_for_forward(*inputs)


def test_without_a_forward_mode_the_reverse_mode_does_it_twice():
    class Square(Squared):
        """No jvp is written, so that torch refuses forward mode."""

        @staticmethod
        def backward(context, gradient):
            return 2 * context.saved_tensors[0] * gradient

    jacobian = jacobian_operator(Square.apply, np.array([1.0, 2.0, 3.0]))
    assert_allclose(jacobian @ np.eye(3), np.diag([2.0, 4.0, 6.0]))


def test_what_scipy_makes_of_it():
    n = 24
    jacobian = jacobian_operator(layer(Loop(CausalMean(), order="sequential")), np.ones((n, 1)))
    top = svds(jacobian, k=1, return_singular_vectors=False, rng=0)
    assert_allclose(top, np.linalg.norm(pass_operator(Loop(CausalMean(), order="sequential"), n), 2), rtol=1e-8)
    matrix = np.diag(np.linspace(0.1, 1.0, 24))
    mixed = jacobian_operator(layer(Loop(FixedAttention(matrix), skip=0.0, feedback=1.0)), np.ones((24, 1)))
    assert_allclose(eigs(mixed, k=1, v0=np.ones(24), return_eigenvectors=False), [1.0], atol=1e-10)


@every_case(
    "f, x, error, word",
    [
        (lambda x: x, [1.0], TypeError, "numpy array"),
        (lambda x: x, np.array([1, 2]), TypeError, "floating"),
        (lambda x: x, np.array([1j]), TypeError, "real maps"),
        (lambda x: x, np.array([np.nan]), ValueError, "finite"),
        (lambda x: np.sin(np.asarray(x)), np.ones(2), TypeError, "torch"),
        (lambda x: (x, x), np.ones(2), TypeError, "array"),
    ],
    ids=["list", "integers", "complex", "nan", "numpy alone", "two"],
)
def test_refused(f, x, error, word):
    with pytest.raises(error, match=word):
        jacobian_operator(f, x)


def test_complex_vectors_are_refused():
    with pytest.raises(TypeError, match="real"):
        jacobian_operator(lambda x: 2 * x, np.ones(2)) @ np.array([1j, 0])


@pytest.mark.parametrize("columns", [1, 3])
def test_products_in_blocks_are_those_of_the_operator(columns):
    w = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def f(x):
        return torch.softmax(x @ w @ x.transpose(-1, -2), -1) @ torch.tanh(x)

    x = torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v = np.random.default_rng(0).standard_normal((48, columns))
    assert_allclose(jacobian_products(f, x)(v), jacobian_operator(f, x) @ v, rtol=1e-12, atol=1e-13)


@every_case(
    "f",
    [
        lambda x: 0 * x.detach(),  # constant
        lambda x: 2.0 * x,  # linear: J' w does not depend on x
        lambda x: torch.as_tensor(x).abs(),
        lambda x: x.clamp(0.0, 1.0) + x.mean(),
    ],
    ids=["constant", "linear", "abs", "clamp"],
)
def test_products_of_degenerate_maps(f):
    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(f, x).numpy()
    assert_allclose(jacobian_products(f, x)(np.eye(3)), expected, atol=1e-15)


def test_only_a_graph_that_can_be_derived_twice_gives_products_at_once():
    """J' w is linear in w: its graph leads back to w, and there is none for a constant."""
    x = torch.linspace(0.1, 1, 4, dtype=torch.float64)
    pulled, w = _adjoint(lambda v: v**3, x.clone())
    (back,) = torch.autograd.grad(pulled, w, torch.ones_like(pulled))
    assert_allclose(back, 3 * x**2, rtol=1e-14)
    assert _adjoint(lambda v: 0 * v.detach(), x.clone())[0] is None


@every_case("scale", [1e-6, 1.0, 1e6])
def test_a_derivative_that_cannot_be_derived_again_is_noticed_at_any_scale(scale):
    """The gradient of x^2 is right, and its own derivative is off by a thousandth: no product is made from that."""

    class Gradient(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, gradient):
            return 2 * x * gradient

        @staticmethod
        def setup_context(context, inputs, output):
            context.save_for_backward(inputs[0])

        @staticmethod
        def backward(context, w):
            return None, 1.001 * 2 * context.saved_tensors[0] * w

    class Square(Squared):
        @staticmethod
        def backward(context, gradient):
            return Gradient.apply(context.saved_tensors[0], gradient)

        @staticmethod
        def jvp(context, v):
            return 2 * context.saved_tensors[0] * v

    x = torch.linspace(0.5, 2, 4, dtype=torch.float64)
    products = jacobian_products(lambda v: scale * Square.apply(v), x)
    assert_allclose(products(np.eye(4)), scale * 2 * np.diag(x), rtol=1e-12)


@pytest.mark.parametrize("columns", [1, 3])
def test_products_by_the_graph_evaluate_the_map_no_more(columns):
    calls = []

    def f(x):
        calls.append(1)
        return torch.tanh(x) * x.sum()

    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    product = jacobian_products(f, x)
    made = len(calls)
    v = np.random.default_rng(0).normal(size=(3, columns))
    moved = product(v)
    assert len(calls) == made
    t = np.tanh(x.numpy())
    exact = np.diag((1 - t**2) * x.numpy().sum()) + t[:, None]
    np.testing.assert_allclose(moved, exact @ v, rtol=1e-12)
