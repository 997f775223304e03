"""The controlled module against the published equations, against the Loop, and against itself in other forms."""

import control
import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID, FixedAttention, Loop, LTIController, simulate  # noqa: E402  (after the skip)
from ctrlattn.nn import Actuator, ControlledAttention, DepthState, LearnedPID  # noqa: E402
from ctrlattn.nn.modules.attention import control_values  # noqa: E402
from ctrlattn.tracking import Tracking  # noqa: E402

PRINTED, CODE, NEUTRENO = PID(0.8, 0.5, 0.05), PID(0.8, 0.5, 0.05, form="ema", ema=0.3), PID(0.6)
LTI = LTIController(control.tf([0.5, 0.1], [1.0, -0.3, 0.2], 1))
CONTROLLERS = {"printed": PRINTED, "code": CODE, "neutreno": NEUTRENO, "lti": LTI, "none": None}


def chain(controller, layers=4, *, dim=12, heads=3, seed=0, **options):
    """DeiT-style weights: normal of deviation .02, here .25, so that attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    modules = [ControlledAttention(dim, heads, controller=controller, **options).double() for _ in range(layers)]
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.copy_(0.25 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return torch.nn.ModuleList(modules)


def tokens(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(modules, x, **options):
    depth_state = None
    for module in modules:
        x, depth_state = module(x, depth_state, **options)
    return x, depth_state


def published(modules, x, law, beta):
    """The laws written out: explicit attention matrices, and the sums over layers as they are printed."""
    dim, heads = modules[0].proj.in_features, modules[0].heads
    values, errors, averages = [], [], []
    for layer, module in enumerate(modules):
        bias = 0.0 if module.qkv.bias is None else module.qkv.bias
        projected = x @ module.qkv.weight.T + bias
        q, k, v = (
            torch.stack([part[..., h * dim // heads : (h + 1) * dim // heads] for h in range(heads)], 1)
            for part in (projected[..., :dim], projected[..., dim : 2 * dim], projected[..., 2 * dim :])
        )
        scores = q @ k.transpose(-1, -2) / (dim // heads) ** 0.5
        u = (torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True)) @ v
        values.append(v)
        errors.append(beta * values[0] - v)
        u = u + LAWS[law](layer, values, errors, averages)
        x = torch.cat(list(u.unbind(1)), -1) @ module.proj.weight.T + module.proj.bias
    return x


def printed_law(layer, values, errors, averages):
    if layer == 0:
        return 0.0
    e = errors[layer]
    return 0.8 * e + 0.5 * sum(errors[1 : layer + 1]) + 0.05 * (e - errors[layer - 1])


def code_law(layer, values, errors, averages):
    if layer == 0:
        averages.append(torch.zeros_like(values[0]))
        return 0.0
    e, derivative = errors[layer], 0.0
    if layer >= 2:
        derivative = values[layer - 2] - values[layer - 1]
    u = 0.8 * e + 0.5 * averages[layer - 1] + 0.05 * derivative
    averages.append(0.3 * e + 0.7 * averages[layer - 1])
    return u


def neutreno_law(layer, values, errors, averages):
    return 0.6 * errors[layer] if layer > 0 else 0.0


LAWS = {"printed": printed_law, "code": code_law, "neutreno": neutreno_law}


@pytest.mark.parametrize("beta", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("law", LAWS)
def test_four_layers_are_the_published_equations(law, bias, beta):
    modules = chain(CONTROLLERS[law], reference_gain=beta, qkv_bias=bias)
    x = tokens(2, 7, 12).requires_grad_()
    weights = [x, *modules.parameters()]
    ours, _ = run(modules, x)
    theirs = published(modules, x, law, beta)
    scale = theirs.abs().max().item()
    npt.assert_allclose(ours.detach(), theirs.detach(), rtol=0, atol=1e-12 * max(scale, 1))
    gradients = zip(*(torch.autograd.grad(y.sin().sum(), weights) for y in (ours, theirs)), strict=True)
    for found, expected in gradients:
        npt.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(expected.abs().max().item(), 1))


class Frozen(ControlledAttention):
    """Attention that does not read the tokens."""

    matrix = None

    def attend(self, q, k, v, *, mask, is_causal):
        return self.matrix @ v


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_a_chain_of_modules_is_the_loop(name, beta):
    controller, dim, heads, n, layers = CONTROLLERS[name], 8, 2, 5, 6
    matrix = torch.softmax(tokens(heads, n, n, seed=3), -1)
    x, state = tokens(n, dim), None
    value = torch.linalg.qr(tokens(dim, dim, seed=4))[0]
    v0 = x @ value.T
    for _ in range(layers):
        module = Frozen(dim, heads, controller=controller, reference_gain=beta, qkv_bias=False).double()
        module.matrix = matrix
        with torch.no_grad():
            module.qkv.weight[2 * dim :] = value
            module.proj.weight.copy_(value.T)  # W_O W_V = I
            module.proj.bias.zero_()
        x, state = module(x, state)
    loop = Loop(FixedAttention(matrix), skip=0.0, feedback=1.0, controller=controller, reference_gain=beta)
    expected = simulate(loop, v0, layers).state[-1]
    npt.assert_allclose((x @ value.T).detach(), expected, rtol=0, atol=1e-12)
    npt.assert_allclose(state.reference.flatten(-2).detach(), v0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_chain_with_grouped_queries_is_the_loop_of_its_values(name):
    # Two query heads share one head of values; W_O reads their mean, W_O W_V = I on it.
    dim, n, layers = 8, 5, 6
    matrix, x, state = torch.softmax(tokens(n, n, seed=3), -1), tokens(n, dim), None
    value = torch.linalg.qr(tokens(dim, dim, seed=4))[0][:4]
    v0 = x @ value.T
    for _ in range(layers):
        module = Frozen(dim, 2, kv_heads=1, controller=CONTROLLERS[name], qkv_bias=False).double()
        module.matrix = matrix
        with torch.no_grad():
            module.qkv.weight[-4:] = value
            module.proj.weight.copy_(torch.cat([value.T, value.T], 1) / 2)
            module.proj.bias.zero_()
        x, state = module(x, state)
    loop = Loop(FixedAttention(matrix), skip=0.0, feedback=1.0, controller=CONTROLLERS[name])
    npt.assert_allclose((x @ value.T).detach(), simulate(loop, v0, layers).state[-1], rtol=0, atol=1e-12)
    assert state.reference.shape == (n, 2, 4)


@pytest.mark.parametrize(("name", "memories"), [("printed", 2), ("code", 3), ("lti", 2), ("none", 0)])
def test_the_depth_state_is_v0_and_the_memory(name, memories):
    modules = chain(CONTROLLERS[name])
    x = tokens(2, 7, 12)
    y, state = modules[0](x)
    assert isinstance(state, DepthState)
    npt.assert_array_equal(state.reference.flatten(-2).detach(), modules[0].qkv(x)[..., 24:].detach())
    _, later = modules[1](y, state)
    assert later.reference is state.reference
    assert len(later.controller or ()) == memories
    assert all(memory.shape == state.reference.shape for memory in later.controller or ())


def test_nothing_stays_on_the_module():
    modules = chain(CODE)
    before = [set(vars(module)) for module in modules]
    first = run(modules, tokens(2, 7, 12))[0]
    run(modules, tokens(3, 4, 12))
    npt.assert_array_equal(run(modules, tokens(2, 7, 12))[0].detach(), first.detach())
    assert [set(vars(module)) for module in modules] == before
    assert not list(modules.buffers())


@pytest.mark.parametrize("name", CONTROLLERS)
def test_the_future_is_not_read_and_a_cache_gives_the_same(name):
    modules, x = chain(CONTROLLERS[name], causal=True), tokens(2, 7, 12)
    full, _ = run(modules, x)
    pieces, pasts = [], [None] * len(modules)
    for part in (x[:, :3], x[:, 3:4], x[:, 4:]):
        state = None
        for k, module in enumerate(modules):
            part, state, pasts[k] = module.decode(part, state, pasts[k])
        pieces.append(part)
    npt.assert_allclose(torch.cat(pieces, 1).detach(), full.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_padding_is_as_if_it_were_not_there(causal):
    modules, x = chain(CODE, causal=causal), tokens(2, 7, 12)
    padding = torch.ones(2, 7, dtype=torch.bool)
    padding[0, :2] = False  # on the left
    padding[1, 5:] = False  # on the right
    ours = run(modules, x, padding=padding)[0].detach()
    assert torch.isfinite(ours).all()
    for row, part in ((0, slice(2, None)), (1, slice(None, 5))):
        alone = run(modules, x[row : row + 1, part])[0].detach()
        npt.assert_allclose(ours[row : row + 1, part], alone, rtol=0, atol=1e-12)


def test_grouped_queries_are_heads_that_share_keys_and_values():
    grouped = chain(CODE, heads=4, kv_heads=2, causal=True)
    full = chain(CODE, heads=4, causal=True)
    with torch.no_grad():
        for few, many in zip(grouped, full, strict=True):
            q, k, v = few.qkv.weight.unflatten(0, (8, 3)).split([4, 2, 2])
            weight = torch.cat([q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0)])
            many.qkv.weight.copy_(weight.flatten(0, 1))
            q, k, v = few.qkv.bias.unflatten(0, (8, 3)).split([4, 2, 2])
            many.qkv.bias.copy_(torch.cat([q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0)]).flatten())
            many.proj.load_state_dict(few.proj.state_dict())
    x = tokens(2, 6, 12)
    (ours, state), (theirs, _) = run(grouped, x), run(full, x)
    npt.assert_allclose(ours.detach(), theirs.detach(), rtol=0, atol=1e-12)
    assert state.reference.shape == (2, 6, 4, 3)


def test_gains_of_zero_are_attention_without_control():
    modules, x = chain(PID(0.0, 0.0, 0.0)), tokens(2, 7, 12)
    plain = chain(None)
    plain.load_state_dict(modules.state_dict())
    npt.assert_array_equal(run(modules, x)[0].detach(), run(plain, x)[0].detach())


def test_learned_gains_have_the_gradient_of_finite_differences():
    law = LearnedPID(CODE).double()
    modules, x = chain(law), tokens(1, 4, 12)
    with torch.no_grad():
        law.theta.zero_()

    def output(theta):
        replaced = {f"{k}.controller.theta": theta for k in range(len(modules))}
        return torch.func.functional_call(Chain(modules), {f"layers.{name}": t for name, t in replaced.items()}, (x,))

    assert torch.autograd.gradcheck(output, (law.theta,))


class Chain(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return run(self.layers, x)[0]


@pytest.mark.slow
@pytest.mark.parametrize("controller", [CODE, LearnedPID(CODE), Actuator(PRINTED, gain=0.5, limit=0.3)])
def test_one_graph_holds_the_chain(controller):
    network, x = Chain(chain(controller, 3)), tokens(1, 3, 12)  # the derivative of the code looks two layers back
    # Learned gains go through the tracer of gradients too, which knows no more of a graph than its operations.
    backend = "aot_eager" if isinstance(controller, LearnedPID) else "eager"
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    npt.assert_allclose(compiled(x).detach(), network(x).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["printed", "code", "lti"])
def test_autocast_computes_in_bfloat16_what_float32_computes(name):
    modules, x = chain(CONTROLLERS[name]).float(), tokens(2, 7, 12).float()
    exact = run(modules, x)[0].detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = run(modules, x)
    assert y.dtype == torch.bfloat16
    # What adds up over depth does so in float32.
    assert all(memory.dtype == torch.float32 for memory in (state.reference, *state.controller))
    assert (y.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_an_integral_under_autocast_is_that_of_the_values_it_was_given():
    # 300 layers of an error of 1/3 (in bfloat16) sum to 300 of them; in bfloat16 the sum would stop growing at 64.
    tracking, layers = Tracking(PID(0.0, 1.0)), 300
    v0, v = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16), torch.full((1, 1, 1, 1), -1 / 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, state = control_values(tracking, v0, None)
        for _ in range(layers):
            u, state = control_values(tracking, v, state)
    npt.assert_allclose(u.item(), -layers * v.item(), rtol=1e-5)


def test_dropout_is_off_in_evaluation():
    modules, x = chain(CODE, dropout=0.5), tokens(2, 7, 12)
    plain = chain(CODE)
    plain.load_state_dict(modules.state_dict())
    assert not np.allclose(run(modules, x)[0].detach(), run(plain, x)[0].detach())
    npt.assert_array_equal(run(modules.eval(), x)[0].detach(), run(plain, x)[0].detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "dim must be a multiple of heads: 12 features, 5 heads"),
        ({"heads": 0}, "heads must be a whole number of at least 1, got 0"),
        ({"heads": 4, "kv_heads": 3}, "heads must be a multiple of kv_heads: 4 query heads, 3"),
        ({"reference_gain": float("inf")}, "reference_gain must be finite"),
    ],
)
def test_a_module_that_cannot_be_built_says_why(options, message):
    with pytest.raises(ValueError, match=message):
        ControlledAttention(12, **{"heads": 3, **options}, controller=PRINTED)


def test_a_controller_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="controller must be a PID"):
        ControlledAttention(12, 3, controller="pid")


def test_input_that_does_not_fit_says_why():
    module = chain(PRINTED, 1)[0]
    _, state = module(tokens(2, 7, 12))
    with pytest.raises(ValueError, match="tokens must have 12 features"):
        module(tokens(2, 7, 8))
    with pytest.raises(ValueError, match=r"v_0 of shape \(2, 7, 3, 4\), the values of this layer are \(2, 6, 3, 4\)"):
        module(tokens(2, 6, 12), state)
    with pytest.raises(ValueError, match=r"padding must be bool \(\.\.\., 7\)"):
        module(tokens(2, 7, 12), padding=torch.ones(2, 7))
    with pytest.raises(ValueError, match="a cache needs causal=True"):
        module.decode(tokens(2, 1, 12), None, (tokens(2, 3, 3, 4), tokens(2, 3, 3, 4)))
