"""Windows and their documents: what shares a document has one label, and intervals are over documents."""

import numpy as np
import pytest


def test_windows_that_share_a_document_have_one_label(stage):
    assert stage.labels_of([[1], [2, 3], [3, 4], [4], [5]]) == ["1", "2", "2", "2", "5"]
    assert stage.labels_of([[1, 2], [3]]) == ["1", "3"]


def test_the_owners_of_windows_are_those_of_their_tokens(stage):
    lengths, names = [3, 5, 4, 6], ["a", "b", "c", "d"]
    owner = [name for name, length in zip(names, lengths, strict=True) for _ in range(length)]
    owners = stage.owners_of(lengths, names, 4, 4)  # four windows of 4 tokens; two tokens are left
    assert owners == [sorted(set(owner[k : k + 4])) for k in (0, 4, 8, 12)]
    assert stage.owners_of(lengths, names, 4, 2) == [["a", "b"], ["d"]]


def test_a_place_lies_in_the_text_that_covers_it(stage):
    assert stage.works_at(["abc", "de"], ["x", "y"], [0, 2, 3, 4]) == ["x", "x", "y", "y"]


def test_the_files_of_a_folder_are_in_the_order_of_their_names(stage, tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.txt").write_text(name * 2)
    assert stage.works_of(tmp_path) == (["aa", "bb"], ["a", "b"])


def test_every_increase_with_values_gets_its_interval_and_others_stay(stage):
    numbers = {"curves": [{"test": {"increase": 2.0, "values": [1.0, 2.0, 3.0]}}], "plays": {"increase": 1.0}}
    numbers["settings"] = {"test": 16}
    new = stage.with_documents(numbers, {"test": ["a", "b", "b"], "plays": ["c"]})
    row = new["curves"][0]["test"]
    assert row["increase"] == 2.0
    assert "mean" not in row
    assert row["low"] == pytest.approx(
        2 - 12.706205 * np.sqrt(2 * (1 + 1)) / 3, rel=1e-6
    )  # sums -1 and 1; t of one degree
    assert new["plays"] == {"increase": 1.0}
    assert new["settings"] == {"test": 16}
