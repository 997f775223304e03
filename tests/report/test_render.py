"""The page as a browser shows it: no sideways scrolling at 390 px, links to files that exist, nothing unescaped."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from ctrlattn import plots
from ctrlattn.report import folder
from ctrlattn.report.page import Front, Heading, LawRow, Page
from ctrlattn.report.section import Picture, Section, Table

HOSTILE = (
    '<img src="https://evil.example/x.png" onerror="alert(1)"> & "quotes" and a_word_without_any_place_to_break' * 2
)
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def sections_of(material):
    w = np.linspace(0.1, 3.1, 50)
    four = {name: dict.fromkeys(("S", "T", "PS", "CS"), np.exp(w)) for name in ("neutreno", "pidformer-printed")}
    pictures = (
        Picture("gang", HOSTILE, plots.gang_of_four(w, four), HOSTILE),
        Picture("tokens", "Similarity", plots.similarity({"a": np.eye(12), "b": np.eye(12)}, ["A"] * 12)),
    )
    row = (HOSTILE[:40], *(f"{x:.3f}" for x in range(12)), (HOSTILE, "bad"))
    table = Table(tuple("a long heading" for _ in row), (row,) * 2, HOSTILE)
    return [
        Section("first", HOSTILE, (HOSTILE,), pictures, tables=(table,), caveat=HOSTILE, numbers={"sum": 1.0}),
        Section("hidden", "", (), numbers={"only": "numbers"}),
        Section("explorer", "A place for markup", (), markup="<p id='own'>of this package</p>"),
    ]


PAGE = Page(
    heading=lambda material: Heading(HOSTILE, HOSTILE, [{"name": HOSTILE, "summary": "1 layer", "texts": [[HOSTILE]]}]),
    facts=lambda material: {},
    front=lambda material, numbers: Front(
        (HOSTILE, f"The sum is {numbers['first']['sum']}."), (LawRow(HOSTILE, HOSTILE, HOSTILE, (HOSTILE, "good")),)
    ),
    sections={"all": sections_of},
    beside={"a page.txt": lambda material: "more"},
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return folder.write(tmp_path_factory.mktemp("page"), PAGE, None).path


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.targets, self.ids, self.tags, self.described = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.targets += [attrs["href"]] if tag == "a" else []
        self.ids += [attrs["id"]] if "id" in attrs else []
        if attrs.get("role") == "img":
            self.described.append(attrs["aria-label"])
        assert not any(name.startswith("on") for name in attrs), attrs


def parsed(page):
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


@pytest.mark.slow
def test_every_link_leads_to_a_file_or_a_place_and_every_file_has_one(page):
    links = parsed(page)
    places = {target[1:] for target in links.targets if target.startswith("#")}
    files = {unquote(target) for target in links.targets if not target.startswith("#")}
    assert places == {"first", "explorer"}
    assert places <= set(links.ids)
    assert len(links.ids) == len(set(links.ids))
    written = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*") if path.is_file()}
    assert files == written - {"report.html", ".ctrlattn.files"}


def test_hostile_words_are_shown_and_never_obeyed(page):
    links, text = parsed(page), page.read_text(encoding="utf-8")
    assert not {"img", "script", "iframe", "link"} & set(links.tags)
    assert html.escape(HOSTILE[:20], quote=False) in text.replace("&#34;", '"')
    assert HOSTILE in html.unescape(text)
    assert links.described.count(HOSTILE) == 1
    assert "<p id='own'>" in text  # markup of this package is not escaped


def test_numbers_without_a_section_are_in_the_summary_alone(page):
    text = page.read_text(encoding="utf-8")
    assert json.loads((page.parent / "summary.json").read_text())["hidden"] == {"only": "numbers"}
    assert 'id="hidden"' not in text
    assert "The sum is 1.0." in text


def test_pictures_have_two_variants_captions_and_downloads(page):
    text = page.read_text(encoding="utf-8")
    for name in ("gang", "tokens"):
        (figure,) = re.findall(rf'<figure id="figure-{name}">.*?</figure>', text, flags=re.DOTALL)
        assert re.findall(r'class="(wide|narrow)"', figure) == ["wide", "narrow"]
        assert [float(w) for w in re.findall(r'viewBox="0 0 ([0-9.]+) ', figure)][1] == 259.2
        assert set(re.findall(r'href="([^"#]+)" download', figure)) == {
            f"figures/{name}.png", f"figures/{name}.svg", "summary.json",
        }  # fmt: skip
    assert "prefers-color-scheme: dark" in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scrolling(page, tmp_path, width):
    """The page in a frame of that width, whose own script measures it: a window of Chromium is never so narrow."""
    frame = tmp_path / "frame.html"
    source = html.escape(page.read_text(encoding="utf-8"))
    measure = (
        "const d = document.querySelector('iframe').contentDocument, e = d.documentElement;"
        "const shown = [...d.querySelectorAll('.picture svg')].filter(s => s.getBoundingClientRect().width);"
        "const boxes = shown.map(s => s.getBoundingClientRect());"
        "const scales = shown.map((s, i) => boxes[i].width / s.viewBox.baseVal.width);"
        "document.title = JSON.stringify({wide: e.scrollWidth, frame: e.clientWidth, pictures: shown.length,"
        " scale: Math.min(...scales), outside: boxes.filter(b => b.right > e.clientWidth + 1).length});"
    )
    frame.write_text(
        f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{source}"></iframe>'
        f"<script>window.onload = () => {{{measure}}}</script>",
        encoding="utf-8",
    )
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/user"]
    command = [CHROMIUM, *quiet, "--dump-dom", "--virtual-time-budget=20000", frame.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    seen = json.loads(html.unescape(re.findall(r"<title>(\{.*?\})</title>", shown)[0]))
    assert seen["wide"] == seen["frame"] <= width  # beside a bar for scrolling down
    assert (seen["pictures"], seen["outside"]) == (2, 0)
    assert seen["scale"] * 9.5 > 11  # pixels of the letters of a drawing
