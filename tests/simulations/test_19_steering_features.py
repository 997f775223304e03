"""Steering over features on the tiny decoder: clamps hold what they say, files are kept, decisions follow the plan."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import scipy.stats
import torch
import transformers

from ctrlattn import PID, checkpoints
from ctrlattn.checkpoints.network.watch import hooked
from ctrlattn.observers.steering import Law, steered

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _undrawn():
    """In this file pictures are drawn: one test reads the size of theirs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def numbers(scene, folder, short_search):
    """A run at its small size."""
    return scene.main(folder)


def test_every_law_is_measured_and_without_a_law_nothing_is_lost(scene, numbers):
    laws = numbers["networks"]["random"]["laws"]
    assert set(scene.LAWS) - set(laws) <= {"P led, path", "PI led, path", "P led, late path"}
    assert laws["no law"]["loss"]["values"] == [0.0, 0.0]
    assert laws["no law"]["error"]["values"] == pytest.approx([1.0, 1.0])
    assert all(miss < 1 for miss in laws["clamp, path"]["miss"]["values"])


def test_the_clamp_of_the_output_misses_nothing(numbers):
    output = numbers["networks"]["random"]["laws"]["clamp of the output"]
    assert np.abs(output["miss"]["values"]).max() < 1e-5
    assert np.abs(output["error"]["values"]).max() < 1e-5


def gemma3(tokenizer):
    """A random network of the second network's family: norms behind its sublayers, windows in half of its layers."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 10, "num_attention_heads": 2, "intermediate_size": 48}
    more = {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 6}
    kinds = ["sliding_attention", "full_attention"] * 5
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(vocab_size=41, **sizes, **more, layer_types=kinds)
    return checkpoints.load(transformers.Gemma3ForCausalLM(config), tokenizer=tokenizer)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def network(request, scene, folder):
    checkpoint, _ = scene.tiny_network(folder)
    return checkpoint if request.param == "llama" else gemma3(checkpoint.tokenizer)


def test_a_clamp_sets_every_kept_token_in_front_of_its_layers_alone(scene, network):
    checkpoint = network
    f = np.random.default_rng(0).normal(size=checkpoint.width)
    path = {depth: 0.5 * depth for depth in range(11)}
    ids = torch.arange(24).reshape(2, 12) % 40
    for depths in ((3, 4), (10,)):
        with hooked(scene.clamps(checkpoint, f, path, depths)), steered(checkpoint, f, Law(), 0.0) as outputs:
            checkpoint.model(input_ids=ids)
        for depth, values in outputs.items():
            held = torch.allclose(values[0], torch.full_like(values[0], path[depth]), atol=1e-5)
            assert held == (depth in depths), depth


def test_without_gains_the_other_laws_are_still_measured(scene, network, monkeypatch):
    monkeypatch.setattr(scene, "laws_for", lambda plant: {"P": PID(0.5), "PI": "no PI gains", "PID": "no PID gains"})
    f, ids = np.random.default_rng(2).normal(size=network.width), torch.arange(48).reshape(4, 12).numpy() % 40
    row = {"feature": 0, **scene.one(network, f, ids[:2], ids[2:], 2, 7)}
    assert row["refused"] == {"PI led, path": "no PI gains"}
    assert set(row["laws"]) == set(scene.LAWS) - {"PI led, path"}
    assert abs(row["laws"]["clamp of the output"]["miss"]) < 1e-4
    assert row["laws"]["no law"]["error"] == pytest.approx(1.0)
    networks = {"a": scene.summary([row, row], 2)}
    assert [c["law"] for c in networks["a"]["comparisons"]] == ["P led, late path"] * 3  # none of PI led
    assert scene.decided({**networks, "b": networks["a"]}, 2)["PI led, path does more than the clamp"] == "undecided"


def test_the_first_token_of_a_window_is_left_alone(scene, folder):
    checkpoint, _ = scene.tiny_network(folder)
    x = torch.randn(1, 6, checkpoint.width, generator=torch.Generator().manual_seed(0))
    ((_, hook, _),) = scene.clamps(checkpoint, np.ones(checkpoint.width), {2: 1.0}, (2,))
    (new,), _ = hook(None, (x,), {})
    changed = (new != x).any(-1)[0]
    start = scene.window_of(checkpoint).kept(6).start
    assert start > 0
    assert not changed[:start].any()
    assert changed[start:].all()


def test_a_second_run_reads_its_files(scene, numbers, folder, monkeypatch):
    monkeypatch.setattr(scene, "one", None)  # nothing is measured again
    again = scene.main(folder)
    assert again["networks"] == numbers["networks"]


def test_a_row_keeps_each_document_and_what_ran_it(numbers):
    for row in numbers["rows"]["random"]:
        assert set(row["run"]) == {"commit", "time", "versions", "plan_sha256"}
        assert row["cpu_seconds"] >= 0
        for law in row["laws"].values():
            assert len(law["misses"]) == len(law["losses"]) == 2  # documents of judgement
            assert law["loss"] == pytest.approx(np.mean(law["losses"]))
            assert law["miss"] == pytest.approx(np.sqrt(np.mean(np.square(law["misses"]))))


def test_kept_numbers_are_told_again_without_a_run(scene, numbers, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "measured", None)
    again = scene.main(tmp_path, again=folder / "steering_features.json")
    assert json.dumps(again) == json.dumps(numbers)


def test_calibration_judgement_and_dictionary_share_no_document(scene, folder, tmp_path):
    size, _ = scene.read_size("steering_features", scene.Size, False)
    lines = [f"{k} " + "word " * 12 for k in range(9)] + ["short"]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    calibration, judged, rest = scene.parted(tmp_path / "text.txt", tmp_path, size)
    others = rest.read_text().splitlines()
    assert len(calibration) == len(judged) == 2
    assert sorted([*calibration, *judged, *others]) == sorted(line.strip() for line in lines)


def test_a_difference_over_documents_is_the_mean_of_the_features_that_have_both_laws(scene):
    rng = np.random.default_rng(1)
    losses = rng.normal(size=(3, 2, 5))  # features, laws, documents
    pair = ("P led, late path", "clamp, late path")
    rows = [
        {"laws": {name: {"misses": -x, "losses": x} for name, x in zip(pair, both, strict=True)}} for both in losses
    ]
    lacking = {"laws": {pair[0]: {"misses": losses[0, 0], "losses": losses[0, 0]}}}
    loss, miss = sorted(scene.by_document([*rows, lacking]), key=lambda row: row["figure"])
    gaps = [np.mean([losses[i, 0, k] - losses[i, 1, k] for i in range(3)]) for k in range(5)]
    assert loss["values"] == pytest.approx(gaps)
    assert miss["values"] == pytest.approx([-gap for gap in gaps])


def test_an_earlier_run_that_kept_no_documents_has_no_difference_over_them(scene):
    law, other = scene.COMPARISONS[0][1:]
    rows = [{"laws": {law: {"miss": 1.0, "loss": 1.0}, other: {"miss": 1.0, "loss": 1.0}}}] * 2
    assert scene.by_document(rows) == []


def test_the_page_is_what_the_kept_results_say(scene, tmp_path):
    path = ROOT / "simulations" / "results" / "steering_features.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    numbers = scene.main(tmp_path, again=path)
    assert json.loads(json.dumps(numbers)) == {key: value for key, value in stored.items() if key != "run"}
    printed = json.loads((path.parent / "gallery" / path.name).read_text(encoding="utf-8"))
    assert (stored["verdict"], stored["table"]) == (printed["verdict"], printed["table"])
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert all("| " + " | ".join(row) + " |" in page for row in stored["table"][1])


def test_the_kept_rows_follow_the_plan_and_decide_what_is_told(scene):
    stored = json.loads((ROOT / "simulations" / "results" / "steering_features.json").read_text(encoding="utf-8"))
    plan = scene.read_size("steering_features", scene.Size, True)[1]
    below = []
    for rows in stored["rows"].values():
        assert {row["plan"] for row in rows} == {row["run"]["plan_sha256"] for row in rows} == {plan}
        gaps = [row["laws"]["P led, late path"]["miss"] - row["laws"]["push, late"]["miss"] for row in rows]
        test = scipy.stats.ttest_1samp(gaps, 0.0).confidence_interval(1 - 0.05 / 14)  # seven comparisons, two networks
        below.append(test.high < 0)
    assert len(below) == 2
    told = stored["decisions"]["P led, late path brings tokens nearer than the late push"]
    assert told == ("yes" if all(below) else "undecided")


@pytest.mark.parametrize(
    ("miss", "loss", "answer"),
    [
        ((-2, -1), (-1, 1), "more"), ((-2, -1), (1, 2), "undecided"),
        ((1, 2), (-1, 1), "less"), ((-1, 1), (-1, 1), "undecided"),
    ],
)  # fmt: skip
def test_a_decision_needs_one_interval_below_and_none_above(scene, miss, loss, answer):
    rows = [
        {"figure": figure, "law": "P led, late path", "against": "clamp, late path", "low": low, "high": high}
        for figure, (low, high) in (("miss", miss), ("loss", loss))
    ]
    decisions = scene.decided({"a": {"comparisons": rows}, "b": {"comparisons": rows}}, 2)
    assert decisions["P led, late path does more than the clamp"] == answer
    alone = scene.decided({"a": {"comparisons": rows}}, 2)  # the other network of the plan is missing
    assert alone["P led, late path does more than the clamp"] == "undecided"
    other = [{**row, "low": -1, "high": 1} for row in rows]
    both = scene.decided({"a": {"comparisons": rows}, "b": {"comparisons": other}}, 2)
    assert both["P led, late path does more than the clamp"] == "undecided"


def test_the_numbers_are_on_disk_with_their_plan(numbers, folder):
    stored = json.loads((folder / "steering_features.json").read_text(encoding="utf-8"))
    assert len(stored["run"]["plan_sha256"]) == 64
    assert stored["table"][1] == numbers["table"][1]
    assert (folder / "steering_features.png").stat().st_size > 10_000
