"""The Jacobian of one layer by autodiff, against analytic Jacobians and central differences."""

from functools import partial

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import (
    PID,
    AssociativeMemory,
    BilateralFilter,
    CausalMean,
    FixedAttention,
    Loop,
    SoftmaxAttention,
    layer_norm,
    linearize,
    mode,
    pass_operator,
    presets,
    rms_norm,
)
from ctrlattn.errors import InputError, InputTypeError

RNG = np.random.default_rng(3)


def central_differences(loop, x, h=1e-6):
    state = loop.init(x)
    columns = []
    for j in range(x.size):
        step = np.zeros(x.size)
        step[j] = h
        step = step.reshape(x.shape)
        columns.append((loop.step(x + step, state)[0] - loop.step(x - step, state)[0]).ravel() / (2 * h))
    return np.stack(columns, -1)


@every_case("order", ["parallel", "sequential"])
def test_linear_loop_is_the_pass_operator_on_every_feature(order, xp):
    loop = Loop(CausalMean(), skip=0.9, feedback=-0.7, order=order)
    x = RNG.standard_normal((4, 3))
    system = linearize(loop, xp.asarray(x))
    assert_allclose(system.A, np.kron(pass_operator(loop, 4), np.eye(3)), atol=1e-13)
    assert_allclose(system.B, np.hstack([np.zeros((12, 12)), np.eye(12)]), atol=1e-15)  # r has no way in; w has


def test_rms_norm_jacobian():
    x = RNG.standard_normal((1, 6))
    loop = Loop(CausalMean(), normalizer=partial(rms_norm, eps=0.0))
    size = np.sqrt(np.mean(x**2))
    expected = (np.eye(6) - x.T @ x / (6 * size**2)) / size
    assert_allclose(linearize(loop, x).A, expected, atol=1e-13)


@pytest.mark.parametrize("form", ["printed", "ema"])
def test_one_token_with_controller_is_the_mode(form):
    loop = Loop(FixedAttention(np.array([[0.3]])), skip=0.2, feedback=0.5, controller=PID(0.8, 0.5, 0.05, form=form))
    system = linearize(loop, np.array([[1.7]]))
    assert_allclose(np.poly(system.A)[: mode(loop, 0.3).nstates + 1], np.poly(mode(loop, 0.3).A), atol=1e-12)
    z = np.exp(0.4j)
    assert_allclose(system(z)[0, 0], mode(loop, 0.3)(z), atol=1e-12)


@every_case(
    "loop",
    [
        Loop(SoftmaxAttention(heads=2), normalizer=layer_norm),
        Loop(SoftmaxAttention(strict=True), feedback=1.0, normalizer=rms_norm, order="sequential"),
        Loop(SoftmaxAttention(causal=False), normalizer=rms_norm, normalize_input=True),
        Loop(BilateralFilter(1.3), skip=0.5),
        Loop(AssociativeMemory(RNG.standard_normal((5, 4)), RNG.standard_normal((5, 4)), temperature=0.7, sink=0.1)),
    ],
)
def test_against_central_differences(loop):
    x = RNG.standard_normal((3, 4))
    assert_allclose(linearize(loop, x).A, central_differences(loop, x), atol=5e-9)


@every_case("name", presets.names())
def test_every_preset_at_its_own_point_in_both_kinds(name, xp):
    x = RNG.standard_normal((3, 2))
    loop = presets.get(name)
    assert_allclose(linearize(loop, xp.asarray(x)).A, linearize(loop, x).A, atol=1e-14)


def test_float32_input_is_linearised_in_float64():
    x = RNG.standard_normal((3, 2)).astype(np.float32)
    loop = Loop(SoftmaxAttention())
    assert_allclose(linearize(loop, x).A, linearize(loop, x.astype(float)).A, atol=1e-14)


def test_signal_names_are_kept():
    system = linearize(Loop(CausalMean(), controller=PID(0.5, 0.2, 0.1)), np.ones((2, 1)))
    assert system.state_labels == ["x[0,0]", "x[1,0]", "s0[0,0]", "s0[1,0]", "s1[0,0]", "s1[1,0]"]
    assert system.input_labels == ["r[0,0]", "r[1,0]", "w[0,0]", "w[1,0]"]
    assert (system.output_labels, system.dt) == (["y[0,0]", "y[1,0]"], 1)


@every_case("pid, memories", [(PID(0.5), []), (PID(0.5, kd=0.1), ["s1"]), (PID(0.5, 0.2), ["s0"])])
def test_a_memory_that_no_gain_reads_is_no_pole(pid, memories):
    system = linearize(Loop(FixedAttention(np.array([[0.4]])), skip=0.0, feedback=1.0, controller=pid), np.ones((1, 1)))
    assert system.state_labels == ["x[0,0]", *(f"{name}[0,0]" for name in memories)]
    expected = mode(Loop(FixedAttention(np.array([[0.4]])), skip=0.0, feedback=1.0, controller=pid), 0.4).poles()
    assert_allclose(np.sort(system.poles()), np.sort(expected), atol=1e-12)


def test_reference_and_memory_enter_where_a_norm_makes_them_matter():
    loop = Loop(CausalMean(), controller=PID(0.5, 0.2), normalizer=rms_norm)
    x, reference = RNG.standard_normal((2, 3)), RNG.standard_normal((2, 3))
    plain, other = linearize(loop, x), linearize(loop, x, reference=reference)
    pushed = linearize(loop, x, memory=(np.ones((2, 3)), np.zeros((2, 3))))
    assert np.abs(plain.A - other.A).max() > 1e-3
    assert np.abs(plain.A - pushed.A).max() > 1e-3


def test_refused():
    loop = Loop(CausalMean())
    with pytest.raises(ValueError, match="one signal"):
        linearize(loop, np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="sequence"):
        linearize([loop, loop], np.ones((3, 4)))
    with pytest.raises(ValueError, match="2 memories"):
        linearize(Loop(CausalMean(), controller=PID(0.5)), np.ones((3, 4)), memory=(np.ones((3, 4)),))
    with pytest.raises(TypeError, match="must accept torch tensors"):
        linearize(Loop(lambda x: np.cumsum(x, axis=-2, out=np.empty(x.shape))), np.ones((3, 4)))


def test_a_bug_of_the_package_is_no_bad_input(monkeypatch):
    def broken(self, x):
        raise AttributeError("a slip of ours")

    monkeypatch.setattr(CausalMean, "__call__", broken)
    with pytest.raises(AttributeError, match=r"^a slip of ours$") as caught:
        linearize(Loop(CausalMean()), np.ones((3, 4)))
    assert not isinstance(caught.value, InputError)


def test_bad_input_keeps_its_own_words():
    def refuses(x):
        raise InputTypeError("my own words")

    with pytest.raises(InputTypeError, match=r"^my own words$"):
        linearize(Loop(refuses), np.ones((3, 4)))
