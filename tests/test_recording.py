"""What a scan records is what it was given, in numpy and in torch, with gradients and without."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ctrlattn import PID, Loop, simulate
from ctrlattn.predictors import FixedAttention
from ctrlattn.recording import Collected, Written, recording

SHAPE = (3, 2)


def layers(seed, count=4):
    """(x, y, e, u) of each layer; nothing acts in every other one."""
    rng = np.random.default_rng(seed)
    return [(*rng.standard_normal((3, *SHAPE)), rng.standard_normal(SHAPE) if k % 2 else None) for k in range(count)]


def given(start, signals):
    x, y, e, u = zip(*signals, strict=True)
    return np.stack([start, *x]), np.stack(y), np.stack(e), np.stack([np.zeros(SHAPE) if v is None else v for v in u])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_signals_of_numpy_stay_what_they_are(seed, dtype):
    start = np.ones(SHAPE, dtype)
    signals = [tuple(None if s is None else s.astype(dtype) for s in layer) for layer in layers(seed)]
    record = recording(start, len(signals), acts=True)
    assert isinstance(record, Written)
    for layer in signals:
        record.add(*layer)
    for recorded, wanted in zip(record.whole(), given(start, signals), strict=True):
        assert_array_equal(recorded, wanted)
        assert recorded.dtype == dtype
        assert recorded.flags.writeable


def test_what_is_recorded_does_not_change_with_the_array_it_came_from():
    record, x = recording(np.ones(SHAPE), 1, acts=True), np.full(SHAPE, 2.0)
    record.add(x, x, x, x)
    x[:] = 0
    for signal in record.whole():
        assert (signal[-1] == 2).all()


@pytest.mark.parametrize("acting", [(False, False), (False, True), (True, True)])
def test_signals_of_torch_are_stacked(acting):
    torch = pytest.importorskip("torch")
    record = recording(torch.ones(SHAPE), 2, acts=any(acting))
    assert isinstance(record, Collected)
    signals = [(*torch.randn(3, *SHAPE), torch.randn(SHAPE) if acts else None) for acts in acting]
    for layer in signals:
        record.add(*layer)
    for recorded, wanted in zip(record.whole(), given(np.ones(SHAPE), signals), strict=True):
        assert_array_equal(recorded.numpy(), wanted.astype(np.float32))


@pytest.mark.parametrize("controller", [None, PID(0.3, 0.1, 0.2)])
def test_a_gradient_reaches_every_recorded_layer(controller):
    torch = pytest.importorskip("torch")
    A = torch.softmax(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), -1)
    loop = Loop(FixedAttention(A), controller=controller)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: simulate(loop, x, 3)[:3], (x,))


@pytest.mark.parametrize("acts", [False, True])
def test_no_layer_gives_the_start_alone(acts):
    for start in (np.ones(SHAPE), pytest.importorskip("torch").ones(SHAPE)):
        state, *others = recording(start, 0, acts=acts).whole()
        assert_array_equal(np.asarray(state), np.ones((1, *SHAPE)))
        assert [tuple(signal.shape) for signal in others] == [(0, *SHAPE)] * 3


@pytest.mark.parametrize("acts", [False, True])
def test_large_signals_are_apart_and_small_ones_share_their_memory(acts):
    small = recording(np.ones((8, 8)), 4, acts=acts).whole()
    assert small[1].base is small[2].base
    large = recording(np.ones((2**10, 2**10)), 2, acts=acts).whole()
    assert all(signal.base is None for signal in large)


@pytest.mark.parametrize("size", [4, 2**18])
def test_without_a_controller_the_control_is_zero(size):
    run = simulate(Loop(lambda x: 0.5 * x), np.ones((size, 2)), 3)
    assert run.control.shape == run.error.shape == (3, size, 2)
    assert not run.control.any()
    assert_array_equal(run.state, 0.5 ** np.arange(4)[:, None, None] * np.ones((4, size, 2)))


def test_a_control_that_is_zero_has_no_gradient():
    torch = pytest.importorskip("torch")
    run = simulate(Loop(lambda x: 0.5 * x), torch.ones(4, 2, requires_grad=True), 3)
    assert run.state.requires_grad
    assert not run.control.requires_grad
    assert not run.control.numpy().any()


@pytest.mark.parametrize("loops", [1, 3])
def test_errors_that_come_at_the_end_are_those_of_each_layer(loops):
    """One loop for all layers makes them at once; loops with a gain of their own make them layer by layer."""
    rng = np.random.default_rng(loops)
    x, r = rng.standard_normal((2, *SHAPE))
    each = [Loop(lambda x: 0.5 * x, reference_gain=0.3 + 0.4 * k) for k in range(loops)]
    run = simulate(each[0] if loops == 1 else each, x, 3, reference=r)
    for k in range(3):
        assert_array_equal(run.error[k], each[k % loops].reference_gain * r - run.state[k])
    assert run.error.flags.writeable
