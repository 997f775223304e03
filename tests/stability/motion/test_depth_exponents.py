"""Exponents of a product of Jacobians against the dense product, on matrices and on a tiny network."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose
from scipy.sparse.linalg import LinearOperator, aslinearoperator

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.stability import lyapunov_exponents  # noqa: E402
from ctrlattn.stability.motion.depth_exponents import depth_exponents  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use


def lazily(matrices):
    return [lambda a=a: aslinearoperator(a) for a in matrices]


def product(matrices):
    return np.linalg.multi_dot(matrices[::-1])


def test_exponents_are_singular_values_of_the_product():
    matrices = np.random.default_rng(0).standard_normal((6, 12, 12))
    exact = np.log(np.linalg.svd(product(matrices), compute_uv=False)) / 6
    exponents = depth_exponents(lazily(matrices), k=3, sweeps=8)
    assert_allclose(exponents.exponents, exact[:3], atol=1e-6)
    assert_allclose(exponents.rates.mean(0), exponents.exponents)
    assert exponents.changes.max() < 1e-5
    # The directions at both ends are the singular vectors.
    moved = product(matrices) @ exponents.right[0]
    assert_allclose(np.abs(moved @ exponents.left[0]), np.linalg.norm(moved))
    # More sweeps, less error; one sweep alone is below.
    once = depth_exponents(lazily(matrices), k=3, sweeps=1)
    assert once.exponents[0] < exact[0]
    assert np.all(np.isinf(once.changes))


def test_diagonal_layers_in_closed_form():
    exponents = depth_exponents(lazily([np.diag([2.0, 1.0, 0.0])] * 4), k=3, sweeps=3)
    assert_allclose(exponents.exponents[:2], [np.log(2), 0.0], atol=1e-9)
    assert exponents.exponents[2] < -5  # annihilated: -inf but for rounding
    shear = np.array([[1.0, 1.0], [0.0, 1.0]])
    exact = np.log(np.linalg.norm(np.linalg.matrix_power(shear, 9), 2)) / 9
    assert_allclose(depth_exponents(lazily([shear] * 9), k=2, sweeps=4).exponents, [exact, -exact], atol=1e-9)


@pytest.mark.slow
def test_a_tiny_network():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2}
    model = transformers.LlamaModel(transformers.LlamaConfig(**sizes, intermediate_size=12)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    checkpoint = checkpoints.load(model)
    ids = [3, 1, 4]
    dense = [checkpoints.layer_jacobian(checkpoint, i, ids) @ np.eye(24) for i in range(4)]
    exact = np.log(np.linalg.svd(product(dense), compute_uv=False)) / 4
    layers = [lambda i=i: checkpoints.layer_jacobian(checkpoint, i, ids) for i in range(4)]
    exponents = depth_exponents(layers, k=2, sweeps=6)
    assert_allclose(exponents.exponents, exact[:2], atol=1e-4)
    # A second method, along the trajectory: all exponents together are the mean of ln |det J|.
    functions = checkpoints.layer_functions(checkpoint, ids)
    steps = [f for f, _ in functions]
    along = lyapunov_exponents(steps, functions[0][1], 4)
    assert_allclose(along.sum(), exact.sum(), atol=1e-4)


def test_bad_counts():
    with pytest.raises(ValueError, match="at least one layer"):
        depth_exponents([], k=1)
    with pytest.raises(ValueError, match="sweeps must be a whole number of at least 1, got 0"):
        depth_exponents(lazily([np.eye(2)]), k=1, sweeps=0)
    with pytest.raises(ValueError, match=r"k must be a whole number in 1 \.\.\. 2"):
        depth_exponents(lazily([np.eye(2)]), k=3)
    with pytest.raises(ValueError, match="layer 1 are not finite"):
        depth_exponents(lazily([np.eye(2), np.full((2, 2), np.nan)]), k=1, sweeps=1)


@every_case("sweeps", [1, 2, 4])
def test_a_sweep_costs_what_the_docstring_says(sweeps):
    counts = {"products": 0, "transposed": 0}

    def counted(name, matrix):
        def multiply(v):
            counts[name] += 1
            return matrix @ v

        return multiply

    def layer(a):
        return lambda: LinearOperator(a.shape, counted("products", a), counted("transposed", a.T), dtype=np.float64)

    matrices = np.random.default_rng(3).standard_normal((5, 4, 4))
    depth_exponents([layer(a) for a in matrices], k=2, sweeps=sweeps)
    assert counts == {"products": sweeps * 2 * 5, "transposed": (sweeps - 1) * 2 * 5}


@every_case("layer", range(4))
@every_case("way", ["forward", "transposed"])
def test_a_layer_whose_products_are_not_finite_is_named(layer, way):
    def broken(v):
        return np.full(2, np.inf)

    layers = lazily([np.diag([2.0, 0.5])] * 4)
    products = {"matvec": lambda v: v, "rmatvec": lambda v: v}
    products["matvec" if way == "forward" else "rmatvec"] = broken
    layers[layer] = lambda: LinearOperator((2, 2), dtype=float, **products)
    with pytest.raises(InputError, match=rf"the products with the Jacobian of layer {layer} are not finite"):
        depth_exponents(layers, k=2)
