"""The Jacobian of a layer: finite differences, its transpose, the cache that a configuration wants."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import InputError, checkpoints  # noqa: E402  (after the skip)
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


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_products_with_several_vectors_are_those_with_each(name):
    J = checkpoints.layer_jacobian(tiny(name), 1, IDS)
    V = np.random.default_rng(2).standard_normal((40, 11))  # more than go together
    for operator in (J, J.T):
        assert_allclose(operator @ V, np.stack([operator @ v for v in V.T], axis=1), rtol=1e-9, atol=1e-10)


def test_products_with_several_vectors_go_through_chosen_experts():
    torch.manual_seed(0)
    config = transformers.MixtralConfig(**SIZES, num_key_value_heads=1, num_local_experts=3)
    J = checkpoints.layer_jacobian(checkpoints.load(transformers.MixtralForCausalLM(config)), 1, IDS)
    V = np.random.default_rng(2).standard_normal((40, 3)).astype(np.float32)
    for operator in (J, J.T):
        assert_allclose(operator @ V, np.stack([operator @ v for v in V.T], axis=1), rtol=0, atol=1e-5)


class Unbatched(torch.autograd.Function):
    """h^2, whose derivative asks for a number of what it is given: no batch of vectors can go through it."""

    @staticmethod
    def forward(context, h):
        context.save_for_backward(h)
        return h**2

    @staticmethod
    def backward(context, given):
        given.detach().sum().item()
        return 2 * given * context.saved_tensors[0]


def test_a_layer_that_takes_no_batch_is_asked_for_one_product_after_the_other():
    J = recorded_jacobian(Unbatched.apply, torch.tensor([[1.0, 3.0]]))
    assert_allclose(J @ np.eye(2, dtype=np.float32), [[2.0, 0.0], [0.0, 6.0]])
    assert_allclose(J.T @ np.array([[1.0, 2.0], [1.0, 2.0]], np.float32), [[2.0, 4.0], [6.0, 12.0]])


def changing(h):
    h *= 3
    return h


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda h: torch.ones(1, 3), np.zeros((3, 2))),  # nothing of h is in it
        (lambda h: h.detach(), np.zeros((2, 2))),
        (lambda h: h, np.eye(2)),
        (changing, 3 * np.eye(2)),  # in place
    ],
)
def test_layers_that_keep_nothing_everything_or_change_it_in_place(layer, expected):
    h = torch.tensor([[1.0, 3.0]])
    J = recorded_jacobian(layer, h)
    assert h.tolist() == [[1.0, 3.0]]
    assert_allclose(J @ np.eye(2, dtype=np.float32), expected)
    assert_allclose(J @ np.ones(2, np.float32), expected.sum(1))
    assert_allclose(J.T @ np.eye(len(expected), dtype=np.float32), expected.T)


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


def test_several_vectors_are_remembered_as_each_is():
    rng = np.random.default_rng(0)
    A, V = rng.standard_normal((5, 4)), rng.standard_normal((4, 3))
    operator, asked = counted(A)
    spared = []
    J = remembering(operator, 2, lambda: spared.append(1))
    J @ V[:, 1]
    assert_allclose(J @ V, A @ V)  # two are new, of which one has room
    assert (len(asked), len(spared)) == (3, 1)
    again = J @ V[:, ::-1]
    assert_allclose(again, A @ V[:, ::-1])
    again[:] = np.nan
    assert_allclose(J @ V, A @ V)
    assert (len(asked), len(spared)) == (5, 5)
    assert_allclose(J.T @ A, A.T @ A)


def test_a_vector_of_another_kind_is_not_taken_for_a_remembered_one():
    """The same bytes, another number; and a change by one rounding."""
    operator, asked = counted(np.diag(np.array([1.0, 2.0])))
    J = remembering(operator, 4)
    v = np.array([1.0, 3.0])
    for vector in (v, v.view(np.int64), np.nextafter(v, 2.0), v[:, None]):
        np.testing.assert_array_equal(J @ vector, np.diag([1.0, 2.0]) @ vector)
    assert len(asked) == 3


def test_vectors_that_begin_alike_are_told_apart():
    A = np.random.default_rng(0).standard_normal((40, 40))
    first, second = np.ones(40), np.ones(40)
    second[-1] = 2.0
    operator, asked = counted(A)
    J = remembering(operator, 4)
    for vector in (first, second, first):
        assert_allclose(J @ vector, A @ vector)
    assert len(asked) == 2


def test_numbers_whose_sum_overflows_are_no_fault():
    """Each is finite in float32, and all of them together are not; opposite infinities are two faults."""
    J = recorded_jacobian(lambda h: h * torch.full((4,), 3e38), torch.ones(4))
    assert_allclose(J @ np.ones(4, np.float32), 3e38, rtol=1e-6)
    assert_allclose(J @ np.eye(4, dtype=np.float32), 3e38 * np.eye(4), rtol=1e-6)
    with pytest.raises(InputError, match="not finite"):
        J @ np.array([3, -3, 1, 1], np.float32)


def half(name, dtype, size):
    """(a network in half precision, the same weights in float64), with an embedding of this size."""
    import copy

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}
    torch.manual_seed(0)
    if name == "llama":
        config = transformers.LlamaConfig(vocab_size=23, intermediate_size=24, **sizes)
        model = transformers.LlamaForCausalLM(config)
    else:
        model = transformers.BertModel(transformers.BertConfig(vocab_size=23, intermediate_size=24, **sizes))
    weight = model.get_input_embeddings().weight
    weight.data.mul_(size / weight.abs().max())
    model = model.eval().to(dtype)
    return checkpoints.load(model), checkpoints.load(copy.deepcopy(model).double())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(("name", "size"), [("llama", 1.0), ("llama", 1e-6), ("llama", 3e4), ("bert", 1.0)])
def test_the_jacobian_of_half_precision_is_that_of_its_weights(name, dtype, size):
    # In bfloat16 J v had three digits, whose errors made a departure from normality of 1; in float16 a small stream
    # before RMSNorm overflowed in the backward pass, and the profile ended in a LinAlgError.
    narrow, wide = half(name, dtype, size)
    ids = [1, 5, 3, 9, 2]
    J, exact = (checkpoints.layer_jacobian(each, 0, ids) for each in (narrow, wide))
    assert J.dtype == np.float32
    identity = np.eye(J.shape[1])
    # The stream in front of layer 0 is the embedding: the same numbers in both.
    expected = exact @ identity
    # Rotations come from the recorded pass, and BERT has a norm in front: both are rounded to the dtype.
    tolerance = 2e-5 if size in (1e-6, 3e4) else 4 * torch.finfo(dtype).eps
    assert_allclose(J @ identity.astype(np.float32), expected, atol=tolerance * np.abs(expected).max())
    assert_allclose(J.T @ identity.astype(np.float32), expected.T, atol=tolerance * np.abs(expected).max())


def test_a_product_that_is_not_finite_is_told():
    J = recorded_jacobian(lambda h: h * 1e30, torch.ones(1, 2))
    assert_allclose(J @ np.ones(2, np.float32), 1e30, rtol=1e-6)
    with pytest.raises(
        InputError, match=r"a product with the Jacobian is not finite in torch\.float32: load the network"
    ):
        J @ np.full(2, 1e30, np.float32)
