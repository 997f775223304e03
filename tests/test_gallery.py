"""docs/gallery.md says what the scenes say of themselves, and shows a picture and a table of each."""

import importlib.util
import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from stored_figures import follows

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "simulations" / "gallery.py"
TOLD = ("Question:", "How it is judged.", "\nPlan:", "\nControl:", "\nPower:", "What it shows", "What it does not show")
"""What a scene says of itself, in this order."""
PAGES = {"dropping": "## Increase of the loss", "training": "## Outcome", "looped_findings": "## Is there a loop"}
"""Pages of results beside the gallery, and where their results begin."""
ROWS = 12
SOURCES = json.loads((Path(__file__).parent / "power_sources.json").read_text(encoding="utf-8"))
"""Where the figures come from that scenes and the page on loops print with plan, control and power."""
DECIMAL = re.compile(r"(?<![\w.])(?:\d*\.\d+(?:e-?\d+)?|\d+e-\d+)")


@pytest.fixture
def gallery(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    specification = importlib.util.spec_from_file_location("gallery", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_is_what_the_scenes_say(gallery):
    assert gallery.page() == gallery.PAGE.read_text(encoding="utf-8"), "run python simulations/gallery.py DIR"


def test_every_scene_has_its_picture_its_table_and_its_limits(gallery):
    page = gallery.PAGE.read_text(encoding="utf-8")
    for scene, entry in zip(gallery.scenes(), page.split("\n## ")[1:], strict=True):
        (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", entry)
        assert (gallery.PAGE.parent / picture).read_bytes()[:4] == b"\x89PNG", scene.name
        rows = re.findall(r"^\|.*\|$", entry, re.MULTILINE)
        assert 3 <= len(rows) <= ROWS + 2, scene.name
        assert "hat it does not show" in entry, scene.name
        (file,) = re.findall(r"\]\(\.\./(simulations/results/gallery/\w+\.json)\)", entry)
        assert json.loads((ROOT / file).read_text(encoding="utf-8"))["generated"] == gallery.MARK


def absent(words, text):
    """The words that a text does not have in this order, each once as the beginning of what it says."""
    lacking, place = [], 0
    for word in words:
        found = text.find(word, place)
        if found < 0:
            lacking.append(word.strip())
        place = max(place, found)
    return lacking


def judged(scene):
    (paragraph,) = (p for p in scene.paragraphs if p.startswith("How it is judged."))
    return paragraph


def question_of(text, end):
    """The words between "Question:" and the first question mark, before `end`."""
    return re.search(r"Question:\**\s+(.*?)\?", text[: text.index(end)], flags=re.DOTALL)[1]


def test_every_scene_tells_question_plan_control_power_result_and_limits(gallery):
    for scene in gallery.scenes():
        text = "\n\n" + "\n\n".join(scene.paragraphs)
        assert absent([word if word[0] == "\n" else f"\n\n{word}" for word in TOLD], text) == [], scene.name
        assert len(question_of(text, "How it is judged").split()) > 5, scene.name
        for kind in ("Plan", "Control", "Power"):
            words = re.search(rf"\n{kind}: (.*?)(?=\n(?:Control|Power):|$)", judged(scene), flags=re.DOTALL)[1]
            assert len(words.split()) > 8, (scene.name, kind)
        assert re.search(r"[Pp]ositive\s+control|planted", judged(scene)), scene.name
        assert re.search(r"the\s+unit\b", judged(scene).lower()) or scene.name == "operator", (
            scene.name
        )  # no unit: identities


@pytest.mark.parametrize("page", PAGES)
def test_the_other_pages_of_results_tell_the_same(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    told = (
        "\n**Question:**",
        "\n- **Plan:**",
        "\n- **Control:**",
        "\n- **Power:**",
        PAGES[page],
        "\n## What this does not show",
    )
    assert absent(told, text) == []
    assert len(question_of(text, "- **Plan").split()) > 5
    part = text[text.index("**Question:**") : text.index("\n## ", text.index("**Power:**"))]
    assert re.search(r"ositive\s+control|planted", part)
    assert re.search(r"the\s+unit\s+is", part)


@pytest.mark.parametrize("word", [*TOLD, "?"])
def test_what_is_taken_out_is_missed(gallery, word, monkeypatch):
    scenes = gallery.scenes()
    for k, scene in enumerate(scenes):
        shorter = scene._replace(paragraphs=[p.replace(word.strip(), "") for p in scene.paragraphs])
        monkeypatch.setattr(gallery, "scenes", lambda k=k, one=shorter: [*scenes[:k], one, *scenes[k + 1 :]])
        with pytest.raises((AssertionError, TypeError, ValueError)):  # it is not there to be read
            test_every_scene_tells_question_plan_control_power_result_and_limits(gallery)


def power_of_page():
    text = (ROOT / "docs" / "looped_findings.md").read_text(encoding="utf-8")
    return text[text.index("**Question:**") : text.index("## Is there a loop")]


def test_figures_of_plan_control_and_power_follow_from_results_and_plans(gallery):
    told = {scene.number: judged(scene) for scene in gallery.scenes()} | {"looped_findings": power_of_page()}
    assert set(told) == set(SOURCES)
    for name, words in told.items():
        plain = re.sub(r"\S+\.(?:toml|json|py|md)|Gemma-\S+", "", words)
        assert set(DECIMAL.findall(plain)) <= set(SOURCES[name]), name
        wrong = {f: source for f, source in SOURCES[name].items() if f not in words or not follows(f, source)}
        assert wrong == {}, name


def test_another_figure_does_not_follow():
    for name, figures in SOURCES.items():
        for figure, source in figures.items():
            digits = figure.partition("e")
            other = digits[0][:-1] + str((int(digits[0][-1]) + 5) % 10) + digits[1] + digits[2]
            if not isinstance(source, str):  # a sentence has several numbers
                assert not follows(other, source), (name, figure)


def test_a_table_is_the_scenes_own_or_its_first_lines(gallery):
    assert gallery.table("x", {"verdict": ["a"], "table": [["law", "x"], [["P <", "1"], ["I", "2"]]]}) == (
        "| law | x |\n| --- | --- |\n| P &lt; | 1 |\n| I | 2 |\n"
    )
    lines = ["holds: x is 1", "does NOT hold: y", "gain of a: +0.5 [+0.1, +0.9]", "words alone"]
    assert gallery.table("x", {"verdict": lines}).splitlines()[2:] == [
        "| x is 1 | holds |", "| y | does NOT hold |", "| gain of a | +0.5 [+0.1, +0.9] |", "| words alone |  |",
    ]  # fmt: skip
    assert len(gallery.table("x", {"verdict": [f"line: {k}" for k in range(99)]}).splitlines()) == ROWS + 2


def test_a_line_is_cut_where_the_claim_ends(gallery):
    lines = [
        "agrees: all eigenvalues 1: upper triangle: stated 0, found 0 0",
        "agrees: Kreiss ratio: stated 3, found 3.01",
    ]
    assert gallery.table("operator", {"verdict": lines}).splitlines() == [
        "| what | stated | found |", "| --- | --- | --- |",
        "| all eigenvalues 1: upper triangle | 0 | 0 0 |", "| Kreiss ratio | 3 | 3.01 |",
    ]  # fmt: skip
    lines = [
        "in nats:",
        "MLP, by cosine     15: +9.026 ± 0.302; plays +9.081 ± 0.959",
        "MLP, by cosine 12: +1 ± 1; plays +1 ± 1",
    ]
    assert gallery.table("drop", {"verdict": lines}).splitlines()[2:] == [
        "| MLP, by cosine | 15 | +9.026 ± 0.302 | +9.081 ± 0.959 |",
    ]
    assert gallery.table("x", {"verdict": ["in nats:", "a,   b: 1, 2: 3"]}).splitlines()[2:] == ["| a, b | 1, 2: 3 |"]


def test_no_row_ends_inside_a_formula(gallery):
    cells = re.findall(r"(?<=\| ).*?(?= \|)", gallery.PAGE.read_text(encoding="utf-8"))
    assert [cell for cell in cells if cell.endswith((" =", ",", "("))] == []
    rows = [
        line.strip("| ").split(" | ")
        for line in gallery.PAGE.read_text(encoding="utf-8").splitlines()
        if line[:1] == "|"
    ]
    assert [row for row in rows if row[:1] == row[1:2] and row[0] != "---"] == []


def test_only_what_was_run_is_kept(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "RESULTS", tmp_path / "kept")
    monkeypatch.setattr(gallery, "PICTURES", tmp_path)
    (tmp_path / "out").mkdir()
    interval = {"mean": 2.0, "low": -10.7, "high": 14.7, "values": [1.0, 3.0]}
    numbers = {"options": "--runs RUN1", "verdict": ["a < b"], "more": 1, "x": interval, "y": {"low": 0, "high": 1}}
    assert not gallery.keep(tmp_path / "out", "operator")
    (tmp_path / "out" / "operator.json").write_text(json.dumps(numbers))
    (tmp_path / "out" / "operator.png").write_bytes(b"picture")
    assert gallery.keep(tmp_path / "out", "operator")
    assert json.loads((tmp_path / "kept" / "operator.json").read_text()) == {
        "generated": gallery.MARK, "options": "--runs RUN1", "verdict": ["a < b"], "intervals": {"/x": interval},
    }  # fmt: skip
    (scene,) = (scene for scene in gallery.scenes() if scene.name == "operator")
    assert f"`python simulations/{scene.number}_operator.py --runs RUN1 --out DIR`" in gallery._entry(scene)
    assert (tmp_path / "operator.png").read_bytes() == b"picture"


def test_numbers_that_are_kept_whole_stand_there_alone(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "RESULTS", tmp_path / "results" / "gallery")
    monkeypatch.setattr(gallery, "PICTURES", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (name,) = gallery.WHOLE
    text = json.dumps({"verdict": ["a"], "x": {"mean": 2.0, "low": -10.7, "high": 14.7, "values": [1.0, 3.0]}})
    (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / f"{name}.png").write_bytes(b"picture")
    assert gallery.keep(tmp_path, name)
    assert (tmp_path / "results" / f"{name}.json").read_text() == text
    told = json.loads((tmp_path / "results" / "gallery" / f"{name}.json").read_text())
    assert told == {"generated": gallery.MARK, "verdict": ["a"], "intervals": {}}


def test_no_picture_is_there_twice():
    hashes = [sha256(path.read_bytes()).hexdigest() for path in sorted((ROOT / "docs" / "images").rglob("*.png"))]
    assert len(hashes) == len(set(hashes))
