"""docs/claims.md: every claim has a verdict, what could have refuted it, and figures that its page shows."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "claims.md").read_text(encoding="utf-8")
ROWS = [
    re.split(r"\s*\|\s*", line.strip("| "))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| claim")
]
# A mean with its interval or error, or a decimal alone.
FIGURE = re.compile(r"[-+]?\d*\.\d+(?: \[[^\]]+\]| ± \d*\.\d+)?")


def named(row):
    return re.sub(r"\W+", " ", row[0])[:60]


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_claim_has_a_verdict_a_control_and_figures_of_its_page(row):
    claim, verdict, seen, control, page = row
    assert verdict in ("demonstrated", "refuted", "undecided")
    assert control or seen == "an identity", claim
    name = re.fullmatch(r"\[[^\]]+\]\(((?:howto/)?\w+\.md)\)", page)[1]
    text = " ".join((DOCS / name).read_text(encoding="utf-8").split())
    missing = [figure for figure in FIGURE.findall(f"{seen} {control}") if figure not in text]
    assert missing == [], f"{name} does not show {missing}"


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
        name = re.search(r"\((\w+\.md)\)", row[4])[1]
        assert words in " ".join((DOCS / name).read_text(encoding="utf-8").split()), words
