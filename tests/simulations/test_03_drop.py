"""The scene on a random network: parts share no document, runs are not repeated, the page says what is kept."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

SCRIPT = Path(__file__).parents[2] / "simulations" / "dropping_page.py"


class Words:
    """A tokenizer that gives every word its number."""

    def __call__(self, text, **options):
        return {"input_ids": [int(word) for word in text.split()]}


def test_no_document_is_in_two_parts(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "PARTS", {"calibration": 5, "selection": 3})
    lines = [" ".join(str(10 * k + i) for i in range(8)) for k in range(12)]
    (tmp_path / "news").write_text("\n".join(lines), encoding="utf-8")
    size = scene.SMALL._replace(length=4, calibration=10, selection=6, test=8)
    parts, documents = scene.split(tmp_path / "news", Words(), size, seed=0)
    seen = {name: {int(i) // 10 for i in ids.flat} for name, ids in parts.items() if name in documents}
    assert seen == {name: set(some) for name, some in documents.items()}
    assert {int(i) // 10 for i in parts["long"].flat} <= set(documents["calibration"])
    assert sum(len(some) for some in seen.values()) == 12 == len(set().union(*seen.values()))


def test_runs_are_kept_and_numbers_are_paired(scene, tmp_path, capsys):
    first = scene.main(tmp_path)
    capsys.readouterr()
    again = scene.main(tmp_path)
    assert "chosen" not in capsys.readouterr().err  # nothing was run again
    assert again == first
    runs = {p.stem: json.loads(p.read_text())["result"] for p in (tmp_path / "drop_runs").glob("*.json")}
    assert runs["attention_4"]["layers"] == sorted(np.argsort(runs["importance"]["attention"])[:4].tolist())
    cache = {name: one["cache_bytes"] for name, one in first["speed"]["networks"].items()}
    assert cache["eight layers bare"] / cache["whole"] == pytest.approx(1 / 6)  # five layers of six are gone
    assert cache["eight layers bare"] < cache["eight with memory"]
    assert first["parameters"]["gain of rank 255"] < first["parameters"]["gain"]


def test_a_passage_said_again_is_judged_where_it_stands(scene, tmp_path):
    """Of a network that copies what came a fixed way before, only the second passage is free."""
    checkpoint, texts, _ = scene.tiny(0)

    class Copier(torch.nn.Module):
        def forward(self, input_ids):
            logits = torch.zeros(*input_ids.shape, 64)
            back = 8 + 5  # the passage and the gap
            for t in range(back - 1, input_ids.shape[1]):
                logits[0, t, input_ids[0, t + 1 - back]] = 50.0
            return SimpleNamespace(logits=logits)

    runs = scene.Runs(tmp_path, checkpoint, texts, scene.SMALL._asdict())
    found = scene.copied(runs, SimpleNamespace(model=Copier()), 5)
    assert found["again"] < 1e-6
    assert found["first"] == pytest.approx(np.log(64))
    assert len(found["values"]) == len(texts["test"]) // 2
    assert found["again"] == pytest.approx(np.mean(found["values"]))
    assert found["low"] <= found["again"] <= found["high"]


def test_full_needs_its_texts(scene, tmp_path):
    with pytest.raises(ValueError, match="--full needs --source, --news and --plays"):
        scene.main(tmp_path, full=True)


def test_the_page_is_that_of_the_numbers(scene):  # which makes the stage importable
    specification = importlib.util.spec_from_file_location("dropping_page", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.main(check=True)


def test_half_against_eight_is_judged_by_the_error_of_the_difference(scene):
    from stage.drop_tables import beyond

    eight = {"test": {"increase": 0.33, "standard_error": 0.03}}
    assert beyond({"test": {"increase": 0.20, "standard_error": 0.04}}, eight, "test").startswith("less")  # .13 > .10
    assert beyond({"test": {"increase": 0.24, "standard_error": 0.04}}, eight, "test").startswith("not")  # .09 < .10


def test_where_values_are_kept_increases_are_paired_by_window(scene):
    from stage.drop_tables import beyond, paired

    def entry(values):
        return {"values": values, "documents": ["a", "b", "c"], "increase": np.mean(values), "standard_error": 9.0}

    less, more = ({"test": entry([x + d for x in (0.0, 5.0, 9.0)])} for d in (0.0, 0.1))
    more["test"]["values"][0] += 0.01
    assert beyond(less, more, "test").startswith("less")  # whatever the windows themselves vary
    curves = [{"8": {"test": row["test"], "plays": {}}, "15": {"test": {}, "plays": {}}} for row in (less, more)]
    assert paired(*curves) == " Chosen less cosine, paired by window: 8 on news -0.103 [-0.118, -0.089]."


def test_the_control_draws_sets_and_pairs_costs_by_document(scene, tmp_path, capsys):
    numbers = scene.main(tmp_path, control=True)
    capsys.readouterr()
    assert scene.main(tmp_path, control=True) == numbers
    assert capsys.readouterr().err == ""  # no set is measured again
    sets = {name: result for name, result in numbers["sets"].items() if name.startswith("random")}
    assert all(len(set(result["layers"])) == 2 for result in sets.values())
    whole = json.loads((tmp_path / "drop_runs" / "control_whole.json").read_text())["result"]["losses"]
    without = json.loads((tmp_path / "drop_runs" / "control_alone_1.json").read_text())["result"]["losses"]
    assert numbers["alone"]["1"]["values"] == pytest.approx(np.subtract(without, whole), abs=1e-5)
    assert json.loads((tmp_path / "drop_control.json").read_text())["run"]["plan_sha256"] == numbers["settings"]["plan"]


def test_a_correlation_of_ranks_has_its_interval(scene):
    from stage.drop_control import foretold
    from stage.statistics import spearman

    cost = np.arange(12.0)
    same, none = spearman(np.exp(cost), cost, 200), spearman([0, 1] * 6, cost, 200)
    assert (same["mean"], same["low"], same["high"]) == pytest.approx((1.0, 1.0, 1.0))
    assert none["low"] < 0 < none["high"]
    alone = {str(i): {"values": [v, v]} for i, v in enumerate([3.0, 1.0, 2.0])}
    sets = [{"layers": layers, "values": [sum(layers)]} for layers in ([0, 1], [1, 2], [0, 2])]
    result = foretold({"place": [0.0, 1.0, 2.0]}, alone, sets, 20)
    assert result["place"]["alone"]["mean"] == pytest.approx(-0.5)  # 1 - 6 (4 + 1 + 1)/(3 (9 - 1))
    assert result["place"]["sets"]["mean"] == pytest.approx(1.0)


def test_the_control_has_students_half_widths(scene):
    from scipy.stats import t
    from stage.drop_tables import cell

    part = {"test": {"increase": 0.5, "standard_error": 0.1}}
    assert cell(part, "test") == f"+0.500 ± {t.ppf(0.975, 15) * 0.1:.3f}"
