"""The census of families gives the rows that are kept, for a sample of types; short lists keep every kind."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
ROOT = Path(__file__).parent.parent.parent
SAMPLE = (
    "granite", "gpt_oss", "jamba", "olmo2", "dory", "bert", "vit", "albert", "gemma4", "florence2",
    "gemma3n_text", "hy_v4", "prophetnet", "openai-gpt",
)  # fmt: skip


@pytest.fixture
def census(monkeypatch):
    """The script, imported as it runs."""
    monkeypatch.syspath_prepend(str(ROOT / "simulations"))
    import families_census

    yield families_census
    sys.modules.pop("families_census", None)


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
