"""The comparison of loops: plan and forecasts come first, runs continue bit for bit, equal arms give equal numbers."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from ctrlattn import InputError  # noqa: E402
from ctrlattn.identity import digest  # noqa: E402
from ctrlattn.nn.experiment import loop_comparison, loop_forecast  # noqa: E402
from ctrlattn.nn.experiment.loop_comparison import compare_loops, trained  # noqa: E402
from ctrlattn.nn.experiment.loop_forecast import RULES  # noqa: E402
from ctrlattn.nn.experiment.loop_plan import loop_plan, settings_of  # noqa: E402

SMALL = {"steps": 6, "batch": 4, "dim": 4, "hidden": 4, "size": 3, "passes": 2, "examples": 16, "marks": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Searches for gains, points of rest and basins are tested where they stand."""
    monkeypatch.setattr(loop_comparison, "tuned_law", lambda said, passes: {"gain": 0.5, "recall": 0.5, "poles": 0.9})
    monkeypatch.setattr(loop_comparison, "motion", lambda network, settings: {"exponent": -1.0, "basin": None})
    monkeypatch.setattr(loop_forecast, "PROBLEMS", 1)
    monkeypatch.setattr("ctrlattn.looped.rest._WARM", 3)


def plan(**changes):
    options = {"seeds": (0, 1), "arms": ("plain", "plain-again", "held"), **SMALL, **changes}
    return loop_plan("prefix-sums", **options)


def content(folder: Path):
    """Every file, without the record of when and by what it was made."""
    files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: numbers(json.loads(p.read_text())) if p.suffix == ".json" else p.read_bytes()
            for name, p in files.items()}  # fmt: skip


def numbers(result):
    return {name: value for name, value in result.items() if name != "run"}


@pytest.mark.slow
def test_the_device_reaches_training_and_passes_beyond_it(tmp_path, monkeypatch):
    """A run is the same on every device: its file and its digests are found again."""
    places, fit, move = [], loop_comparison.fit_loop, loop_comparison.on_device
    monkeypatch.setattr(loop_comparison, "fit_loop", lambda s, p, device: places.append(device) or fit(s, p))
    monkeypatch.setattr(loop_comparison, "on_device", lambda n, device: places.append(device) or move(n, "cpu"))
    monkeypatch.setattr(loop_comparison.devices, "device", torch.device)
    small = plan(seeds=(0,), arms=("plain", "held"))
    compare_loops(small, tmp_path / "there", device="xpu:1")
    assert places == ["xpu:1"] * 6  # two runs, with two marks each
    monkeypatch.undo()
    monkeypatch.setattr(loop_comparison, "fit_loop", lambda *_: pytest.fail("trained again"))
    compare_loops(small, tmp_path / "there")


def test_several_workers_train_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_comparison.devices, "device", torch.device)
    with pytest.raises(InputError, match="2 workers train on the cpu, not on cuda"):
        compare_loops(plan(), tmp_path / "out", workers=2, device="cuda")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    with pytest.raises(InputError, match="there is no device 'abacus' here"):
        compare_loops(plan(), tmp_path / "out", device="abacus")


def test_a_plan_in_float32_is_that_of_before_and_one_in_float64_is_another(tmp_path):
    plans = [plan(seeds=(0,), arms=("plain",), **more) for more in ({}, {"dtype": "float32"}, {"dtype": "float64"})]
    facts = [loop_comparison._plan_of(each) for each in plans]
    assert facts[0] == facts[1] != facts[2]
    assert "dtype" not in {**facts[0]["settings"], **facts[0]["settings_in_full"]}
    assert facts[2]["settings_in_full"]["dtype"] == "float64"
    each = [settings_of(one, "plain", 0) for one in plans]
    names = [loop_comparison._short_digest(settings) for settings in each]
    assert names[0] == names[1] != names[2]
    folders = [tmp_path / "runs", tmp_path / "weights"]
    for folder in folders:
        folder.mkdir()
    runs = [trained(settings, *folders) for settings in each]
    assert runs[0] == runs[1]
    assert runs[0]["losses"] != runs[2]["losses"]
    assert [len(list(folder.iterdir())) for folder in folders] == [2, 2]
    assert trained(each[2], *folders) == runs[2]
    kinds = {t.dtype for state in loop_comparison._states(folders[1] / f"prefix-sums_plain_0_{names[2]}.safetensors", 2)
             for t in state.values()}  # fmt: skip
    assert kinds == {torch.float64}


@pytest.mark.slow
def test_what_was_interrupted_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    two = plan(arms=("plain", "held"))
    whole = compare_loops(two, tmp_path / "whole")
    done, original = [], loop_comparison.fit_loop

    def killed(settings, progress, device):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(settings)
        return original(settings, progress, device)

    monkeypatch.setattr(loop_comparison, "fit_loop", killed)
    with pytest.raises(KeyboardInterrupt):
        compare_loops(two, tmp_path / "cut")
    assert not (tmp_path / "cut" / "forecasts.json").exists()
    assert not list((tmp_path / "cut" / "beyond").iterdir())
    done[:] = []
    assert numbers(compare_loops(two, tmp_path / "cut")) == numbers(whole)
    assert len(done) == 2
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    monkeypatch.setattr(loop_comparison, "fit_loop", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(loop_comparison, "beyond", lambda *_: pytest.fail("run again"))
    again = compare_loops(two, tmp_path / "cut")
    assert numbers(again) == numbers(whole)
    assert again["run"]["plan_sha256"] == again["digests"]["plan"]


@pytest.mark.slow
def test_plan_and_forecasts_are_written_before_what_they_are_about(tmp_path, monkeypatch):
    original = loop_comparison.beyond
    monkeypatch.setattr(loop_comparison, "fit_loop", _after(tmp_path / "plan.json", loop_comparison.fit_loop))
    monkeypatch.setattr(loop_comparison, "beyond", _after(tmp_path / "forecasts.json", original))
    result = compare_loops(plan(arms=("plain", "held")), tmp_path)
    for name in ("plan", "forecasts"):
        written = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        mark = written.pop("sha256")
        assert mark == result["digests"][name] == digest(written)
    assert "collapsed" not in json.loads((tmp_path / "forecasts.json").read_text())["rows"][0]
    assert len(result["forecasts"]) == 2 * 2 * 2
    with pytest.raises(InputError, match="other arms, seeds or settings"):
        compare_loops(plan(arms=("plain", "held"), steps=7), tmp_path)


def _after(path, function):
    def checked(*arguments):
        assert path.exists()
        return function(*arguments)

    return checked


@pytest.mark.slow
def test_an_arm_that_is_the_same_has_the_same_numbers(tmp_path, monkeypatch):
    # Without its own seed the A/A arm is the plain arm: every difference is 0.
    monkeypatch.setattr("ctrlattn.nn.experiment.loop_settings._AGAIN", 0)
    result = compare_loops(plan(arms=("plain", "plain-again")), tmp_path)
    for row in result["differences"]["plain-again"].values():
        assert all(value in (0.0, "nan") for value in row["values"])
    (test,) = result["tests"]
    assert (test["p_holm"], test["holds"]) == (1.0, False)


@pytest.mark.slow
def test_weights_that_are_lost_are_trained_again_and_others_are_refused(tmp_path):
    settings, folders = settings_of(plan(), "held", 0), (tmp_path / "runs", tmp_path / "weights")
    for folder in folders:
        folder.mkdir()
    run = trained(settings, *folders)
    (file,) = folders[1].iterdir()
    before = file.read_bytes()
    file.write_bytes(before[:-3])
    assert trained(settings, *folders) == run
    assert file.read_bytes() == before
    (kept,) = folders[0].iterdir()
    changed = {**json.loads(kept.read_text()), "weights": ["0"]}
    changed["sha256"] = digest({key: value for key, value in changed.items() if key not in ("sha256", "run")})
    kept.write_text(json.dumps(changed))
    with pytest.raises(InputError, match="other weights came out"):
        trained(settings, *folders)


def rewritten(path, change):
    """The plan file, changed with a digest that fits: as a person would cut a plan for want of time."""
    content = {k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items() if k != "sha256"}
    content |= change
    path.write_text(json.dumps({**content, "sha256": digest(content)}), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["arms", "removed", "damaged"])
def test_a_plan_that_is_cut_while_its_runs_are_made_is_told(tmp_path, monkeypatch, cut):
    path, original, made = tmp_path / "plan.json", loop_comparison.fit_loop, []

    def cutting(settings, progress, device):
        made.append(settings)
        if len(made) == 2:
            {
                "arms": lambda: rewritten(path, {"arms": ["plain", "held"]}),
                "removed": path.unlink,
                "damaged": lambda: path.write_text("{"),
            }[cut]()
        return original(settings, progress, device)

    monkeypatch.setattr(loop_comparison, "fit_loop", cutting)
    with pytest.raises(InputError, match=r"plan\.json was changed while its runs were made"):
        compare_loops(plan(), tmp_path)
    assert len(made) == 2
    assert not (tmp_path / "forecasts.json").exists()
    assert not (tmp_path / "comparison.json").exists()


@pytest.mark.slow
def test_runs_of_one_plan_are_no_runs_of_a_shorter_plan(tmp_path, monkeypatch):
    compare_loops(plan(arms=("plain", "held")), tmp_path)
    for name in ("plan.json", "forecasts.json"):
        (tmp_path / name).unlink()
    again, original = [], loop_comparison.fit_loop
    monkeypatch.setattr(loop_comparison, "fit_loop", lambda *a: again.append(a[0].arm) or original(*a))
    compare_loops(plan(arms=("plain",)), tmp_path)
    assert again == ["plain"] * 2


@pytest.mark.slow
def test_a_spectrum_that_cannot_be_measured_is_a_row_without_forecast(tmp_path, monkeypatch):
    def lost(*arguments, **options):
        raise ArithmeticError("1 of 16 eigenvalues have residuals")

    monkeypatch.setattr("ctrlattn.nn.experiment.loop_forecast.spectrum", lost)
    monkeypatch.setattr("ctrlattn.nn.experiment.loop_training.spectrum", lost)
    monkeypatch.setattr(loop_comparison, "tuned_law", loop_forecast.tuned_law)
    monkeypatch.setattr(loop_forecast, "PROBLEMS", 3)
    result = compare_loops(plan(arms=("plain", "held")), tmp_path)
    for row in result["forecasts"]:
        assert row["collapse"] == dict.fromkeys(RULES)
        assert row["why"].startswith(
            "no forecast, because at problem 1 1 of 16 eigenvalues have residuals; at problem 2"
        )
        assert row["radius"] == []
    for rule in RULES:
        assert result["forecast_scores"][rule]["all"]["n"] == 0
    (run,) = (json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*_held_0.json"))
    assert run["forecasts"][-1]["tuned"]["why"].startswith("no forecast, because")


def test_an_arm_keeps_its_law_where_no_spectrum_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ctrlattn.nn.experiment.loop_training.spectrum", lambda *_: (_ for _ in ()).throw(ArithmeticError("not finite"))
    )
    run, _ = loop_comparison.fit_loop(settings_of(plan(hold_every=2), "held", 0), lambda *_: None)
    assert run["unheld"] == [f"step {k}: not finite" for k in (2, 4, 6)]
    assert run["gains"] == [[1.0, 0.0]] * 2


def test_images_have_one_size_so_that_no_test_asks_for_another():
    assert [t.score for t in loop_plan("digits", seeds=(0, 1)).tests if t.score.startswith("size")] == []
    assert [t.score for t in loop_plan("addition", seeds=(0, 1)).tests if t.score.startswith("size")] == [
        "size_2",
        "size_4",
    ]
