"""A run comes from its file where the settings are the same, and is trained otherwise."""

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.experiment import resume  # noqa: E402
from ctrlattn.nn.experiment.comparison import compare  # noqa: E402
from ctrlattn.nn.experiment.plan import plan_of  # noqa: E402
from ctrlattn.nn.experiment.scores import score  # noqa: E402
from ctrlattn.nn.experiment.training import build  # noqa: E402

SMALL = {"epochs": 2, "depth": 2, "dim": 8, "heads": 2, "batch": 16}


def numbers(result):
    """What was measured, without the record of when and by what."""
    return {name: value for name, value in result.items() if name != "run"}


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_was_killed(tmp_path, small_data, monkeypatch):
    plan = plan_of("digits", arms=("softmax", "neutreno"), seeds=(0, 1), settings=SMALL)
    trained = []
    original = resume.train

    def killed(one, *arguments, **options):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(one)
        return original(one, *arguments, **options)

    monkeypatch.setattr(resume, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(plan, tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == 3
    assert not (tmp_path / "comparison.json").exists()
    trained.clear()
    resumed = compare(plan, tmp_path)
    assert [(one.arm, one.seed) for one in trained] == [("neutreno", 1)]
    monkeypatch.setattr(resume, "train", original)
    assert numbers(resumed) == numbers(compare(plan, tmp_path / "afresh"))
    # Other settings are other runs.
    other = replace(plan, settings={**SMALL, "epochs": 1})
    assert len(compare(other, tmp_path)["curves"]["softmax"]["losses"]) == 1


def test_a_run_of_a_version_that_knew_fewer_settings_is_not_repeated(tmp_path, small_data, monkeypatch):
    plan = plan_of("digits", arms=("softmax",), seeds=(0,), settings={**SMALL, "epochs": 1})
    first = compare(plan, tmp_path)
    file = tmp_path / "runs" / "corners_softmax_0.json"
    run = json.loads(file.read_text(encoding="utf-8"))
    del run["settings"]["drop_path"], run["settings"]["image"], run["sha256"]
    file.write_text(json.dumps(run), encoding="utf-8")
    monkeypatch.setattr(resume, "train", None)
    assert numbers(compare(plan, tmp_path)) == numbers(first)


def test_a_run_of_another_dtype_is_another_run(tmp_path, small_data, monkeypatch):
    plans = [
        plan_of("digits", arms=("softmax",), seeds=(0,), settings={**SMALL, "epochs": 1, "dtype": dtype})
        for dtype in ("float32", "float64")
    ]
    first, second = (compare(plan, tmp_path) for plan in plans)
    losses = [result["curves"]["softmax"]["losses"][0] for result in (first, second)]
    assert 0 < abs(losses[0] - losses[1]) < 1e-5
    files = sorted((tmp_path / "runs").iterdir())
    assert len(files) == len(list((tmp_path / "weights").iterdir())) == 2
    told = [json.loads(file.read_text(encoding="utf-8"))["settings"].get("dtype") for file in files]
    assert told == [None, "float64"]  # a run in float32 is stored as it was before there was another
    monkeypatch.setattr(resume, "train", None)
    assert [numbers(compare(plan, tmp_path)) for plan in plans] == [numbers(first), numbers(second)]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["softmax", "pidformer-ema-learned", "pidformer-ema-learned-each"])
def test_weights_come_back_as_the_network_that_was_scored(tmp_path, small_data, arm):
    from safetensors.torch import load_file

    plan = plan_of("digits", arms=(arm,), seeds=(3,), against=arm, settings=SMALL)
    result = compare(plan, tmp_path)
    model = build(plan.settings_of(arm, 3), small_data)
    model.load_state_dict(load_file(tmp_path / "weights" / f"corners_{arm}_3.safetensors"))
    assert score(model, small_data, 3)["clean"] == result["arms"][arm]["clean"]["values"][0]


@pytest.mark.slow
def test_runs_of_learned_gains_go_on_as_others_do(tmp_path, small_data, monkeypatch):
    arms = ("neutreno-learned", "neutreno-saturated")
    plan = plan_of("digits", arms=arms, against=arms[0], seeds=(0,), settings=SMALL)
    first = compare(plan, tmp_path)
    assert set(first["controllers"]) == set(arms)
    monkeypatch.setattr(resume, "train", None)
    assert numbers(compare(plan, tmp_path)) == numbers(first)
