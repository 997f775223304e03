"""The search over spans: losses by streams are those of whole networks, choices follow means, intervals are joint."""

import json

import numpy as np
import pytest
from scipy.stats import t as student

pytest.importorskip("torch")
pytest.importorskip("transformers")


def test_losses_from_streams_are_those_of_the_repeated_network(scene):
    from ctrlattn import checkpoints

    network = scene.tiny_llama()
    windows = np.random.default_rng(0).integers(256, size=(3, 20))
    streams = scene.Streams(network, windows)
    for a, b in ((0, 1), (1, 3), (2, 4)):
        laws = [scene.Law(a, b, 3, 0.4, 0.05, 0.1, 0.25), scene.Law(a, b, 1, 1.1), scene.Law(a, b, 2, 0.55)]
        losses = streams.losses(laws)
        for law in laws:
            whole = checkpoints.evaluate(checkpoints.repeat(network, **law.options), windows)
            np.testing.assert_allclose(losses[law], whole.window_losses, atol=2e-5)
    np.testing.assert_allclose(streams.source(), checkpoints.evaluate(network, windows).window_losses, atol=2e-5)


def test_the_way_of_a_law_is_how_far_a_constant_error_leads(scene):
    for law in (scene.Law(0, 1, 3, 0.2, ki=0.1, kd=5.0), scene.Law(0, 1, 2, 0.5)):
        controller = law.options["controller"]
        one, total = np.ones(1), 0.0
        state = controller.init(one)
        for _ in range(law.passes):
            u, state = controller.step(one, state)
            total += u.item()
        assert law.way == pytest.approx(total)
        assert law.once[:4] == (0, 1, 1, law.way)


def test_no_document_is_in_two_stages_and_the_held_out_ones_are_read_by_none(scene):
    plan = {"tokens": 9, "seed": 1, "documents": {"coarse": 2, "fine": 1, "close": 2, "held_out": 3}}
    texts = [f"document {k:03d} of many" for k in range(12)] + ["short"]
    parts = scene.windows_by_stage(scene.tiny_llama(), [t[9:] + t for t in texts], plan)
    assert [len(rows) for rows in parts.values()] == [2, 1, 2, 3]
    rows = [tuple(row) for part in parts.values() for row in part.tolist()]
    assert len(set(rows)) == len(rows) == 8
    with pytest.raises(ValueError, match="at least 7 are needed"):
        scene.windows_by_stage(scene.tiny_llama(), texts[:6], plan)


def test_shuffled_windows_hold_the_same_tokens_behind_the_first(scene):
    rows = np.arange(40).reshape(2, 20)
    mixed = scene.shuffled({"fine": rows}, 3)["fine"]
    assert (mixed[:, 0] == rows[:, 0]).all()
    assert (np.sort(mixed, axis=1) == rows).all()
    assert (mixed != rows).any()


def test_one_law_is_chosen_by_its_mean_and_compared_jointly(scene):
    loop, other = scene.Law(1, 2, 2, 0.5), scene.Law(0, 1, 2, 0.5)
    close = {other: np.array([0.0, -0.1]), loop: np.array([-0.2, 0.0]), loop.once: np.array([-0.5, 0.1])}
    laws = scene.chosen(close, 3, 0)
    assert laws["loop"] == loop
    assert laws["best single"] == loop.once
    assert laws["random span"].b - laws["random span"].a == 1
    assert laws["random span"].a != 1
    held = {"loop": np.array([1.0, 2.0, 4.0]), "scaled alike": np.array([1.0, 1.0, 1.0]),
            "best single": np.array([0.0, 0.0, 1.0]), "random span": np.zeros(3)}  # fmt: skip
    rows = scene.comparisons(held)
    d = np.array([0.0, 1.0, 3.0])
    half = student.ppf(1 - 0.025 / 5, 2) * d.std(ddof=1) / np.sqrt(3)
    row = rows["loop - scaled alike"]
    assert row["values"] == d.tolist()  # so that the interval can be computed again
    assert {name: row[name] for name in ("mean", "half", "documents", "comparisons", "low")} == {
        "mean": pytest.approx(4 / 3), "half": pytest.approx(half), "documents": 3, "comparisons": 5,
        "low": pytest.approx(4 / 3 - half),
    }  # fmt: skip
    assert len(rows) == 5


def test_what_selection_wins_by_chance_is_the_least_of_means_of_random_signs(scene):
    alone = {scene.Law(0, 1, 2, 0.5): np.array([3.0, 5.0])}
    assert scene.by_chance(alone, 0)["mean"] == pytest.approx(0.0, abs=0.03)  # -1, 0, 0, 1 after centring
    assert scene.by_chance(alone, 0)["low"] == -1.0
    rng = np.random.default_rng(0)
    many = {scene.Law(k, k + 1, 2, 0.5): rng.standard_normal(8) for k in range(12)}
    assert scene.by_chance(many, 0)["mean"] < -0.3


@pytest.fixture(scope="module")
def searched(scene, tmp_path_factory, short_search):
    """A search at its small size, made once: its folder and its numbers."""
    folder = tmp_path_factory.mktemp("search")
    return folder, scene.main(folder)


def test_the_small_search_is_kept_and_not_measured_again(scene, searched, monkeypatch):
    folder, numbers = searched
    written = json.loads((folder / "span_search.json").read_text(encoding="utf-8"))
    assert written["verdict"] == numbers["verdict"]
    assert written["verdict"][0].split(":")[0] in ("holds", "does NOT hold")
    assert (folder / "span_search.png").exists()
    assert set(numbers["laws"]) == {"loop", "scaled alike", "best single", "random span"}
    rows = numbers["after"]["comparisons"]
    assert {f"{name} - network" for name in numbers["after"]["laws"]} < rows.keys()
    assert {"shuffled: loop - network", "second text: loop - scaled alike"} <= rows.keys()
    monkeypatch.setattr(scene, "Streams", lambda *_: pytest.fail("measured again"))
    assert scene.main(folder)["verdict"] == numbers["verdict"]


def test_what_follows_the_choice_judges_its_laws_on_their_own_documents(scene):
    loop, other = scene.Law(1, 2, 2, 0.5), scene.Law(0, 1, 2, 0.5)
    laws = {"loop": loop, "scaled alike": loop.once, "best single": other.once}
    losses = {
        ("held_out", scene.Law(1, 2, 3, 0.2, 0.0, 0.1, 0.7)): [0.0, 1.0], ("held_out, shuffled", loop): [1.0, 3.0],
        ("second text", loop): [4.0, 5.0], ("second text", loop.once): [1.0, 3.0],
        ("second text", other.once): [0.0, 2.0],
    }  # fmt: skip

    class Run:
        def __init__(self):
            self.plan = {"after": {"tuned_spans": 1, "tuned_passes": 3, "documents": 2}}

        def coarse(self):
            return None

        def fine(self, coarse):
            return {loop: np.array([-1.0]), other: np.array([0.0])}

        def tuned(self, span):
            assert span == (1, 2)  # the best span of stage 2, whatever was chosen
            return {"laws": [[0.2, 0.0, 0.1, 0.7]], "said": "no tuned law: because"}

        def changes(self, stage, wanted):
            return {law: np.array(losses[stage, law]) for law in wanted}

    numbers = scene.after(Run(), laws)
    assert numbers["spectra"] == {"layers 1 to 1": "no tuned law: because"}
    means = {name: row["mean"] for name, row in numbers["comparisons"].items()}
    assert means == {
        "least recall, layers 1 to 1 - network": 0.5, "shuffled: loop - network": 2.0,
        "second text: loop - network": 4.5, "second text: loop - scaled alike": 2.5,
        "second text: best single - network": 1.0,
    }  # fmt: skip
    d = np.array([3.0, 2.0])  # of the loop and its span scaled alike
    half = student.ppf(1 - 0.025 / 5, 1) * d.std(ddof=1) / np.sqrt(2)
    assert numbers["comparisons"]["second text: loop - scaled alike"]["half"] == pytest.approx(half)


def test_the_windows_behind_the_choice_are_held_out_ones_mixed_and_another_text(scene):
    network, plan = scene.tiny_llama(), {"tokens": 12, "seed": 1, "after": {"documents": 3}}
    held = np.arange(24).reshape(2, 12)
    windows = scene.more_windows(network, {"held_out": held}, plan)
    assert (windows["held_out"] == held).all()
    mixed = windows["held_out, shuffled"]
    assert (mixed != held).any()
    assert (np.sort(mixed, axis=1) == held).all()
    from pydoc_data.topics import topics

    beginnings = {tuple(" ".join(page.split()).encode()[:12]) for page in topics.values()}
    rows = [tuple(row) for row in windows["second text"].tolist()]
    assert len(set(rows)) == 3
    assert set(rows) <= beginnings


def test_a_plan_that_follows_another_has_its_stages_and_says_what_network_it_asks(scene):
    search, mark = scene.plan_of()
    for name, network in (("span_search_after", None), ("span_search_gemma", "gemma")):
        plan, own = scene.plan_of(scene.PLAN.with_stem(name))
        assert own != mark
        assert plan.get("network") == network
        assert {"coarse", "fine", "close", "documents", "after"} <= plan.keys()
    follows = scene.plan_of(scene.PLAN.with_stem("span_search_after"))[0]
    assert {name: follows[name] for name in search} == search


def test_the_verdict_follows_the_numbers(scene):
    low, high = {"mean": -0.2, "half": 0.1, "documents": 3}, {"mean": -0.2, "half": 0.3, "documents": 3}
    step = {kind: {"laws": 2, "below": 1, "mean": -0.1} for kind in ("loops", "singles")} | {"chosen": -0.3}
    result = {
        "laws": {"loop": [0, 1, 2, 0.5, 0, 0, 0]}, "chance": {"mean": -0.1, "low": -0.2, "laws": 2},
        "steps": {"close": step},
        "comparisons": {"loop - network": low, "loop - scaled alike": low, "loop - best single": high},
    }  # fmt: skip
    assert [line.split(":")[0] for line in scene.verdict(result)[:2]] == ["holds", "does NOT hold"]
    result["comparisons"] |= {"loop - network": high, "loop - best single": low}
    assert [line.split(":")[0] for line in scene.verdict(result)[:2]] == ["does NOT hold", "holds"]


def test_a_search_on_shuffled_text_is_laid_beside_the_one_in_order(scene, searched, tmp_path):
    in_order = searched[0] / "span_search.json"
    with pytest.raises(ValueError, match="no results of a scene"):
        scene.main(tmp_path, plan="span_search_shuffled", in_order=tmp_path / "none.json")
    numbers = scene.main(tmp_path, plan="span_search_shuffled", in_order=in_order)
    rows = numbers["beside"]["comparisons"]
    ordered = json.loads(in_order.read_text(encoding="utf-8"))
    for name in ("loop", "best single"):
        both = np.add(rows[f"{name}: in order - shuffled"]["values"], rows[f"{name}: shuffled"]["values"])
        np.testing.assert_allclose(both, ordered["held out"][name], atol=1e-12)
    assert {row["comparisons"] for row in rows.values()} == {4}
    kinds = numbers["beside"]["stage 1"]
    assert kinds["loops"]["laws"] == 2 * kinds["singles"]["laws"] == ordered["steps"]["coarse"]["loops"]["laws"]
    assert kinds["loops"]["below"] == numbers["steps"]["coarse"]["loops"]["below"]
    assert numbers["stages"]["coarse"] != ordered["stages"]["coarse"]
    assert any(line.startswith("stage 1, loops below 0 of ") for line in numbers["verdict"])


def test_laws_of_stage_1_are_paired_by_their_names(scene):
    from stage.span_search_shuffled import held_of, stage_1

    rows = [[0, 1, 2, 0.5, 0, 0, 0, -1.0, 0.5], [1, 2, 2, 0.5, 0, 0, 0, 2.0, 1.0], [2, 3, 2, 0.5, 0, 0, 0, -3.0, 2.0]]
    other = [[*row[:7], -x, -y] for *row, x, y in rows[::-1]]
    single = [[0, 1, 1, 1.1, 0, 0, 0, 1.0, 1.0], [1, 2, 1, 1.1, 0, 0, 0, -2.0, 1.0]]
    numbers = stage_1([*other, *single], [*rows, *single[::-1]])
    assert numbers["loops"] == {"laws": 3, "below": 1, "below in order": 2, "below on both": 0, "spearman": -1.0}
    assert numbers["singles"] == {"laws": 2, "below": 1, "below in order": 1, "below on both": 1, "spearman": 1.0}
    ordered = {"held out": {"loop": [1.0]}, "after": {"comparisons": {"tuned - network": {"values": [2.0]}}}}
    assert [held_of(ordered, name).tolist() for name in ("loop", "tuned")] == [[1.0], [2.0]]


@pytest.mark.parametrize("name", ["span_search", "span_search_after", "span_search_gemma"])
def test_the_plan_is_that_of_the_results(scene, name):
    kept = scene.PLAN.parents[1] / "results" / f"{name}.json"
    assert json.loads(kept.read_text(encoding="utf-8"))["plan"] == scene.plan_of(scene.PLAN.with_stem(name))[1]
