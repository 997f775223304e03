"""Arms: what a name asks of a network, and what the variants with learned or limited control did."""

import itertools
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID, Loop, SoftmaxAttention, config  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.nn import LearnedPID  # noqa: E402
from ctrlattn.nn.experiment.arms import VARIANTS, learning_region, options_of  # noqa: E402
from ctrlattn.nn.experiment.training import build, train  # noqa: E402
from ctrlattn.stability import is_stable, stability_interval  # noqa: E402

PLAN = Path(__file__).parents[3] / "simulations" / "configs" / "train_digits.toml"


def test_an_arm_from_a_file_is_its_loop(tmp_path):
    path = tmp_path / "tuned.toml"
    path.write_text(config.dumps(Loop(SoftmaxAttention(causal=False), skip=0.0, feedback=1.0, controller=PID(0.25))))
    assert options_of(str(path))["controller"].kp == 0.25
    path.write_text(config.dumps(Loop(SoftmaxAttention(), skip=1.0)))
    with pytest.raises(ValueError, match="skip = 0, parallel, without normalizer"):
        options_of(str(path))


def test_the_tuned_arm_meets_its_specification():
    from ctrlattn.design import Spec, performance

    loop = config.load(PLAN.with_name("tuned.toml")).loop
    measures = performance(loop, np.linspace(0.0, 1.0, 21))
    spec = Spec(modulus_margin=0.4, settling=12, steady_state_error=0.0)
    assert all(np.min(slack) >= -1e-9 for slack in spec.slack(measures).values())
    assert options_of(str(PLAN.with_name("tuned.toml")))["controller"].kp == loop.controller.kp


@pytest.mark.slow
def test_a_variant_is_the_law_of_its_preset_with_learned_or_limited_control():
    printed = options_of("pidformer-printed")
    law = options_of("pidformer-printed-learned")
    assert isinstance(law["controller"], LearnedPID)
    assert law["controller"].start is printed["controller"]
    assert {k: v for k, v in law.items() if k != "controller"} == {
        k: v for k, v in printed.items() if k != "controller"
    }
    first, *others = options_of("pidformer-ema-learned-each", depth=4)["controller"]
    assert first is options_of("pidformer-ema")["controller"]
    assert len({id(c) for c in others}) == 3
    saturated = options_of("neutreno-saturated", limit=0.3)["controller"]
    assert (saturated.controller.kp, saturated.gain, saturated.limit) == (0.6, 1.0, 0.3)
    scheduled = options_of("neutreno-scheduled", depth=4)["controller"]
    assert [c.gain for c in scheduled] == [1.0, 0.75, 0.5, 0.25]
    assert options_of("pidformer-ema-learned", text=True)["controller"].start.kp == 0.4


@pytest.mark.parametrize(("arm", "low"), [("pidformer-printed", 0.4), ("pidformer-ema", 0.0), ("neutreno", 0.0)])
def test_every_gain_that_can_be_learned_is_stable_on_the_region(arm, low):
    law = options_of(f"{arm}-learned")["controller"]
    start = law.start
    assert law.region == pytest.approx((low, 1.0))
    assert 0.05 < law.spread <= 0.5
    alphas = np.linspace(*law.region, 41)
    for signs in itertools.product((-1, 1), repeat=3):
        gains = [g * (1 + law.spread * 0.999 * s) for g, s in zip((start.kp, start.ki, start.kd), signs, strict=True)]
        assert is_stable(PID(*gains, form=start.form, ema=start.ema), alphas).all()


def test_where_the_published_gains_are_unstable_the_region_begins_above_the_edge():
    # The printed law at alpha = .15 has a pole on the circle: no box around its gains is stable there.
    low, _ = stability_interval(PID(0.8, 0.5, 0.05))
    assert learning_region(PID(0.8, 0.5, 0.05)) == pytest.approx((low + 0.25, 1.0))
    with pytest.raises(InputError, match=r"3/0/0 \(printed\) are not stable on \(0.75, 1\)"):
        learning_region(PID(3.0))


def test_variants_of_one_seed_begin_with_the_weights_of_their_preset(settings, corners):
    data = corners()
    for preset, suffix in itertools.product(("pidformer-printed", "neutreno"), VARIANTS):
        plain, variant = (build(settings(arm), data).state_dict() for arm in (preset, preset + suffix))
        for name, value in plain.items():
            npt.assert_array_equal(value, variant[name])
        learned = {name.rpartition(".")[2] for name in variant if name not in plain}
        assert learned == ({"theta"} if "learned" in suffix else set())


def test_gains_that_are_not_moved_compute_what_the_preset_computes(settings, corners):
    data = corners()
    x = data.prepare(data.test.inputs)
    plain, learned, each = (
        build(settings(f"pidformer-ema{suffix}", depth=4), data).eval() for suffix in ("", "-learned", "-learned-each")
    )
    npt.assert_allclose(learned(x).detach(), plain(x).detach(), rtol=0, atol=1e-6)
    npt.assert_allclose(each(x).detach(), plain(x).detach(), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_report_of_a_run_says_what_was_learned_and_clipped(settings, corners, monkeypatch):
    monkeypatch.setattr("ctrlattn.nn.experiment.training.score", lambda *_: {})  # attacks have tests of their own
    shared = train(settings("pidformer-ema-learned", depth=3, rate=0.02), corners())["controller"]
    assert shared["start"] == [0.8, 0.5, 0.05]
    assert len(shared["gains"]) == 1
    change = np.abs(np.array(shared["gains"][0]) / shared["start"] - 1)
    assert (change > 0).all()  # it learned ...
    assert change.max() > 0.01
    assert (change < shared["spread"]).all()  # ... inside the box
    each = train(settings("pidformer-ema-learned-each", depth=3, rate=0.02), corners())["controller"]
    assert len(each["gains"]) == 2
    assert each["gains"][0] != each["gains"][1]
    clipped = train(settings("pidformer-printed-saturated", depth=3, limit=0.2), corners())["controller"]
    assert clipped["limit"] == 0.2
    assert clipped["clipped"][0] == 0.0
    assert 0.05 < min(clipped["clipped"][1:]) <= 1.0
    for arm in ("softmax", "pidformer-printed", "pidformer-printed-scheduled"):
        assert "controller" not in train(settings(arm, epochs=1), corners())


@pytest.mark.slow
def test_a_limit_that_nothing_reaches_is_the_preset_to_the_bit(settings, corners):
    plain, wide = (
        train(settings(arm, depth=3, limit=1e6), corners()) for arm in ("pidformer-ema", "pidformer-ema-saturated")
    )
    assert wide.pop("controller")["clipped"] == [0.0, 0.0, 0.0]
    assert wide == plain


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("pidformer-printed-lerned", "did you mean 'pidformer-printed-learned'"),
        ("softmax-learned", "unknown arm 'softmax-learned'"),
        ("contranorm", "not a network of attention and MLP"),
        ("differentail", "did you mean 'differential'"),
    ],
)
def test_an_arm_that_there_is_not(arm, message):
    with pytest.raises(InputError, match=message):
        options_of(arm)
