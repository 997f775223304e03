"""The page of `ctrlattn train loops`, from the command: what is written, what is refused, and what it says."""

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from ctrlattn.cli import app
from ctrlattn.report.pages.trained_loops import write_trained_loops

pytestmark = pytest.mark.usefixtures("undrawn_file", "short_search", "one_problem")
RUN = CliRunner()
SMALL = ("--configs", "plain", "--configs", "recall", "--steps", "3", "--batch", "4", "--width", "4", "--size", "2",
         "--passes", "2", "--workers", "1")  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, undrawn_file, short_search, one_problem):
    out = tmp_path_factory.mktemp("loops")
    options = ("--task", "prefix-sums", "--seeds", "2", "--out", str(out), "--json")
    ran = RUN.invoke(app, ["train", "loops", *options, *SMALL])
    assert ran.exit_code == 0, ran.output
    return out, json.loads((out / "comparison.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_command_writes_plan_forecasts_table_and_page(outcome):
    out, result = outcome
    for name in ("plan.json", "forecasts.json", "table.md", "report.html", "summary.json", "figures/passes.svg"):
        assert (out / name).stat().st_size > 0
    assert result["plan"]["arms"] == ["plain", "recall"]
    assert result["plan"]["seeds"] == [0, 1]
    assert result["plan"]["settings"] == {"dim": 4, "batch": 4, "steps": 3, "passes": 2, "size": 2}
    assert len(result["forecasts"]) == 4 * 3  # arms x seeds, at three marks each
    assert result["passes"] == 2
    page = (out / "report.html").read_text(encoding="utf-8")
    assert result["digests"]["plan"] in page
    assert "accuracy_8" in page


@pytest.mark.slow
def test_what_came_of_forecasts_and_controllers_is_on_the_page(outcome, tmp_path):
    _, result = outcome
    table = {"counts": [3, 1, 4, 2], "n": 10, "right": 0.7, "low": 0.35, "high": 0.93, "p": 0.26}
    rows = [{**row, "collapsed": k % 2 == 0} for k, row in enumerate(result["forecasts"])]
    rescue = {"arm": "plain", "seed": 1, "law": {"gain": 0.7, "recall": 0.25}, "stopped": 0.97, "plain": 0.11,
              "blind": 0.5, "tuned": 0.6, "blind from T": 0.4, "tuned from T": 0.93}  # fmt: skip
    unlawful = {**rescue, "seed": 0, "law": {"why": "nothing"}}
    scores = {rule: {"all": table, "last": table} for rule in result["forecast_scores"]}
    changed = {**result, "forecasts": rows, "rescues": [rescue, unlawful], "forecast_scores": scores}
    write_trained_loops(tmp_path, changed)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{len(rows)} networks had learned" in page
    assert "plain, seed 1" in page
    assert "0.93" in page
    numbers = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert "rescues" in json.dumps(numbers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "size", "names"),
    [("addition", 2, ["recall-outer"]), ("maze", 3, ["held"]), ("digits", 4, ["plain"])],
)
def test_every_task_runs_to_its_page(tmp_path, task, size, names):
    arms = [word for name in names for word in ("--configs", name)]
    sizes = ("--steps", "1", "--batch", "4", "--width", "4", "--size", str(size), "--passes", "2", "--workers", "1")
    ran = RUN.invoke(
        app, ["train", "loops", "--task", task, "--seeds", "1", "--out", str(tmp_path), "--json", *arms, *sizes]
    )
    assert ran.exit_code == 0, ran.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"Loops trained on {task}" in page
    result = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert ("size_2" in result["arms"][names[0]]) == (task != "digits")
    assert [(row["arm"], row["step"]) for row in result["forecasts"]] == [(name, 1) for name in names]


@pytest.mark.slow
def test_a_network_without_forecast_is_a_row_that_says_why(outcome, tmp_path):
    _, result = outcome
    why = "no forecast, because at problem 1 the Jacobian is not finite"
    rows = [{**row, "radius": [], "residual": [], "why": why, "collapsed": True} for row in result["forecasts"]]
    write_trained_loops(tmp_path, {**result, "forecasts": rows})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count(why) == len(rows)
    assert "Networks of which nothing is forecast" in page


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "loops"], "--task"),
        (["train", "loops", "--task", "chess"], "unknown task 'chess'"),
        (["train", "digits", "--task", "maze"], "--task is an option"),
        (["train", "digits", "--passes", "4"], "train loops"),
        (["train", "loops", "--task", "maze", "--epochs", "3"], "--epochs"),
        (["train", "loops", "--task", "maze", "--device", "abacus"], "there is no device 'abacus' here"),
        (["train", "loops", "--task", "maze", "--size", "4"], "odd"),
        (["train", "loops", "--task", "maze", "--configs", "plan"], "unknown arm 'plan'"),
    ],
)
def test_what_is_no_comparison_of_loops_is_refused(arguments, word, tmp_path):
    ran = RUN.invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 2
    assert word in ran.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_headings_are_findings(outcome, tmp_path):
    _, result = outcome
    scores = {"plain": {"accuracy_8": {"mean": 0.25}}, "recall": {"accuracy_8": {"mean": 0.75}}}
    arms = {arm: {**result["arms"][arm], **scores[arm]} for arm in result["arms"]}
    for arm in arms:
        arms[arm]["accuracy_8"] = {**result["arms"][arm]["accuracy_8"], **scores[arm]["accuracy_8"]}
    write_trained_loops(tmp_path, {**result, "arms": arms, "tests": [{**t, "holds": True} for t in result["tests"]]})
    page = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "After 8 times the passes recall solves most, 75 % of the problems, plain 25 %" in page
    assert "seed by seed (2 seeds)." in page
    assert "(2 seeds).." not in page
