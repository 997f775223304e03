"""Lines that a scene printed -> at most twelve rows of a Markdown table, each cut where its claim ends."""

import re

from stage.page_file import plain

ROWS = 12
# Which lines of a long verdict stand in the table; the first ones, unless said otherwise here.
CHOSEN = {
    "innovation": r"attention adds|of those|, centred",
    "prediction_error": r"^(holds|does NOT hold): (plain|RMS):|^plain: largest",
    "query_memory": r"f\(x\)( alone)?: ",
}
# Scenes whose lines hold more than a claim and a result: the head, and how a line becomes the cells of a row.
CELLS = {
    "bilateral": (
        ("what", "result"),
        {
            r"(.+) differ by (.+)": r"\1 differ by" + "\t" + r"\2",
            r" *(head|face), (\S+): (.+)": r"PSNR over the best Gaussian blur in dB: \1, noise \2" + "\t" + r"\3",
            r"(.+?): (.+)": r"\1" + "\t" + r"\2",
        },
    ),
    "drop": (
        ("taken out", "how many", "loss on news, nats", "loss on plays, nats"),
        {r"(.+?) +(8|15): (\S+ ± \S+); plays (\S+ ± \S+)": "\\1\t\\2\t\\3\t\\4"},
    ),
    "operator": (
        ("what", "stated", "found"),
        {r"agrees: ((?:sequ|para|all|\|\||expo|i\^a|Kreiss).+): stated (.+), found (.+)": "\\1\t\\2\t\\3"},
    ),
    "pronoun": (
        ("signs of association, context, MLP", "solved [95 %]", "strictly solved", "unseen pairs"),
        {
            r"signs (. . .): (\S+ \[.*?\]) (\S+), .*unseen pairs (\S+) .*": r"\1, d = 128" + "\t\\2\t\\3\t\\4",
            r"([-+])1 (\S+ \[.*?\]) (\S+) МАША ЕСТ КАШУ: (d = (?:32|512))": "\\1 \\1 \\1, \\4\t\\2\t\\3\t–",
        },
    ),
    "read_alone": (
        ("what", "result"),
        {
            r"(read .1|ordinary) +(\d\S+ \[.*?\]), (.+)": "\\1: loss on held-out part two, nats a character\t\\2, \\3",
            r"counting (.+)": "counting: loss on held-out part two, nats a character\t\\1",
            r"(.+?): (.+)": "\\1\t\\2",
        },
    ),
}


def table(scene, numbers):
    """At most twelve rows of what a scene printed, as a Markdown table; its own table where it made one."""
    if "table" in numbers:
        head, rows = numbers["table"]
    elif scene in CELLS:
        head, patterns = CELLS[scene]
        rows = [cells for line in numbers["verdict"] if (cells := _cells(patterns, line))]
    else:
        lines = [line for line in numbers["verdict"] if not line.endswith(":")]  # that is a heading of others
        head, rows = ("what", "result"), [_row(line) for line in lines if re.search(CHOSEN.get(scene, ""), line)]
    lines = (head, ["---"] * len(head), *rows[:ROWS])
    return "".join("| " + " | ".join(plain(str(cell).replace("|", "\\|")) for cell in line) + " |\n" for line in lines)


def _cells(patterns, line):
    """The cells of a line by the first pattern that it fits; none where it fits none, or is a heading."""
    for pattern, cells in patterns.items():
        if match := re.fullmatch(pattern, line):
            return match.expand(cells).split("\t")
    return None


def _row(line):
    """(claim, verdict) of a judged claim; what stands before and after the first colon of another line.

    >>> _row("does NOT hold: y"), _row("gain,  of a: +0.5"), _row("words alone")
    (('y', 'does NOT hold'), ('gain, of a', '+0.5'), ('words alone', ''))
    """
    first, _, second = re.sub(" +", " ", line).strip().partition(": ")
    return (second, first) if first in ("holds", "does NOT hold", "undecided") else (first, second)
