"""What a scan records is what it was given, in numpy and in torch, with gradients and without."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ctrlattn import PID, Loop, simulate
from ctrlattn.arrays import to_numpy
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
    assert len({id(signal if signal.base is None else signal.base) for signal in large}) == 4


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("controller", [None, PID(0.3, 0.1, 0.2)])
@pytest.mark.parametrize("field", range(4))
def test_memory_is_used_again_once_no_signal_is_held_and_not_before(kind, controller, field):
    """Whatever single signal or part of it is held stays what it is; the memory of all of them comes again."""
    make = np.asarray if kind == "numpy" else pytest.importorskip("torch").from_numpy
    rng = np.random.default_rng(field)
    A, starts = make(0.1 * rng.standard_normal((8, 8))), [make(rng.standard_normal((8, 4))) for _ in range(6)]
    loop = Loop(FixedAttention(A), controller=controller)
    parts, wanted, places = [], [], set()
    for x in starts:
        run = simulate(loop, x, 5)
        parts.append(run[field][1:3])
        wanted.append(to_numpy(parts[-1]).copy())
    for part, numbers in zip(parts, wanted, strict=True):
        assert_array_equal(to_numpy(part), numbers)
    del run, parts, part
    for x in starts:
        places |= {to_numpy(signal).ctypes.data for signal in simulate(loop, x, 5)[:3]}
    assert len(places) <= 9  # at most three memories of three signals: two in turn, and one that was free before


FORMS = {
    "a view of bytes": memoryview,
    "flat": lambda state: state.reshape(-1),
    "turned twice": lambda state: state.T.T,
    "of another class": lambda state: state.view(np.recarray),
    "from torch": lambda state: pytest.importorskip("torch").from_numpy(state).numpy(),
    "by ctypes": lambda state: np.ctypeslib.as_array(np.ctypeslib.as_ctypes(state)),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_signal_holds_its_memory_in_every_form(name):
    loop, rng = Loop(lambda x: 0.5 * x), np.random.default_rng(0)
    first = simulate(loop, rng.standard_normal((8, 4)), 5)
    wanted = np.array(first.state)
    form = FORMS[name](first.state)
    del first
    for _ in range(4):
        simulate(loop, rng.standard_normal((8, 4)), 5)
    assert_array_equal(np.asarray(form).reshape(wanted.shape), wanted)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use
@pytest.mark.parametrize("layer", range(3))
def test_a_derivative_of_one_reference_gain_alone_is_recorded(layer):
    """Forward and backward: the states have none of it, and nothing acts."""
    torch = pytest.importorskip("torch")
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(layer))

    def error(gain):
        gains = [gain if k == layer else 0.5 for k in range(3)]
        return simulate([Loop(lambda x: 0.5 * x, reference_gain=g) for g in gains], x, 3).error

    at = torch.tensor(0.7, dtype=torch.float64)
    wanted = torch.zeros(3, 4, 2, dtype=torch.float64)
    wanted[layer] = x
    _, forward = torch.func.jvp(error, (at,), (torch.ones_like(at),))
    with torch.autograd.forward_ad.dual_level():
        dual = error(torch.autograd.forward_ad.make_dual(at, torch.ones_like(at)))
        plain_forward = torch.autograd.forward_ad.unpack_dual(dual).tangent
    backward = torch.autograd.functional.jacobian(error, at)
    for derivative in (forward, plain_forward, backward):
        assert_array_equal(derivative.numpy(), wanted.numpy())
