"""Training: learning, divergence and where it stopped, the gauge of the sign."""

import math

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import InputError  # noqa: E402
from ctrlattn.nn.experiment.arm_names import AGAIN, FLIPPED  # noqa: E402
from ctrlattn.nn.experiment.plan import ARMS  # noqa: E402
from ctrlattn.nn.experiment.scores import loss_of, score  # noqa: E402
from ctrlattn.nn.experiment.training import build, fit, status_of, train  # noqa: E402
from ctrlattn.nn.modules.names import RELATIVES  # noqa: E402


@pytest.mark.slow
def test_a_run_learns_and_says_so(settings, corners):
    run = train(settings(epochs=30, rate=0.01), corners())
    assert (run["status"], run["where"]) == ("learned", None)
    assert run["scores"]["clean"] > 0.9
    assert run["losses"][-1] < 0.3 * run["losses"][0]
    assert len(run["losses"]) == len(run["valid"]) == 30
    assert run["scores"]["fgsm_32"] <= run["scores"]["clean"]
    assert run["scores"]["pgd_16"] <= run["scores"]["clean"]


@pytest.mark.slow
def test_equal_settings_give_equal_runs_and_a_seed_gives_another(settings, corners):
    a, b, other = (train(settings(seed=s, depth=3), corners()) for s in (1, 1, 2))
    assert a == b
    assert a["losses"] != other["losses"]


def test_arms_of_one_seed_begin_alike_and_the_again_arm_does_not(settings, corners):
    data = corners()
    first = {arm: build(settings(arm), data).state_dict() for arm in ("softmax", "pidformer-ema", "comparator", AGAIN)}
    for name, value in first["softmax"].items():
        npt.assert_array_equal(value, first["pidformer-ema"][name])
        npt.assert_array_equal(value, first["comparator"][name])
    assert (first["softmax"]["head.weight"] - first[AGAIN]["head.weight"]).abs().max() > 0.01


def test_the_sign_is_a_gauge_the_comparator_is_the_flipped_softmax_bit_for_bit(settings, corners):
    data = corners()
    comparator, flipped, softmax = (build(settings(arm), data) for arm in ("comparator", FLIPPED, "softmax"))
    runs = [fit(model, data, settings(arm)) for model, arm in ((comparator, "comparator"), (flipped, FLIPPED))]
    assert runs[0] == runs[1]
    assert score(comparator, data) == score(flipped, data)
    for (name, a), (_, b) in zip(comparator.named_parameters(), flipped.named_parameters(), strict=True):
        npt.assert_array_equal(a.detach(), (-b if ".attn.proj." in name else b).detach(), err_msg=name)
    # The sign is not nothing: from the same weights the two train differently.
    assert fit(softmax, data, settings()).losses != runs[0].losses


def test_a_loss_that_is_not_finite_stops_there_and_keeps_the_last_good_weights(settings, corners):
    data = corners()
    whole, model = settings(epochs=6, rate=0.01), build(settings(), data)
    calls = {"n": 0}

    def spoil(module, arguments, output):
        calls["n"] += 1
        return output * float("nan") if calls["n"] == 12 else output  # 5 calls an epoch: 4 steps and one check

    model.register_forward_hook(spoil)
    weights = {}

    def remember(step, done, total):
        weights.update({name: value.clone() for name, value in model.state_dict().items()})

    curve = fit(model, data, whole, remember)
    assert curve.status == "not finite"
    assert curve.where == "epoch 3, step 2 of 4: the loss is nan"
    assert len(curve.losses) == 2
    for name, value in model.state_dict().items():
        npt.assert_array_equal(value, weights[name], err_msg=name)


@pytest.mark.slow
def test_a_run_in_float64_is_that_of_float32_but_for_rounding(settings, corners, tmp_path):
    from safetensors.torch import load_file

    data, file = corners(), tmp_path / "weights.safetensors"
    single, double = (settings("pidformer-ema-learned", epochs=1, dtype=dtype) for dtype in ("float32", "float64"))
    for (name, a), (_, b) in zip(
        build(single, data).state_dict().items(), build(double, data).state_dict().items(), strict=True
    ):
        assert (a.dtype, b.dtype) == (torch.float32, torch.float64)
        npt.assert_array_equal(a, b, err_msg=name)
    runs = [train(each, data, weights=file) for each in (single, double)]
    assert {value.dtype for value in load_file(file).values()} == {torch.float64}
    for name in ("losses", "valid"):
        away = abs(runs[0][name][0] - runs[1][name][0])
        assert 1e-12 < away < 1e-5, name
    short = [float(np.float32(run["valid"][0])) == run["valid"][0] for run in runs]
    assert short == [True, False]  # what float32 computes is one of its numbers
    before = [run["untrained"]["token_similarity"][-1] for run in runs]
    assert 0 < abs(before[0] - before[1]) < 1e-5


def test_every_arm_and_every_attack_runs_in_float64(settings, corners):
    data = corners()
    arms = (*ARMS, "neutreno-learned-each", "neutreno-saturated", "neutreno-scheduled", *RELATIVES)
    for arm in arms:
        run = settings(arm, dtype="float64")
        model = build(run, data)
        seen = []
        model.register_forward_hook(lambda module, given, logits: seen.append((given[0].dtype, logits.dtype)))  # noqa: B023
        loss_of(model, data, data.valid).backward()
        assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float64}, arm
        if arm == "softmax":
            score(model, data)
            assert len(seen) > 40
        assert set(seen) == {(torch.float64, torch.float64)}, arm


def test_numbers_that_a_network_cannot_have_are_refused(settings, corners):
    for dtype in ("float16", "bfloat16", "Float64", None):
        with pytest.raises(InputError, match="unknown dtype"):
            build(settings(dtype=dtype), corners())


def test_a_rate_far_too_high_is_told_from_one_far_too_low(settings, corners):
    chance = corners().chance()
    assert chance == pytest.approx(math.log(4))
    assert train(settings(rate=1e-9), corners())["status"] == "no learning"
    assert train(settings(rate=30.0, epochs=3), corners())["status"] in ("exploded", "no learning", "not finite")
    assert status_of([0.1, 0.2, 5.0], chance) == "exploded"
    assert status_of([9.0, 0.2], chance) == "learned"  # it recovered
    assert status_of([1.4, 1.3], chance) == "no learning"


def test_stochastic_depth_draws_from_the_seed_of_the_run(settings, corners):
    runs = [fit(build(settings(drop_path=0.5), corners()), corners(), settings(drop_path=0.5)) for _ in range(2)]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses != fit(build(settings(), corners()), corners(), settings()).losses
