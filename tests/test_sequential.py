"""All passes at once equal pass after pass: the wavefront and the compiled sweep against the literal order."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, layer_norm, rms_norm, sequential, simulate, unit_norm

WEIGHT = np.random.default_rng(1).standard_normal(4) + 2.0
NORMS = [
    None, rms_norm, unit_norm, layer_norm,
    partial(rms_norm, weight=WEIGHT), partial(rms_norm, eps=1e-3), partial(unit_norm, eps=0.1),
]  # fmt: skip


class Literal:
    """The causal mean as a predictor of nobody's acquaintance: token after token, pass after pass."""

    causal = True

    def __call__(self, x):
        return CausalMean()(x)

    def last(self, prefix):
        return CausalMean().last(prefix)


def loops():
    return st.builds(
        Loop,
        st.just(CausalMean()),
        skip=st.sampled_from([1.0, 0.9]),
        feedback=st.sampled_from([-1.0, 1.0, 0.4]),
        normalizer=st.sampled_from(NORMS),
        order=st.just("sequential"),
        hold_first=st.booleans(),
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(loops(), st.booleans(), st.integers(1, 9), st.integers(1, 7), st.sampled_from([(), (2,), (2, 3)]))
def test_both_ways_equal_the_literal_order(loop, pre, n, passes, batch):
    loop = replace(loop, normalize_input=pre and loop.normalizer is not None)
    x = np.random.default_rng(n * passes).standard_normal((*batch, n, 4))
    expected = simulate(replace(loop, predictor=Literal()), x, passes)
    size = np.max(np.abs(expected.state))
    ways = [wavefront]
    if sequential.is_compilable(loop.terms, x):
        ways.append(compiled)
    for way in ways:
        run = way(loop, x, passes, record=True)
        assert_allclose(run.states, expected.state, rtol=0, atol=1e-12 * size)
        assert_allclose(run.predictions, expected.prediction, rtol=0, atol=1e-12 * size)
        assert_allclose(way(loop, x, passes).states, expected.state[-1], rtol=0, atol=1e-12 * size)
        assert way(loop, x, passes).predictions is None


def wavefront(loop, x, passes, *, record=False):
    """The wavefront, however large the work."""
    return sequential.wavefront(loop.compare, loop.seen, x, passes, hold_first=loop.hold_first, record=record)


def compiled(loop, x, passes, *, record=False):
    """The compiled sweep, however small the work."""
    return sequential._compiled_sweep(loop.terms, x, passes, None, record)


def test_the_compiled_sweep_knows_what_it_may_do():
    x = np.ones((3, 4))
    automaton = Loop(CausalMean(), order="sequential")
    known = [None, rms_norm, unit_norm, partial(rms_norm, weight=WEIGHT)]
    assert all(sequential.is_compilable(replace(automaton, normalizer=norm).terms, x) for norm in known)
    assert not sequential.is_compilable(replace(automaton, normalizer=layer_norm).terms, x)
    assert not sequential.is_compilable(replace(automaton, normalizer=partial(rms_norm, weight=WEIGHT[:2])).terms, x)
    assert not sequential.is_compilable(automaton.terms, x.astype(np.float16))
    assert not sequential.is_running(Literal(), "sequential")
    assert not sequential.is_running(CausalMean(), "parallel")


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use of jacfwd
def test_gradients_and_transforms_take_the_wavefront():
    torch = pytest.importorskip("torch")
    automaton = Loop(CausalMean(), order="sequential")
    x = torch.ones(3, 4, dtype=torch.float64)
    assert sequential.is_compilable(automaton.terms, x)
    assert not sequential.is_compilable(automaton.terms, x.clone().requires_grad_())
    assert not sequential.is_compilable(automaton.terms, x.to("meta"))
    assert not sequential.is_compilable(replace(automaton, skip=torch.tensor(1.0)).terms, x)
    with torch.no_grad():
        assert sequential.is_compilable(automaton.terms, x.clone().requires_grad_())
    seen = []

    def probe(t):
        seen.append(sequential.is_compilable(automaton.terms, t))
        return t

    torch.func.jacrev(probe)(x)
    torch.func.jacfwd(probe)(x)
    torch.vmap(probe)(x[None])
    assert seen == [False] * 3


@pytest.mark.parametrize("norm", [None, rms_norm, layer_norm], ids=["plain", "rms", "layer"])
@pytest.mark.parametrize("pre", [False, True])
def test_gradients_pass_gradcheck(norm, pre):
    torch = pytest.importorskip("torch")
    if pre and norm is None:
        pytest.skip("nothing to normalise")
    loop = Loop(CausalMean(), normalizer=norm, normalize_input=pre, order="sequential", hold_first=True)
    x = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: simulate(loop, t, 3, record="last").state, x)
    assert torch.autograd.gradcheck(lambda t: simulate(loop, t, 2)[:3], x)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "norm"), [(np.float32, None), (np.float64, rms_norm)])
def test_large_signals_take_the_compiled_sweep_and_nobody_notices(xp, dtype, norm):
    loop = Loop(CausalMean(), normalizer=norm, order="sequential", hold_first=True)
    x = np.random.default_rng(0).standard_normal((2, 1200, 32)).astype(dtype)
    signal = x if xp is np else xp.from_numpy(x)
    assert x[0].size * 7 >= sequential._WORTH_COMPILING
    run = simulate(loop, signal, 7)
    expected = wavefront(loop, x.astype(np.float64), 7, record=True)
    tolerance = (1e-12 if dtype == np.float64 else 1e-5) * np.max(np.abs(expected.states))
    assert run.state.dtype == signal.dtype
    assert isinstance(run.state, type(signal))
    assert_allclose(np.asarray(run.state), expected.states, rtol=0, atol=tolerance)
    assert_allclose(np.asarray(run.prediction), expected.predictions, rtol=0, atol=tolerance)
    assert_allclose(np.asarray(run.error), x - np.asarray(run.state)[:-1], rtol=0, atol=1e-6)
    assert not np.any(np.asarray(run.control))
    last = simulate(loop, signal, 7, record="last").state
    assert_allclose(np.asarray(last), np.asarray(run.state[-1]), rtol=0, atol=tolerance)


@pytest.mark.slow
def test_a_batch_of_short_sequences_loads_no_compiler():
    script = (
        "import sys, numpy as np, ctrlattn\n"
        "for shape in ((200, 12, 64), (1024, 64)):\n"
        "    ctrlattn.simulate(ctrlattn.presets.get('prediction-error'), np.ones(shape), 15)\n"
        "    print('numba' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["False", "True"]


@pytest.mark.slow
def test_a_controller_and_a_disturbance_take_one_layer_after_the_other():
    loop = Loop(CausalMean(), order="sequential", controller=PID(0.3, 0.1, 0.05), reference_gain=0.5)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 600, 256)), rng.standard_normal((3, 2, 600, 256))
    expected = simulate(replace(loop, predictor=Literal()), x, 3, disturbance=w)
    run = simulate(loop, x, 3, disturbance=w)
    for a, b in zip(run, expected, strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-12 * np.max(np.abs(expected.state)))


def test_memory_in_any_order_is_read_right():
    loop = Loop(CausalMean(), normalizer=rms_norm, order="sequential")
    x = np.random.default_rng(0).standard_normal((2, 9, 7, 4))
    for view in (np.swapaxes(x, 0, 2), x[..., ::2, :], x[..., ::-1], np.asfortranarray(x)):
        before = view.copy()
        run = compiled(loop, view, 3, record=True)
        assert_allclose(run.states, wavefront(loop, view, 3, record=True).states, rtol=0, atol=1e-13)
        assert np.array_equal(view, before)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["1", "2", "", "many"])
def test_threads_share_a_batch_and_change_nothing(asked, monkeypatch):
    from ctrlattn.kernels import causal_mean

    monkeypatch.setenv("OMP_NUM_THREADS", asked)  # it is read when a sweep begins
    x = np.random.default_rng(0).standard_normal((9, 1400, 40))
    loop = Loop(CausalMean(), normalizer=rms_norm, order="sequential")
    assert x[0].size * 5 >= sequential._WORTH_COMPILING
    y = sequential.run_passes(loop.compare, loop.seen, loop.terms, x, 5).states
    assert np.array_equal(y, np.stack([sequential._compiled_sweep(loop.terms, s, 5, None, False).states for s in x]))
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert causal_mean._threads() == (min(int(asked), available) if asked.isdigit() else available)


def test_a_long_sum_of_equal_numbers_stays_right_in_float32():
    x = np.full((100_000, 4), 0.1, dtype=np.float32)
    state = simulate(Loop(CausalMean(), order="sequential"), x, 1, record="last").state
    exact = np.array([x[0], 0 * x[0], *np.broadcast_to(x[0] / 2, (len(x) - 2, 4))])
    assert_allclose(state, exact, rtol=0, atol=2e-8)  # 3.8e-4 of .1, when the sum itself was float32


@pytest.mark.slow
def test_it_compiles_whole_and_maps_over_a_batch():
    torch = pytest.importorskip("torch")
    loop = Loop(CausalMean(), order="sequential", normalizer=rms_norm)
    x = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = torch.compile(loop.step, fullgraph=True, backend="eager")
    assert torch.equal(step(x, loop.init(x))[0], loop.step(x, loop.init(x))[0])
    mapped = torch.vmap(lambda s: simulate(loop, s, 3, record="last").state)(x)
    assert_allclose(mapped.numpy(), simulate(loop, x, 3, record="last").state.numpy(), rtol=0, atol=1e-13)
