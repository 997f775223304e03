"""The one writer of pages: steps, files, facts and further documents, on a page of two sections."""

import dataclasses
import json

import numpy as np
import pytest

from ctrlattn import InputError, results
from ctrlattn.report import folder
from ctrlattn.report.page import Heading, Page
from ctrlattn.report.section import Section


def sections_of(material):
    variables = {"signal": (("layer",), np.array(material), {"units": "1", "long_name": "signal"})}
    return [
        Section("first", "What is it?", ("It is <b>this</b>.",), numbers={"sum": sum(material)}, variables=variables)
    ]


PAGE = Page(
    heading=lambda material: Heading("A page", f"{len(material)} layers", networks=[]),
    facts=lambda material: {"layers": len(material)},
    sections={"first": sections_of, "nothing to say": lambda material: []},
    beside={"more.txt": lambda material: f"more on {len(material)} layers"},
)


def test_a_page_is_its_sections_facts_and_documents(tmp_path):
    written = folder.write(tmp_path / "out", PAGE, [1.0, 2.0])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".ctrlattn.files", "figures", "more.txt", "report.html", "results.nc", "summary.json",
    ]  # fmt: skip
    assert (tmp_path / "out" / "more.txt").read_text(encoding="utf-8") == "more on 2 layers"
    page = written.path.read_text(encoding="utf-8")
    assert page.count("<section id=") == 1  # the one section that there is; no network is named, and none is spoken of
    assert "What was measured" not in page
    assert "It is &lt;b&gt;this&lt;/b&gt;." in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary == written.summary
    assert (summary["layers"], summary["first"], summary["schema_version"]) == (2, {"sum": 3.0}, 1)
    saved = results.load(tmp_path / "out" / "results.nc")
    np.testing.assert_array_equal(saved["signal"], [1.0, 2.0])
    np.testing.assert_array_equal(saved["layer"], [0, 1])
    assert json.loads(saved.attrs["layers"]) == 2


def test_further_formats_stand_beside_the_results(tmp_path):
    folder.write(tmp_path, PAGE, [1.0, 2.0], formats=["csv", "mat"])
    assert (tmp_path / "results.layer.csv").read_text() == "layer,signal\n0,1.0\n1,2.0\n"
    assert (tmp_path / "results.mat").exists()
    with pytest.raises(InputError, match="unknown format 'xlsx'"):
        folder.write(tmp_path / "other", PAGE, [1.0], formats=["xlsx"])
    assert not (tmp_path / "other").exists()


def test_every_section_is_a_step(tmp_path):
    steps = []
    folder.write(tmp_path, PAGE, [1.0], progress=lambda *step: steps.append(step))
    assert steps == [("first", 0, 3), ("nothing to say", 1, 3), ("pictures and files", 2, 3), ("done", 3, 3)]


def test_a_file_is_no_directory_to_write_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to the output directory"):
        folder.write(tmp_path / "file", PAGE, [1.0])


def figures_of(*names):
    """A page with these pictures."""
    from matplotlib.figure import Figure

    from ctrlattn.report.section import Picture

    pictures = [Picture(name, "A picture.", Figure()) for name in names]
    return dataclasses.replace(
        PAGE, sections={"first": lambda material: [Section("first", "What?", ("This.",), pictures=pictures)]}
    )


def test_a_used_folder_loses_the_figures_of_the_earlier_page_and_no_other_file(tmp_path, undrawn):
    # It used to keep them: figures of loops that the new page does not have.
    folder.write(tmp_path, figures_of("a", "b"), [1.0])
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    (tmp_path / "notes.txt").write_text("mine")
    folder.write(tmp_path, figures_of("b", "c"), [1.0])
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["b.png", "b.svg", "c.png", "c.svg", "mine.png"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["report.html", "results.nc", "summary.json", "figures/a.png"])
def test_a_file_of_somebody_is_told_before_the_work(tmp_path, undrawn, name):
    path, steps = tmp_path / name, []
    path.parent.mkdir(exist_ok=True)
    path.write_text("of somebody")
    with pytest.raises(InputError, match=f"{name} is there and was written by no earlier page"):
        folder.write(tmp_path, figures_of("a"), [1.0], progress=lambda *step: steps.append(step))
    assert name.startswith("figures") or not steps
    assert path.read_text() == "of somebody"
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


def test_a_page_that_fails_leaves_the_earlier_one_as_it_was(tmp_path, undrawn, monkeypatch):
    folder.write(tmp_path, figures_of("a"), [1.0])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "render", full)  # the last of all files
    with pytest.raises(OSError, match="No space left"):
        folder.write(tmp_path, figures_of("b"), [1.0, 2.0])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
