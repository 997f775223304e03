"""docs/claims.md: every claim has a verdict, what could have refuted it, and figures that pages and results show.

`claims_sources.json` names for each claim and figure the place in a file of `simulations/results` that it comes from:
an interval is computed again from the values of that place, a number or a sentence is read there. The pages of dropping
and of training are written from results by generators that have a check of their own.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import scipy.stats
from stored_figures import results, rounds, stored

ROOT = Path(__file__).parent.parent
DOCS, RESULTS = ROOT / "docs", ROOT / "simulations" / "results"
SOURCES = json.loads((Path(__file__).parent / "claims_sources.json").read_text(encoding="utf-8"))
PAGE = (DOCS / "claims.md").read_text(encoding="utf-8")
ROWS = [
    re.split(r"\s*\|\s*", line.strip("| "))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]
# A mean with its interval or error, or a decimal alone; not the mantissa of 2e-07.
FIGURE = re.compile(r"[-+−]?(?<![\d.])\d*\.\d+(?: \[[^\]]+\]| ± \d*\.\d+)?")
GENERATED = ("dropping.md", "training.md")
"""Written from results: `dropping_page.py --check` and `training_page.py --check` hold them to these."""
WITH_RESULTS = (*GENERATED, "gallery.md", "looped_findings.md")
"""Pages whose intervals are in files of results."""


@pytest.fixture
def statistics(monkeypatch):
    """The module of the simulations that computes an interval from what is stored."""
    monkeypatch.syspath_prepend(ROOT / "simulations")
    from stage import statistics

    return statistics


def named(row):
    return re.sub(r"\W+", " ", row[0])[:60]


def page_of(row):
    return re.fullmatch(r"\[[^\]]+\]\(((?:howto/|tutorials/)?\w+\.md)\)", row[4])[1]


def figures_of(row):
    return FIGURE.findall(re.sub(r"\d+e-\d+", "", f"{row[2]} {row[3]}"))


def mean_and_ends(place, statistics):
    """Of the interval at a place, computed again from its values or counts; None where it carries none."""
    entry, index = stored(place)
    ends = statistics.recomputed(entry)
    if ends is None:
        return None
    if "hits" in entry:
        mean = entry["hits"] / entry["n"]
    else:
        mean = next(entry[name] for name in ("mean", "right", "increase", "again") if name in entry)
    return tuple(float(x if index is None else x[index]) for x in (mean, *ends))


def shows(figure, source, statistics):
    """Whether the results hold this figure there."""
    if isinstance(source, dict):  # the difference of two arms, seed by seed
        first, second = (stored(place)[0]["values"] for place in source["minus"])
        row = statistics.interval([a - b for a, b in zip(first, second, strict=True)])
        found = (row["mean"], row["low"], row["high"])
    elif isinstance(stored(source)[0], dict):
        found = mean_and_ends(source, statistics)
    elif isinstance(value := stored(source)[0], str):
        plain = figure.replace("−", "-").lstrip("+")
        if " [" in figure or " ± " in figure:
            return plain in value
        return any(rounds(plain, float(number)) for number in re.findall(r"[-+]?\d*\.?\d+(?:e-?\d+)?", value))
    else:
        return rounds(figure, value)
    if found is None or any(map(math.isnan, found)):
        return False
    mean, low, high = found
    if " ± " in figure:
        middle, half = figure.split(" ± ")
        return rounds(middle, mean) and rounds(half, (high - low) / 2)
    if " [" in figure:
        ends = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", figure).groups()
        return all(rounds(text, value) for text, value in zip(ends, found, strict=True))
    return rounds(figure, mean)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_claim_has_a_verdict_a_control_and_figures_of_its_page(row):
    claim, verdict, seen, control, _ = row
    assert verdict in ("demonstrated", "refuted", "undecided")
    assert control or seen == "an identity", claim
    name = page_of(row)
    text = " ".join((DOCS / name).read_text(encoding="utf-8").split())
    missing = [figure for figure in figures_of(row) if figure not in text and figure not in SOURCES.get(claim, {})]
    assert missing == [], f"{name} does not show {missing}"


@pytest.mark.parametrize("claim", SOURCES)
def test_each_figure_is_read_from_its_results_file(claim, statistics):
    (row,) = [row for row in ROWS if row[0] == claim]
    assert set(SOURCES[claim]) <= set(figures_of(row))
    wrong = {f: place for f, place in SOURCES[claim].items() if not shows(f, place, statistics)}
    assert wrong == {}


def test_each_interval_of_a_page_with_results_has_its_place():
    lacking = [
        (row[0], figure)
        for row in ROWS
        if page_of(row) in set(WITH_RESULTS) - set(GENERATED)
        for figure in figures_of(row)
        if (" [" in figure or " ± " in figure) and figure not in SOURCES.get(row[0], {})
    ]
    assert lacking == []


@pytest.mark.parametrize(
    ("figure", "place"),
    [
        ("0.8", "train_digits.json#/arms/softmax/clean"),
        ("0.866 [0.856, 0.875]", "train_digits.json#/arms/softmax/clean"),
        ("0.865 [0.856, 0.876]", "train_digits.json#/arms/softmax/clean"),
        ("-0.30", "gallery/bilateral.json#/verdict/16"),
    ],
)
def test_another_figure_is_not_shown(figure, place, statistics):
    assert not shows(figure, place, statistics)


def test_intervals_of_the_page_on_loops_follow_from_the_results(statistics):
    """That page is written by hand."""
    files = (*RESULTS.glob("train_loops_*.json"), *RESULTS.glob("span_search*.json"))
    known = []
    for path in files:
        entries = (e for _, e in statistics.stored_intervals(json.loads(path.read_text(encoding="utf-8"))))
        rows = ((e.get("mean", e.get("right")), *ends) for e in entries if (ends := statistics.recomputed(e)))
        known += [tuple(map(float, row)) for row in rows]  # "nan" is a word in JSON
    for scores in results("train_loops_maze_10_seeds.json")["differences"].values():  # seeds 3 to 9 alone
        new = scores["accuracy_8"]["values"][3:]
        known.append((sum(new) / len(new), *statistics.recomputed({"values": new})))
    text = " ".join((DOCS / "looped_findings.md").read_text(encoding="utf-8").split())
    number = r"([-+−]?\d*\.\d+)"
    printed = re.findall(rf"(?<![\w.]){number} \[{number}, {number}\]", text)
    assert len(printed) > 50
    strange = [p for p in printed if not any(all(map(rounds, p, row)) for row in known)]
    assert strange == []


@pytest.mark.parametrize(
    ("task", "inner", "others"), [("addition", [13, 0], [5, 8]), ("maze", [24, 9], [3, 11])], ids=["addition", "maze"]
)
def test_the_tuned_controller_keeps_loops_with_an_inner_norm_on_the_seeds_that_were_new(task, inner, others):
    """Fisher's exact test of the claim on seeds 3 to 9: [kept, lost] of loops with an inner norm and of the others."""
    counts = {True: [0, 0], False: [0, 0]}
    for rescue in results(f"train_loops_{task}_10_seeds.json")["rescues"]:
        if rescue["seed"] >= 3:
            has = rescue["arm"] in ("plain", "plain-again", "random", "penalty", "recall", "held")
            counts[has][rescue["tuned from T"] < rescue["stopped"] - 0.1] += 1
    assert counts == {True: inner, False: others}
    p = scipy.stats.fisher_exact([inner, others]).pvalue
    row = next(row for row in ROWS if row[0].startswith("a tuned controller helps loops with an inner norm"))
    assert f"p {p:.4f}".replace("0.", ".") in " ".join(row[2:])


def test_every_claim_of_the_origin_has_a_verdict():
    origin = (DOCS / "origin.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^## (.+)$", origin, flags=re.MULTILINE))
    assert {match for row in ROWS for match in re.findall(r"^\*([^*]+)\*:", row[0])} == headings
    assert len(headings) == 9


def test_the_three_verdicts_all_occur():
    assert {row[1] for row in ROWS} == {"demonstrated", "refuted", "undecided"}


def test_words_between_quotes_are_on_the_page():
    quoted = [(row, words) for row in ROWS for words in re.findall(r'"([^"]+)"', row[2])]
    assert quoted
    for row, words in quoted:
        name = page_of(row)
        assert words in " ".join((DOCS / name).read_text(encoding="utf-8").split()), words


def test_the_counts_of_types_on_disk_are_those_of_the_census():
    outcomes = Counter(row["outcome"] for row in results("families_on_disk.json")["types"])
    errors = {
        row["type"]: row["error"] for row in results("families_on_disk.json")["types"] if row["outcome"] == "differs"
    }
    page = " ".join((DOCS / "checkpoints.md").read_text(encoding="utf-8").split())
    numerical = outcomes["equal"] + outcomes["differs"]
    assert f"Of {outcomes.total()} types {numerical} run, are loaded and give the same numbers twice" in page
    assert (
        f"Of these {outcomes['equal']} are equal to the last bit on disk, and three ({', '.join(sorted(errors))})"
        in page
    )
    assert max(errors.values()) < 6e-8
    assert outcomes["refused"] == 0
