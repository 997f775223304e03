"""The census of families gives the rows that are kept, for a sample of types; short lists keep every kind."""

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")
ROOT = Path(__file__).parent.parent.parent
SAMPLE = (
    "granite", "gpt_oss", "jamba", "olmo2", "dory", "bert", "vit", "albert", "gemma4", "florence2",
    "gemma3n_text", "hy_v4", "prophetnet", "openai-gpt",
)  # fmt: skip


def kept():
    rows = json.loads((ROOT / "simulations" / "results" / "families.json").read_text(encoding="utf-8"))["types"]
    return {(row["task"], row["type"]): row for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLE)
def test_a_type_is_what_the_page_says(census, kind):
    import transformers
    from stage import tiny_networks

    if transformers.__version__ != "5.24.0":
        pytest.skip("the page is of transformers 5.24.0")
    for case in tiny_networks.cases():
        if case[1] == kind:
            row, expected = census.entry(*case), kept()[case[:2]]
            assert row.pop("error", 0.0) <= max(10 * expected.get("error", 0.0), 1e-12)
            assert row == {name: value for name, value in expected.items() if name != "error"}


def test_every_kind_of_layer_stays_in_a_short_list(census):
    from stage.tiny_networks import _shortened

    assert _shortened(["a"] * 5 + ["b"] + ["a"] * 5) == ["a", "a", "a", "b"]
    assert sorted(set(_shortened(["a"] * 9 + ["b"] * 9 + ["c"]))) == ["a", "b", "c"]
    assert _shortened(list("abcdef")) == list("abcd")


RUN = {"commit": "a" * 40, "time": "2026-01-01T00:00:00+00:00", "versions": {"torch": "1"}, "plan_sha256": None}
CASES = [("causal", "one", "One"), ("masked", "two", "Two"), ("causal", "three", "Three")]


def row_of(case, outcome="exact"):
    return {"task": case[0], "type": case[1], "outcome": outcome}


@pytest.mark.parametrize(
    ("changes", "again"),
    [({}, 1), ({"time": "2026-01-02T00:00:00+00:00"}, 1), ({"commit": "b" * 40}, 3), ({"versions": {"torch": "2"}}, 3)],
)
def test_an_interrupted_run_goes_on_where_the_code_is_the_same(census, monkeypatch, tmp_path, changes, again):
    part, asked = tmp_path / "part.jsonl", []

    def measured(case, judge):
        asked.append(case)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return row_of(case)

    monkeypatch.setattr(census, "measured", measured)
    with pytest.raises(KeyboardInterrupt):
        census.measured_rows(CASES, RUN, part)
    assert census.measured_rows(CASES, {**RUN, **changes}, part) == [row_of(case) for case in CASES]
    assert asked[3:] == CASES[-again:]


def test_a_task_alone_keeps_the_rows_and_the_record_of_the_others(census):
    rows = [row_of(case) for case in CASES]
    old = census.whole(rows, RUN, set(), {})
    assert old == {"run": RUN, "types": rows}
    later, new = {**RUN, "commit": "b" * 40}, [row_of(CASES[1], "refused")]
    assert census.whole(new, later, {"masked"}, old) == {
        "run": RUN, "tasks measured alone": {"masked": later}, "types": [rows[0], rows[2], *new],
    }  # fmt: skip
