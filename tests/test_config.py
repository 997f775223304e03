"""TOML <-> Loop is exact, and every fault of a file is told at once, with its path and value."""

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


def test_float32_arrays_stay_float32():
    matrix = RNG.random((3, 3)).astype(np.float32)
    back = config.loads(config.dumps(Loop(FixedAttention(matrix)))).loop
    assert back.predictor.matrix.dtype == np.float32
    assert_array_equal(back.predictor.matrix, matrix)


def test_preset_with_overrides_and_simulation():
    found = config.loads(
        '[loop]\npreset = "pidformer-ema"\nskip = 0.5\ncontroller = {kind = "pid", kp = 1}\nnormalizer = "rms_norm"\n'
        "[simulation]\nlayers = 3\nseed = 7"
    )
    assert (found.loop.skip, found.loop.controller.kp, found.loop.normalizer) == (0.5, 1.0, rms_norm)
    assert found.loop.reference_gain == 0.1
    assert vars(found.simulation) == {"layers": 3, "tokens": 12, "features": 16, "seed": 7}
    assert config.loads('[loop]\npreset = "neutreno"\ncontroller = "none"').loop.controller is None


def test_every_fault_at_once_with_path_and_value():
    text = """
    [loop]
    preset = "neutrno"
    skp = 1.0
    order = "sequental"
    predictor = {kind = "softmax_attention", heds = 2, heads = "many"}
    controller = {kind = "pid", kp = "big", ema = 3}
    [simulation]
    layers = -1
    tokens = 0
    """
    with pytest.raises(ValueError, match=r"loop\.preset") as caught:
        config.loads(text)
    lines = str(caught.value).splitlines()
    expected = {
        "loop.preset": "neutreno",
        "loop.skp": "'skip'",
        "loop.order": "'sequental'",
        "loop.predictor.heds": "'heads'",
        "loop.predictor.heads": "'many'",
        "loop.controller.kp": "'big'",
        "loop.controller.ema": "3",
        "simulation.layers": "-1",
        "simulation.tokens": "0",
    }
    assert len(lines) == len(expected)
    for path, word in expected.items():
        assert any(line.startswith(f"{path}:") and word in line for line in lines), path


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "loop: Field required"),
        ("[loop]", "a loop needs a preset or a predictor"),
        ("[loop", "not TOML"),
        ('[loop]\npredictor = "softmx"', "unknown kind 'softmx'"),
        ('[loop]\npredictor = "causal_men"', "did you mean 'causal_mean'"),
        ('[loop]\npredictor = {kind = "fixed_attention"}', "loop.predictor.matrix"),
        ('[loop]\npredictor = {kind = "fixed_attention", matrix = [[1.0], [2.0, 3.0]]}', "rows of equal length"),
        ('[loop]\npredictor = {kind = "fixed_attention", matrix = [[1.0, 2.0]]}', "an attention matrix is"),
        ('[loop]\npredictor = {kind = "fixed_attention", matrix = [[nan]]}', "must be finite"),
        ('[loop]\npredictor = {kind = "softmax_attention", causal = false}\norder = "sequential"', "not causal"),
        ('[loop]\npreset = "softmax"\nskip = inf', "loop.skip"),
        (
            '[loop]\npreset = "softmax"\ncontroller = {kind = "lti", A = [[1.0]], B = [], C = [], D = [[1.0]]}',
            "controller",
        ),
        ('[loop]\npreset = "softmax"\nnormalize_input = true', "needs a normalizer"),
        ('[lop]\npreset = "softmax"', "did you mean 'loop'"),
    ],
)
def test_faults(text, word):
    with pytest.raises(ValueError, match=r".+") as caught:
        config.loads(text)
    assert word in str(caught.value)


def test_files(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(config.dumps(presets.get("softmax")))
    assert config.load(path).loop.skip == 0.0
    path.write_text("[loop]\nx = 1\ny = 2")
    with pytest.raises(ValueError, match="unknown key") as caught:
        config.load(path)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read"):
        config.load(path)
    with pytest.raises(ValueError, match="cannot be read"):
        config.load(tmp_path)


def test_what_a_file_cannot_hold():
    torch = pytest.importorskip("torch")
    for loop, word in {
        Loop(lambda x: x): "predictor",
        Loop(CausalMean(), normalizer=lambda x: x): "normalizer",
        Loop(FixedAttention(torch.eye(2))): "torch tensor",
        Loop(FixedAttention(np.eye(2, dtype=np.float16))): "float16",
    }.items():
        with pytest.raises(ValueError, match=word):
            config.dumps(loop)


def test_a_key_outside_its_table_is_told_where_it_belongs():
    with pytest.raises(ValueError, match=r"feedback: belongs below \[loop\]"):
        config.loads("feedback = 1.0")
