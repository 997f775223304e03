"""The Jacobian of a layer: finite differences, its transpose, the cache that a configuration wants."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.measure.jacobian import recorded_jacobian, remembering  # noqa: E402
from ctrlattn.linear import jacobian_operator  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use

IDS = [3, 1, 4, 1, 5]
SIZES = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 12}


def tiny(name):
    torch.manual_seed(0)
    model = {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)),
        "bert": lambda: transformers.BertModel(transformers.BertConfig(**SIZES)),
    }[name]().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return checkpoints.load(model)


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("layer", [0, 2])
def test_products_are_central_differences(name, layer):
    checkpoint = tiny(name)
    jacobian = checkpoints.layer_jacobian(checkpoint, layer, IDS)
    f, h = checkpoints.layer_function(checkpoint, layer, IDS)
    rng = np.random.default_rng(0)
    v, w = rng.standard_normal((2, jacobian.shape[0]))
    step = 1e-2 * float(h.norm()) / np.linalg.norm(v)  # float32 inside the norms and the softmax must resolve it
    by = torch.as_tensor(step * v).reshape(h.shape)
    with torch.no_grad():
        central = ((f(h + by) - f(h - by)) / (2 * step)).numpy().ravel()
    assert np.linalg.norm(jacobian @ v - central) <= 2e-3 * np.linalg.norm(central)
    assert_allclose(w @ (jacobian @ v), v @ (jacobian.T @ w), rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_forward_mode_says_the_same(name):
    checkpoint = tiny(name)
    recorded = checkpoints.layer_jacobian(checkpoint, 1, IDS)
    forward = jacobian_operator(*checkpoints.layer_function(checkpoint, 1, IDS))
    assert_allclose(recorded @ np.eye(40), forward @ np.eye(40), rtol=0, atol=1e-5)


def test_a_network_in_bfloat16_has_products_in_float32():
    double = tiny("llama")
    exact = checkpoints.layer_jacobian(double, 1, IDS) @ np.eye(40)
    rounded = checkpoints.layer_jacobian(checkpoints.load(double.model.to(torch.bfloat16)), 1, IDS)
    assert rounded.dtype == np.float32
    assert np.linalg.norm(rounded @ np.eye(40, dtype=np.float32) - exact) < 0.1 * np.linalg.norm(exact)


def test_a_layer_that_returns_nan_is_told():
    with pytest.raises(ValueError, match="finite"):
        recorded_jacobian(lambda h: h / 0, torch.zeros(2, 3))


def test_a_cache_in_the_configuration_does_not_change_it():
    checkpoint = tiny("llama")
    v = np.random.default_rng(1).standard_normal(40)
    off = checkpoints.layer_jacobian(checkpoint, 1, IDS)
    before = off @ v
    checkpoint.model.config.use_cache = True
    on = checkpoints.layer_jacobian(checkpoint, 1, IDS)
    for _ in range(2):  # a live cache grows with each call
        assert_allclose(on @ v, before, rtol=1e-12)


def test_a_causal_layer_has_a_block_triangular_jacobian():
    dense = checkpoints.layer_jacobian(tiny("llama"), 1, IDS) @ np.eye(40)
    blocks = dense.reshape(5, 8, 5, 8)
    for i in range(5):
        assert not blocks[i, :, i + 1 :].any()
    assert blocks[4, :, 0].any()


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there(layer):
    with pytest.raises(ValueError, match=r"0 \.\.\. 2"):
        checkpoints.layer_jacobian(tiny("llama"), layer, IDS)


def counted(A):
    """(the operator of a matrix, the vectors that it was asked for)."""
    from scipy.sparse.linalg import LinearOperator

    asked = []
    operator = LinearOperator(
        A.shape, matvec=lambda v: asked.append(v.copy()) or A @ v, rmatvec=lambda w: A.T @ w, dtype=A.dtype
    )
    return operator, asked


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("few", [1, 3])
def test_the_first_products_are_remembered_and_no_other(dtype, few):
    rng = np.random.default_rng(few)
    A, vectors = rng.standard_normal((5, 4)).astype(dtype), rng.standard_normal((4, 4)).astype(dtype)
    operator, asked = counted(A)
    spared = []
    J = remembering(operator, few, lambda: spared.append(1))
    for _ in range(2):
        for v in vectors:
            moved = J @ v
            np.testing.assert_array_equal(moved, A @ v)
            assert moved.dtype == dtype
            moved[:] = np.nan  # what a caller does with an answer is not remembered
    assert len(spared) == few
    assert len(asked) == 8 - few
    np.testing.assert_array_equal(J.T @ A[:, 0], A.T @ A[:, 0])


def test_a_vector_of_another_kind_is_not_taken_for_a_remembered_one():
    """The same bytes, another number; and a change by one rounding."""
    operator, asked = counted(np.diag(np.array([1.0, 2.0])))
    J = remembering(operator, 4)
    v = np.array([1.0, 3.0])
    for vector in (v, v.view(np.int64), np.nextafter(v, 2.0), v[:, None]):
        np.testing.assert_array_equal(J @ vector, np.diag([1.0, 2.0]) @ vector)
    assert len(asked) == 3
