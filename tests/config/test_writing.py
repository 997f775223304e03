"""Loop -> TOML -> Loop is exact, and what a file cannot hold is refused."""

from functools import partial

import control
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ctrlattn import (
    PID,
    AssociativeMemory,
    BilateralFilter,
    CausalMean,
    FixedAttention,
    Loop,
    LTIController,
    SoftmaxAttention,
    config,
    layer_norm,
    presets,
    rms_norm,
    simulate,
    unit_norm,
)

RNG = np.random.default_rng(0)
finite = st.floats(-1e6, 1e6)

LOOPS = {
    **{name: presets.get(name) for name in presets.names()},
    "fixed": Loop(FixedAttention(RNG.random((2, 4, 4))), skip=0.1 + 0.2),
    "projected": Loop(SoftmaxAttention(*RNG.standard_normal((4, 4, 4)), heads=2, strict=True, temperature=1 / 3)),
    "memory": Loop(AssociativeMemory(RNG.random((3, 4)), RNG.random((3, 4)), temperature=0.1, sink=0.3)),
    "bilateral": Loop(BilateralFilter(0.2, radius=1.0, spatial_bandwidth=2.0, grid=(2, 2)), feedback=0.7),
    "lti": Loop(CausalMean(), controller=LTIController(control.ss(0.9 * np.eye(2), [[1], [0.3]], [[1, 2]], 0.1, 1))),
    "static lti": Loop(CausalMean(), controller=LTIController(control.tf([0.3], [1], 1))),
    "weights": Loop(CausalMean(), normalizer=partial(layer_norm, weight=RNG.random(4), bias=RNG.random(4), eps=1e-3)),
    "vectors": Loop(CausalMean(), skip=RNG.random(4), feedback=-RNG.random(4)),
    "unit": Loop(CausalMean(), normalizer=partial(unit_norm, eps=1e-3)),
    "pre-norm": Loop(SoftmaxAttention(), feedback=1.0, normalizer=rms_norm, normalize_input=True),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_comes_back_to_the_last_bit(name):
    loop = LOOPS[name]
    text = config.dumps(loop)
    back = config.loads(text).loop
    assert config.dumps(back) == text
    x = np.random.default_rng(1).standard_normal((4, 4))
    assert_array_equal(simulate(back, x, 4).state, simulate(loop, x, 4).state)


@settings(max_examples=60)
@given(
    gains=st.tuples(finite, finite, finite, finite, finite, finite),
    ema=st.floats(1e-9, 1),
    form=st.sampled_from(["printed", "ema"]),
    matrix=st.lists(st.lists(finite, min_size=2, max_size=2), min_size=2, max_size=2),
)
def test_any_finite_numbers_come_back(gains, ema, form, matrix):
    skip, feedback, beta, kp, ki, kd = gains
    loop = Loop(
        FixedAttention(np.array(matrix)), skip=skip, feedback=feedback, reference_gain=beta,
        controller=PID(kp, ki, kd, form=form, ema=ema),
    )  # fmt: skip
    back = config.loads(config.dumps(loop)).loop
    assert (back.skip, back.feedback, back.reference_gain) == (skip, feedback, beta)
    assert vars(back.controller) == vars(loop.controller)
    assert_array_equal(back.predictor.matrix, loop.predictor.matrix)


def test_float32_vectors_of_gains_stay_float32():
    loop = Loop(CausalMean(), skip=np.array([0.1, 0.2], np.float32), feedback=np.float32(0.3))
    back = config.loads(config.dumps(loop)).loop
    assert back.skip.dtype == np.float32
    assert type(back.feedback) is float
    assert_array_equal(back.skip, loop.skip)


def test_float32_arrays_stay_float32():
    matrix = RNG.random((3, 3)).astype(np.float32)
    back = config.loads(config.dumps(Loop(FixedAttention(matrix)))).loop
    assert back.predictor.matrix.dtype == np.float32
    assert_array_equal(back.predictor.matrix, matrix)


def test_what_a_file_cannot_hold():
    torch = pytest.importorskip("torch")
    for loop, word in {
        Loop(lambda x: x): "predictor",
        Loop(CausalMean(), normalizer=lambda x: x): "normalizer",
        Loop(FixedAttention(torch.eye(2))): "torch tensor",
        Loop(FixedAttention(np.eye(2, dtype=np.float16))): "float16",
        Loop(CausalMean(), normalizer=partial(rms_norm, weight=torch.ones(2))): "normalizer.weight is a torch tensor",
    }.items():
        with pytest.raises(ValueError, match=word):
            config.dumps(loop)


def test_the_simulation_is_written_beside_the_loop():
    text = config.dumps(presets.get("softmax"), config.Simulation(layers=3, seed=7))
    assert text.endswith("[simulation]\nlayers = 3\ntokens = 12\nfeatures = 16\nseed = 7\n")


def test_a_number_of_numpy_is_written_as_a_number():
    loop = Loop(CausalMean(), normalizer=partial(rms_norm, eps=np.float64(1e-3)))
    assert config.loop_to_dict(loop)["normalizer"] == {"kind": "rms_norm", "eps": 1e-3}
