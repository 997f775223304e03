"""Training: learning, divergence and where it stopped, the gauge of the sign, measures, resuming, the command."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from ctrlattn import PID, Loop, SoftmaxAttention, config  # noqa: E402  (after the skip)
from ctrlattn.cli import app  # noqa: E402
from ctrlattn.nn import ControlledLM, ControlledViT  # noqa: E402
from ctrlattn.nn.experiment import comparison  # noqa: E402
from ctrlattn.nn.experiment.comparison import Claim, compare, plan_of, read_plan, summarise, value_of  # noqa: E402
from ctrlattn.nn.experiment.data import characters, images, load  # noqa: E402
from ctrlattn.nn.experiment.measures import attention_matrices, over_depth, slope  # noqa: E402
from ctrlattn.nn.experiment.table import lines, published  # noqa: E402
from ctrlattn.nn.experiment.training import AGAIN, FLIPPED, Settings, build, fit, options_of, score, status_of, train  # noqa: E402

PLAN = Path(__file__).parents[3] / "simulations" / "configs" / "train_digits.toml"
SMALL = {"epochs": 2, "depth": 2, "dim": 8, "heads": 2, "batch": 16}


def corners():
    """Which quarter of the image is bright: 64 to train, 16 to check, 40 to test."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    pixels = 0.3 * rng.random((120, 4, 4))
    for pixel, label in zip(pixels, labels, strict=True):
        pixel[2 * (label // 2) : 2 * (label // 2) + 2, 2 * (label % 2) : 2 * (label % 2) + 2] += 0.6
    return images("corners", pixels, labels, train=64, valid=16)


@pytest.fixture
def small_data(monkeypatch):
    monkeypatch.setattr(comparison, "load", lambda name: corners())
    return corners()


def settings(arm="softmax", seed=0, **changes):
    return Settings(arm, seed, **{**SMALL, **changes})


def test_a_run_learns_and_says_so():
    run = train(settings(epochs=30, rate=0.01), corners())
    assert (run["status"], run["where"]) == ("learned", None)
    assert run["scores"]["clean"] > 0.9
    assert run["losses"][-1] < 0.3 * run["losses"][0]
    assert len(run["losses"]) == len(run["valid"]) == 30
    assert run["scores"]["fgsm_32"] <= run["scores"]["clean"]
    assert run["scores"]["pgd_16"] <= run["scores"]["clean"]


def test_equal_settings_give_equal_runs_and_a_seed_gives_another():
    a, b, other = (train(settings(seed=s, depth=3), corners()) for s in (1, 1, 2))
    assert a == b
    assert a["losses"] != other["losses"]


def test_arms_of_one_seed_begin_alike_and_the_again_arm_does_not():
    data = corners()
    first = {arm: build(settings(arm), data).state_dict() for arm in ("softmax", "pidformer-ema", "comparator", AGAIN)}
    for name, value in first["softmax"].items():
        npt.assert_array_equal(value, first["pidformer-ema"][name])
        npt.assert_array_equal(value, first["comparator"][name])
    assert (first["softmax"]["head.weight"] - first[AGAIN]["head.weight"]).abs().max() > 0.01


def test_the_sign_is_a_gauge_the_comparator_is_the_flipped_softmax_bit_for_bit():
    data = corners()
    comparator, flipped, softmax = (build(settings(arm), data) for arm in ("comparator", FLIPPED, "softmax"))
    runs = [fit(model, data, settings(arm)) for model, arm in ((comparator, "comparator"), (flipped, FLIPPED))]
    assert runs[0] == runs[1]
    assert score(comparator, data) == score(flipped, data)
    for (name, a), (_, b) in zip(comparator.named_parameters(), flipped.named_parameters(), strict=True):
        npt.assert_array_equal(a.detach(), (-b if ".attn.proj." in name else b).detach(), err_msg=name)
    # The sign is not nothing: from the same weights the two train differently.
    assert fit(softmax, data, settings()).losses != runs[0].losses


def test_a_loss_that_is_not_finite_stops_there_and_keeps_the_last_good_weights():
    data = corners()
    whole, model = settings(epochs=6, rate=0.01), build(settings(), data)
    calls = {"n": 0}

    def spoil(module, arguments, output):
        calls["n"] += 1
        return output * float("nan") if calls["n"] == 12 else output  # 5 calls an epoch: 4 steps and one check

    model.register_forward_hook(spoil)
    kept = {}

    def remember(line):
        kept.update({name: value.clone() for name, value in model.state_dict().items()})

    found = fit(model, data, whole, remember)
    assert found.status == "not finite"
    assert found.where == "epoch 3, step 2 of 4: the loss is nan"
    assert len(found.losses) == 2
    for name, value in model.state_dict().items():
        npt.assert_array_equal(value, kept[name], err_msg=name)


def test_a_rate_far_too_high_is_told_from_one_far_too_low():
    chance = corners().chance()
    assert chance == pytest.approx(math.log(4))
    assert train(settings(rate=1e-9), corners())["status"] == "no learning"
    assert train(settings(rate=30.0, epochs=3), corners())["status"] in ("exploded", "no learning", "not finite")
    assert status_of([0.1, 0.2, 5.0], chance) == "exploded"
    assert status_of([9.0, 0.2], chance) == "learned"  # it recovered
    assert status_of([1.4, 1.3], chance) == "no learning"


def test_text_is_scored_by_its_perplexity():
    data = characters("abc", "abcd" * 500, 8, (32, 8, 8))
    run = train(settings("pidformer-ema", epochs=30, rate=0.01), data)
    assert run["scores"]["perplexity"] == pytest.approx(math.exp(run["scores"]["loss"]))
    assert run["scores"]["perplexity"] < 1.5  # four letters in turn; chance is 4
    assert options_of("pidformer-ema", text=True)["reference_gain"] == 0.3


@pytest.mark.parametrize("causal", [False, True])
def test_the_recorded_attention_is_that_of_the_formula(causal):
    torch.manual_seed(0)
    model = ControlledLM(5, dim=8, depth=2, heads=2, hidden=16, dropout=0.0) if causal else None
    model = model or ControlledViT(image=4, patch=2, channels=1, classes=2, dim=8, depth=2, heads=2)
    block = model.double().blocks[1]
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    weight, bias = block.attn.qkv.weight.detach(), block.attn.qkv.bias.detach()
    # SoftmaxAttention has no bias: a feature that is always 1 carries it.
    extended = torch.cat([block.norm1(x).detach(), torch.ones(3, 5, 1, dtype=torch.float64)], -1)
    wq, wk = (torch.cat([weight[s], bias[s, None]], 1).T for s in (slice(8), slice(8, 16)))
    expected = SoftmaxAttention(wq, wk, wk, heads=2, causal=causal, temperature=2.0).weights(extended)
    npt.assert_allclose(attention_matrices(block, x).detach(), expected, rtol=0, atol=1e-14)


def test_measures_over_depth_of_equal_tokens():
    model = ControlledViT(image=4, patch=2, channels=1, classes=2, dim=8, depth=3, heads=2)
    with torch.no_grad():
        for parameter in (model.pos_embed, model.patch_embed.proj.weight, model.patch_embed.proj.bias):
            parameter.zero_()
        model.cls_token.fill_(1.0)
        model.pos_embed[:, 1:] = 1.0  # every token is the same vector
    found = over_depth(model.train(), torch.zeros(2, 1, 4, 4))
    assert model.training
    npt.assert_allclose(found["token_similarity"], 1.0, atol=1e-5)
    npt.assert_allclose(found["rank"], 1.0, atol=1e-5)
    npt.assert_allclose(found["attention_similarity"], 1.0, atol=1e-5)
    assert abs(found["token_similarity_slope"]) < 1e-5


def test_the_slope_is_least_squares():
    values = np.random.default_rng(0).standard_normal(7)
    assert slope(values.tolist()) == pytest.approx(np.polyfit(np.arange(7), values, 1)[0], rel=1e-12)
    assert math.isnan(slope([1.0]))
    assert math.isnan(slope([1.0, math.inf, 2.0]))


def test_an_arm_from_a_file_is_its_loop(tmp_path):
    path = tmp_path / "tuned.toml"
    path.write_text(config.dumps(Loop(SoftmaxAttention(causal=False), skip=0.0, feedback=1.0, controller=PID(0.25))))
    assert options_of(str(path))["controller"].kp == 0.25
    path.write_text(config.dumps(Loop(SoftmaxAttention(), skip=1.0)))
    with pytest.raises(ValueError, match="skip = 0, parallel, without normalizer"):
        options_of(str(path))


def test_a_comparison_goes_on_where_it_was_killed(tmp_path, small_data, monkeypatch):
    plan = plan_of("digits", arms=("softmax", "neutreno"), seeds=(0, 1), settings=SMALL)
    trained = []
    original = comparison.train

    def killed(one, *arguments, **options):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(one)
        return original(one, *arguments, **options)

    monkeypatch.setattr(comparison, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(plan, tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == 3
    assert not (tmp_path / "comparison.json").exists()
    trained.clear()
    resumed = compare(plan, tmp_path)
    assert [(one.arm, one.seed) for one in trained] == [("neutreno", 1)]
    monkeypatch.setattr(comparison, "train", original)
    assert resumed == compare(plan, tmp_path / "afresh")
    # Other settings are other runs.
    other = replace(plan, settings={**SMALL, "epochs": 1})
    assert len(compare(other, tmp_path)["curves"]["softmax"]["losses"]) == 1


def test_processes_find_what_one_process_finds(tmp_path):
    pytest.importorskip("sklearn", reason="the digits ship in scikit-learn")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    plan = plan_of("digits", arms=("softmax", "neutreno"), seeds=(0,), settings={**SMALL, "epochs": 1, "batch": 64})
    seen = []
    try:
        alone = compare(plan, tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    shared = compare(plan, tmp_path / "shared", lambda *step: seen.append(step), workers=2)
    assert shared == alone
    assert {step[0] for step in seen} >= {"softmax, seed 0", "neutreno, seed 0", "compared"}


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are those of POSIX")
def test_workers_end_with_a_command_that_is_killed_and_a_rerun_finds_the_same(tmp_path):
    # Workers used to go on with what was queued, and then to wait for ever.
    pytest.importorskip("sklearn", reason="the digits ship in scikit-learn")
    sizes = ["--epochs", "1", "--depth", "1", "--width", "6", "--batch", "256", "--seeds", "40"]
    command = [sys.executable, "-c", "from ctrlattn.cli import main; main()", "train", "digits", "--configs", "softmax"]
    started = subprocess.Popen(
        [*command, *sizes, "--out", str(tmp_path)], start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    until(lambda: started.poll() is None and list(tmp_path.glob("runs/*.json")))
    started.kill()
    started.wait()
    until(lambda: not group_lives(started.pid))
    kept = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("runs/*.json")}
    assert 0 < len(kept) < 40
    settings = {"epochs": 1, "depth": 1, "dim": 6, "batch": 256}
    plan = plan_of("digits", arms=("softmax",), seeds=tuple(range(len(kept) + 1)), settings=settings)
    compare(plan, tmp_path)
    assert all((tmp_path / "runs" / name).read_text(encoding="utf-8") == text for name, text in kept.items())
    found = json.loads(min(kept.values()))
    fresh = train(plan.settings_of("softmax", found["settings"]["seed"]), load("digits"))
    npt.assert_allclose(found["losses"], fresh["losses"], rtol=1e-5)


def until(fact, seconds=120):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def group_lives(number):
    """Whether a process of the group is left."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_weights_come_back_as_the_network_that_was_scored(tmp_path, small_data):
    from safetensors.torch import load_file

    plan = plan_of("digits", arms=("softmax",), seeds=(3,), settings=SMALL)
    result = compare(plan, tmp_path)
    model = build(plan.settings_of("softmax", 3), small_data)
    model.load_state_dict(load_file(tmp_path / "weights" / "corners_softmax_3.safetensors"))
    assert score(model, small_data, 3)["clean"] == result["arms"]["softmax"]["clean"]["values"][0]


def fake(arm, seed, clean, status="learned"):
    depth = {"token_similarity": [0.1, clean], "token_similarity_final": clean, "attention_similarity_final": 0.5}
    return {
        "settings": {"arm": arm, "seed": seed}, "parameters": 7, "status": status, "losses": [1.0], "valid": [1.0],
        "scores": {"loss": 1.0, "clean": clean}, "trained": depth, "untrained": depth,
    }  # fmt: skip


def test_the_table_is_paired_by_seed_and_corrected_over_the_tests():
    tests = (
        Claim("neutreno", "clean", "greater"),
        Claim("neutreno", "untrained.token_similarity_final", "less", 2.0),
    )
    plan = plan_of("digits", arms=("softmax", "neutreno"), seeds=(0, 1, 2), tests=tests)
    base, gain = (0.5, 0.7, 0.9), (0.01, 0.02, 0.03)
    runs = [fake("softmax", s, base[s]) for s in (2, 0, 1)]
    runs += [fake("neutreno", s, base[s] + gain[s], "no learning" if s == 1 else "learned") for s in range(3)]
    found = summarise(plan, runs)
    assert found["differences"]["neutreno"]["clean"]["mean"] == pytest.approx(0.02)
    assert found["tests"][0]["p"] == pytest.approx(0.0371, abs=1e-4)  # t = 2 sqrt 3 on two degrees of freedom
    assert found["tests"][0]["p_holm"] == pytest.approx(max(0.0371, 2 * found["tests"][1]["p"]), abs=1e-4)
    assert found["tests"][1]["mean"] == pytest.approx(np.mean(gain) - np.mean(base))
    text = "\n".join(lines(found))
    assert "2 learned, 1 no learning" in text
    assert "| neutreno: untrained.token_similarity_final < 2 × softmax |" in text
    with pytest.raises(ValueError, match="unknown score 'top5': known are loss, clean"):
        value_of(runs[0], "top5")


def test_the_published_figures_are_those_of_the_paper():
    assert published("fgsm_16") == ("33.64 → 38.52", pytest.approx(0.3852 - 0.3364))
    assert published("pgd_8")[1] == pytest.approx(0.1508 - 0.1202)
    assert published("noise_0.3")[1] == pytest.approx(0.7087 - 0.6920)
    assert published("clean")[1] == pytest.approx(0.7313 - 0.7217)
    assert published("rank_final") is None


def test_the_plan_that_was_fixed_can_be_read():
    plan = read_plan(PLAN, "digits")
    assert plan.seeds == tuple(range(100, 110))
    assert len(plan.tests) == 16
    assert plan.settings_of("pidformer-ema", 100) == Settings("pidformer-ema", 100)  # the defaults of the command


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = 'digits'\nseed = 3", "plan has no 'seed': known are against, alpha"),
        ("data = 'text'", "this is no plan for digits"),
        ("seeds = [0, 0]", "given twice"),
        ("seeds = []", "at least one"),
        ("correction = 'none'", 'correction must be "holm"'),
        ("arms = ['softmx']", "did you mean 'softmax'"),
        ("arms = ['neutreno']", "compared with 'softmax', which is not among neutreno"),
        ("[settings]\nepoch = 3", "settings has no 'epoch'"),
        ("[settings]\nrate = -1.0", "rate must be positive"),
        ("[settings]\nrate = inf", "rate must be positive and finite, got inf"),
        ("[[tests]]\narm = 'softmax'\nscore = 'clean'\ndirection = 'up'", "less, greater or two-sided"),
        ("[[tests]]\narm = 'softmax'", "missing 2 required"),
        ("arms = ", "no TOML"),
    ],
)
def test_a_plan_with_a_fault_says_where(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(path, "digits")
    assert str(caught.value).startswith(str(path))


def test_the_command_compares(tmp_path, small_data):
    arguments = ["train", "digits", "--configs", "softmax", "--configs", "pidformer-ema", "--seeds", "2"]
    sizes = ["--epochs", "1", "--depth", "2", "--width", "6", "--workers", "1", "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, [*arguments, *sizes, "--json"])
    assert found.exit_code == 0, found.output
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert set(result["differences"]) == {"pidformer-ema"}
    assert result["plan"]["settings"] == {"epochs": 1, "depth": 2, "dim": 6}
    assert "4/4" in found.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"comparison.json", "comparison.png", "comparison.svg", "runs", "table.md", "weights"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["faces"], "unknown data 'faces'"),
        (["digits", "--configs", "softmx"], "did you mean 'softmax'"),
        (["digits", "--width", "7"], "7 features, 3 heads"),
        (["digits", "--norm", "batch"], "norm must be one of"),
        (["no-such-directory"], "unknown data 'no-such-directory'"),
        (["--data", "no-such-directory"], "known are digits, mnist5k, text, and a directory of images"),
        (["digits", "--data", "."], "say what to train on"),
        ([], "say what to train on"),
        (["digits", "--device", "abacus"], "there is no device 'abacus' here"),
        (["digits", "--plan", "nowhere.toml"], "nowhere.toml: no such file"),
        (["digits", "--plan", str(PLAN), "--epochs", "1"], "give no other option beside it"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, small_data, arguments, message):
    found = CliRunner().invoke(app, ["train", *arguments, "--workers", "1", "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    told = found.stderr.strip().splitlines()[-1]
    assert told.startswith("ctrlattn: ")
    assert message in told


def test_a_real_training_on_real_images():
    pytest.importorskip("sklearn", reason="the digits ship in scikit-learn")
    run = train(Settings("pidformer-ema", 0, epochs=8, depth=4), load("digits"))
    assert run["status"] == "learned"
    assert run["scores"]["clean"] > 0.65
    assert run["scores"]["clean"] > run["scores"]["noise_0.2"] > run["scores"]["noise_0.4"]
    assert run["scores"]["clean"] > run["scores"]["fgsm_8"] > run["scores"]["fgsm_32"]
    # FGSM is one point of the ball in which PGD searches.
    assert run["scores"]["pgd_8"] <= run["scores"]["fgsm_8"] + 0.02


def test_the_tuned_arm_meets_its_specification():
    from ctrlattn.design import Spec, performance

    loop = config.load(PLAN.with_name("tuned.toml")).loop
    found = performance(loop, np.linspace(0.0, 1.0, 21))
    spec = Spec(modulus_margin=0.4, settling=12, steady_state_error=0.0)
    assert all(np.min(slack) >= -1e-9 for slack in spec.slack(found).values())
    assert options_of(str(PLAN.with_name("tuned.toml")))["controller"].kp == loop.controller.kp


def test_a_directory_without_images_is_refused_in_one_line(tmp_path):
    found = CliRunner().invoke(app, ["train", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert "no images; expected one folder a class" in found.stderr.strip().splitlines()[-1]


def test_a_run_of_a_version_that_knew_fewer_settings_is_not_repeated(tmp_path, small_data, monkeypatch):
    plan = plan_of("digits", arms=("softmax",), seeds=(0,), settings={**SMALL, "epochs": 1})
    first = compare(plan, tmp_path)
    file = tmp_path / "runs" / "corners_softmax_0.json"
    run = json.loads(file.read_text(encoding="utf-8"))
    del run["settings"]["drop_path"], run["settings"]["image"]
    file.write_text(json.dumps(run), encoding="utf-8")
    monkeypatch.setattr(comparison, "train", None)
    assert compare(plan, tmp_path) == first


def test_parts_are_evaluated_in_pieces(monkeypatch):
    from ctrlattn.nn.experiment import training

    data, model = corners(), build(settings(), corners()).double()
    data = data._replace(test=data.test._replace(inputs=data.test.inputs.double()))
    whole = training.mean_loss(model, data, data.test)
    monkeypatch.setattr(training, "AT_ONCE", 7)
    npt.assert_allclose(training.mean_loss(model, data, data.test), whole, rtol=1e-12)
    assert set(score(model, data)) == {"loss", "clean", *(f"noise_{s:g}" for s in training.NOISES),
        *(f"fgsm_{s:g}" for s in training.STRENGTHS), *(f"pgd_{s:g}" for s in training.PGD_STRENGTHS)}  # fmt: skip


def test_stochastic_depth_draws_from_the_seed_of_the_run():
    runs = [fit(build(settings(drop_path=0.5), corners()), corners(), settings(drop_path=0.5)) for _ in range(2)]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses != fit(build(settings(), corners()), corners(), settings()).losses


def test_several_workers_have_one_kind_of_device(tmp_path, small_data, monkeypatch):
    monkeypatch.setattr(comparison.processes, "device", lambda name: torch.device("meta"))
    plan = plan_of("digits", arms=("softmax",), seeds=(0,), settings=SMALL)
    with pytest.raises(ValueError, match="2 workers train on the cpu, not on meta: take one worker"):
        compare(plan, tmp_path, workers=2, device="meta")
