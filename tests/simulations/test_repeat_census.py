"""The census of repeated networks: a sample of types equals its span run by hand, or is refused with the reason."""

import pytest

pytest.importorskip("transformers")
EQUAL = ("olmo2", "jamba", "bamba", "openai-gpt", "prophetnet", "vit", "gpt_oss")
REFUSED = {
    "hy_v4": "reads prev_topk_indices beside the stream, and pass 2 hands it another one",
    "vit_mae": "gives another output each time",
    "albert": "since layers share their weights",
    "musicgen_melody": "does not run on them, without any repetition",
}


def rows_of(census, kind):
    from stage import tiny_networks

    rows = [census.entry(*case) for case in tiny_networks.cases() if case[1] == kind]
    return [row for row in rows if row["outcome"] not in ("does not run", "not loaded")]


def test_a_type_measured_again_has_its_own_run(census):
    rows = [{"task": "causal", "type": kind, "outcome": "refused"} for kind in "ab"]
    new = {"task": "causal", "type": "b", "outcome": "equal"}
    results = census.again({"run": 1, "types": rows}, [new], 2)
    assert results == {"run": 1, "types measured again": {"b": 2}, "types": [rows[0], new]}
    assert census.again(results, rows[:1], 3)["types measured again"] == {"b": 2, "a": 3}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EQUAL)
def test_a_repeated_type_is_its_span_run_by_hand(census, kind):
    rows = rows_of(census, kind)
    assert rows
    assert {row["outcome"] for row in rows} == {"equal"}
    assert max(row["error"] for row in rows) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("kind", REFUSED)
def test_a_type_that_is_refused_says_why(census, kind):
    rows = rows_of(census, kind)
    assert rows
    assert all(row["outcome"] == "refused" and REFUSED[kind] in row["reason"] for row in rows)
