"""Token by token equals the whole sequence at once, with the memory of one running sum a layer."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, SoftmaxAttention, layer_norm, presets, rms_norm, simulate, stream

LOOPS = {
    "plain": presets.get("prediction-error"),
    "rms": presets.get("prediction-error-rms"),
    "pre-norm": Loop(CausalMean(), order="sequential", normalizer=rms_norm, normalize_input=True),
    "layer norm": Loop(CausalMean(), order="sequential", normalizer=layer_norm),
    "controlled": Loop(CausalMean(), order="sequential", controller=PID(0.3, 0.1, 0.05), reference_gain=0.7),
    "ema": Loop(CausalMean(), order="sequential", controller=PID(0.3, 0.1, 0.05, form="ema"), hold_first=True),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("shape", [(1, 3), (9, 3), (2, 2, 6, 3)])
@pytest.mark.parametrize("layers", [0, 1, 6])
def test_stream_is_simulate(xp, name, shape, layers):
    x = np.random.default_rng(0).standard_normal(shape)
    x = x if xp is np else xp.from_numpy(x)
    automaton = stream(LOOPS[name], layers)
    pushed = xp.stack([automaton.push(x[..., i, :]) for i in range(shape[-2])], -2)
    expected = simulate(LOOPS[name], x, layers, record="last").state
    assert isinstance(pushed, type(x))
    assert_allclose(np.asarray(pushed), np.asarray(expected), rtol=0, atol=1e-12)
    assert automaton.tokens == shape[-2]


def test_a_reference_of_its_own():
    x, r = np.random.default_rng(0).standard_normal((2, 5, 3))
    automaton = stream(LOOPS["controlled"], 4)
    pushed = np.stack([automaton.push(a, b) for a, b in zip(x, r, strict=True)])
    expected = simulate(LOOPS["controlled"], x, 4, reference=r, record="last").state
    assert_allclose(pushed, expected, rtol=0, atol=1e-12)


def test_gradients_may_begin_and_end_between_tokens():
    torch = pytest.importorskip("torch")
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = simulate(LOOPS["rms"], x, 4, record="last").state
    automaton = stream(LOOPS["rms"], 4)
    tokens = [x[i].clone().requires_grad_() if i in (2, 3) else x[i] for i in range(6)]
    pushed = [automaton.push(token) for token in tokens]
    assert_allclose(torch.stack(pushed).detach().numpy(), expected.numpy(), rtol=0, atol=1e-12)
    assert torch.autograd.grad(pushed[3].sum(), tokens[2])[0].abs().sum() > 0


def test_memory_does_not_grow_with_the_context():
    automaton = stream(LOOPS["rms"], 5)
    sizes = set()
    for token in np.random.default_rng(0).standard_normal((50, 4)):
        automaton.push(token)
        sizes.add(sum(np.size(value) for value in automaton.__dict__["_sums"]))
    assert sizes == {5 * 4}


def test_bad_input():
    automaton = stream(LOOPS["plain"], 2)
    automaton.push(np.ones(3))
    with pytest.raises(ValueError, match="shaped as the first token"):
        automaton.push(np.ones(4))
    with pytest.raises(TypeError, match="dtypes are mixed"):
        automaton.push(np.ones(3, dtype=np.float32))
    with pytest.raises(ValueError, match="the token must be finite: found nan at index \\(1,\\)"):
        automaton.push(np.array([0.0, np.nan, 0.0]))
    with pytest.raises(ValueError, match="shaped as the first token"):
        automaton.push(np.ones(3), np.ones(2))
    assert automaton.tokens == 1
    with pytest.raises(ValueError, match="running sum"):
        stream(Loop(CausalMean()), 2)
    with pytest.raises(ValueError, match="running sum"):
        stream(Loop(SoftmaxAttention(), order="sequential"), 2)
    with pytest.raises(ValueError, match="sequence of 2 different layers"):
        stream([LOOPS["plain"]] * 2, 2)
    with pytest.raises(ValueError, match="layers must be a whole number"):
        stream(LOOPS["plain"], -1)
    with pytest.raises(ValueError, match="shaped as the first token"):
        stream(LOOPS["plain"], 2).push(np.array(1.0))


def test_a_first_token_that_is_refused_leaves_no_trace():
    automaton = stream(LOOPS["plain"], 2)
    for bad in (np.ones(3, dtype=int), np.array([1.0, np.nan, 1.0]), np.array(1.0)):
        with pytest.raises(ValueError, match=r"floating point|finite|shaped"):
            automaton.push(bad)
    assert automaton.push(np.ones(3)).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"shaped as the first token, \(3,\), got \(2,\)"):
        automaton.push(np.ones(2))
