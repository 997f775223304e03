"""Named loops: what each name computes, where it comes from, and a name that does not exist."""

import numpy as np
import numpy.testing as npt
import pytest

from ctrlattn import PID, AssociativeMemory, CausalMean, FixedAttention, Loop, SoftmaxAttention, presets, simulate
from ctrlattn.linear import open_loop_pole
from ctrlattn.memory import exchange, read_layer
from ctrlattn.normalizers import layer_norm
from ctrlattn.stability import spectral_radius, stability_interval

NAMES = {
    "prediction-error",
    "prediction-error-rms",
    "residual",
    "comparator",
    "softmax",
    "neutreno",
    "pidformer-printed",
    "pidformer-ema",
    "read",
    "read-plus",
    "contranorm",
    "pid-steering",
    "neutreno-text",
    "pidformer-printed-text",
    "pidformer-ema-text",
}


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def test_the_names_are_a_list_of_its_own():
    assert set(presets.names()) == NAMES
    presets.names().clear()
    assert set(presets.names()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_preset_says_what_it_is_and_where_it_comes_from(name):
    preset = presets.describe(name)
    assert preset.loop is presets.get(name)
    assert isinstance(preset.loop, Loop)
    assert preset.summary
    assert "arXiv" in preset.source or "docs/origin.md" in preset.source


# skip, feedback, reference gain, order, hold_first, causal predictor; Table of THEORY section 1 and PIDFORMER.md.
TABLE = {
    "prediction-error": (1.0, -1.0, 1.0, "sequential", True, True),
    "prediction-error-rms": (1.0, -1.0, 1.0, "sequential", True, True),
    "residual": (1.0, 1.0, 1.0, "parallel", False, True),
    "comparator": (1.0, -1.0, 1.0, "parallel", False, True),
    "softmax": (0.0, 1.0, 1.0, "parallel", False, False),
    "neutreno": (0.0, 1.0, 1.0, "parallel", False, False),
    "pidformer-printed": (0.0, 1.0, 1.0, "parallel", False, False),
    "pidformer-ema": (0.0, 1.0, 0.1, "parallel", False, False),
    "read": (1.0, -1.0, 1.0, "parallel", False, True),
    "read-plus": (1.0, 1.0, 1.0, "parallel", False, True),
    "contranorm": (1.0, -0.1, 1.0, "parallel", False, False),
    "pid-steering": (1.0, 1.0, 1.0, "parallel", False, True),
    "neutreno-text": (0.0, 1.0, 1.0, "parallel", False, True),
    "pidformer-printed-text": (0.0, 1.0, 0.3, "parallel", False, True),
    "pidformer-ema-text": (0.0, 1.0, 0.3, "parallel", False, True),
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_gains_signs_and_orders_are_those_of_the_sources(name):
    loop = presets.get(name)
    row = (loop.skip, loop.feedback, loop.reference_gain, loop.order, loop.hold_first, loop.predictor.causal)
    assert row == TABLE[name]


@pytest.mark.parametrize(
    ("name", "form", "gains"),
    [
        ("neutreno", "printed", (0.6, 0.0, 0.0)),
        ("pidformer-printed", "printed", (0.8, 0.5, 0.05)),
        ("pidformer-ema", "ema", (0.8, 0.5, 0.05)),
    ],
)
def test_published_gains(name, form, gains):
    pid = presets.get(name).controller
    assert isinstance(pid, PID)
    assert (pid.form, (pid.kp, pid.ki, pid.kd), pid.ema) == (form, gains, 0.3)


def test_the_softmax_preset_applies_attention_again_and_again():
    x = draws(4, 3)
    expected = x
    for _ in range(3):
        weights = np.exp(expected @ expected.T / np.sqrt(3))
        expected = weights / weights.sum(-1, keepdims=True) @ expected
    npt.assert_allclose(simulate(presets.get("softmax"), x, 3, record="last").state, expected, rtol=1e-12)


def test_residual_and_comparator_differ_in_the_sign_alone():
    x = draws(4, 3)
    plus, minus = (simulate(presets.get(name), x, 1, record="last").state for name in ("residual", "comparator"))
    npt.assert_allclose(plus + minus, 2 * x, rtol=1e-13, atol=1e-15)
    npt.assert_allclose(plus - minus, 2 * SoftmaxAttention()(x), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_another_predictor_leaves_the_preset_as_it_was(name):
    matrix = np.tril(draws(4, 4))
    loop = presets.get(name, predictor=FixedAttention(matrix))
    npt.assert_array_equal(loop.predictor.matrix, matrix)
    assert (loop.skip, loop.controller) == (presets.get(name).skip, presets.get(name).controller)
    assert not isinstance(presets.get(name).predictor, FixedAttention)


def test_a_predictor_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="is not causal"):
        presets.get("prediction-error", predictor=FixedAttention(np.ones((2, 2))))
    with pytest.raises(TypeError, match="predictor is the class CausalMean"):
        presets.get("residual", predictor=CausalMean)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("neutrino", "unknown preset 'neutrino': did you mean 'neutreno'"),
        ("pidformer_ema", "did you mean 'pidformer-ema'"),
        ("xyz", "known are prediction-error, .*pidformer-ema"),
        ("", "known are"),
        (None, "unknown preset None"),
    ],
)
@pytest.mark.parametrize("function", [presets.get, presets.describe])
def test_an_unknown_name_suggests_the_nearest(function, name, message):
    with pytest.raises(ValueError, match=message):
        function(name)


@pytest.mark.parametrize(("name", "feedback"), [("read", -1.0), ("read-plus", 1.0)])
def test_three_reads_are_a_layer_made_of_read_alone(name, feedback):
    memory = AssociativeMemory(draws(6, 4), draws(6, 4, seed=1), temperature=0.3, sink=0.2)
    three = [presets.get(name, predictor=memory), presets.get(name), presets.get(name, predictor=exchange(memory))]
    layer = read_layer(memory, context_temperature=0.2, feedback=feedback)
    x = draws(5, 4, seed=2)
    npt.assert_array_equal(simulate(three, x, 3).state, simulate(layer, x, 3).state)


def cosine(x):
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    n = len(x)
    return ((x @ x.T).sum() - n) / (n * (n - 1))


def test_contranorm_is_its_formula_and_keeps_tokens_apart():
    loop, x = presets.get("contranorm"), 0.2 * draws(6, 8) + draws(1, 8)
    weights = np.exp(x @ x.T / np.sqrt(8))
    expected = layer_norm(x - 0.1 * weights / weights.sum(-1, keepdims=True) @ x)
    npt.assert_allclose(simulate(loop, x, 1, record="last").state, expected, rtol=1e-12, atol=1e-13)
    # The sign is what does it: added instead of subtracted, the tokens grow more alike than the norm leaves them.
    apart, together = (
        simulate(Loop(loop.predictor, skip=1.0, feedback=f, normalizer=layer_norm), x, 8, record="last").state
        for f in (-0.1, 0.1)
    )
    assert cosine(apart) < cosine(layer_norm(x)) < cosine(together)


def test_steering_is_stable_on_condition():
    loop, modes = presets.get("pid-steering"), np.linspace(0.0, 1.0, 21)
    low, high = stability_interval(loop.controller)
    assert low < open_loop_pole(loop, 0.0)
    assert open_loop_pole(loop, 1.0) < high
    # x <- x + a x + P (r - x): z = 1 + a - P, stable for a < P < 2 + a and for no other P.
    for kp, stable in ((1.5, True), (0.9, False), (2.1, False)):
        radius = spectral_radius(PID(kp), open_loop_pole(loop, modes))
        npt.assert_allclose(radius, abs(1 + modes - kp), rtol=0, atol=1e-12)
        assert (radius.max() < 1) == stable
