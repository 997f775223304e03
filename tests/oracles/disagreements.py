"""docs/disagreements.md: where a peer and this package disagree on a system, who is right, and how one sees it.

python tests/oracles/disagreements.py            # write the page from table.json, peers.json and octave.json
python tests/oracles/disagreements.py --check    # exit 1 if the page is another one
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import exact
import numpy as np
import table
from mpmath import mp, mpf

from ctrlattn import stability

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "disagreements.md"
SHOWN = 8  # rows of a kind on the page
CLOSE = 1e-5
_INFINITE = 1e12  # a pole beyond is one at infinity, where 1 + K D = 0 up to the rounding of K
OURS: dict[str, Callable[[Any], Any]] = {
    "gain_margin": lambda g: stability.margins(g).gain_margin,
    "phase_margin": lambda g: stability.margins(g).phase_margin,
    "modulus_margin": lambda g: stability.margins(g).modulus_margin,
    "hinf": stability.hinf_norm,
    "h2": stability.h2_norm,
}
WORDS = {
    "gain_margin": "gain margin", "phase_margin": "phase margin", "modulus_margin": "modulus margin",
    "hinf": "H-infinity norm", "h2": "H2 norm",
}  # fmt: skip
HEAD = """# Disagreements with python-control and Octave

This page is written by `python tests/oracles/disagreements.py`; a test holds it to its numbers. {count} systems of
`tests/oracles/table.json` were given to each library as the same doubles:

- ctrlattn, this version;
- python-control {control}, whose norms use slycot {slycot} (SLICOT);
- GNU Octave {octave} with its control package {package} (SLICOT as well).

The truth is computed at 200 digits by an oracle that shares no code with the package: Routh's table decides stability,
and the crossings are real roots that are enclosed one by one. ctrlattn agrees with it to 1e-6 in every row
(`tests/oracles/test_table.py`). A disagreement below is a difference of more than 1e-5.

The last column shows how one sees who is right without any of the libraries. A gain margin K has to put a pole of the
closed loop on the boundary: the column gives the largest |z| (in continuous time Re s) of a pole with the loop
multiplied by the true K, by 1 % more, and by the peer's K. For a phase margin L is turned by e^(-i phi) in the same
way, in the direction that comes first. A modulus margin above |1 + L| at a frequency, or a norm below |G| at one, is
refuted there.

## How often

| value | systems | python-control | Octave |
|---|---|---|---|
{counts}

Differences of convention are not counted. python-control returns as gain margin the factor nearest to 1, which may be
below 1, and gives phase margins a sign; Octave measures some phases the other way around the circle. Such a value
counts as right where its factor, or its angle modulo a turn, does put a pole on the boundary and nothing nearer does.
"""


class Disagreement(NamedTuple):
    """One value of one system."""

    name: str
    key: str
    truth: float
    ours: float
    peer: Any


def read(name: str) -> dict[str, Any]:
    """A file of answers beside this one."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def system_of(row: dict[str, Any]) -> Any:
    return table.system(row["system"])


@cache
def line_of(name: str) -> exact.Line:
    """A system of the table as the oracle sees it; both peers disagree on many of the same."""
    return exact.line(system_of(table.load()[name]))


@cache
def margins_of(name: str) -> exact.Margins:
    """The oracle's margins of a system of the table."""
    return exact.margins(line_of(name))


def disagreements(peer: str, answers: dict[str, Any]) -> Iterator[Disagreement]:
    """Every value that the peer gave and that is not the truth, nor another convention of it."""
    for name, row in table.load().items():
        for key, ask in OURS.items():
            if key not in row["truth"] or key not in answers[name] or not np.isscalar(answers[name][key]):
                continue
            truth, given = float(row["truth"][key]), float(answers[name][key])
            if _agrees(key, given, row["truth"], float(row["spread"][key])):
                continue
            loop = system_of(row)
            yield Disagreement(name, key, truth, float(ask(loop)), given)


def _agrees(key: str, given: float, truth: dict[str, Any], spread: float) -> bool:
    candidates = [float(truth[key])]
    if key == "gain_margin":
        candidates.append(float(truth["gain_reduction"]))
    if key == "phase_margin":
        given = abs((given + 180) % 360 - 180) if math.isfinite(given) else given
    return any(g == given or abs(g - given) <= (CLOSE + 10 * spread) * abs(g) for g in candidates)


def evidence(key: str, line: exact.Line, truth: float, given: float) -> str:
    """What one computes by hand to see who is right."""
    with mp.workdps(exact.DIGITS):
        if key == "gain_margin":
            return _poles(line, [(f"K = {truth:.6g}", truth), ("1 % more", 1.01 * truth), _factor(given)])
        if key == "phase_margin":
            if math.isinf(truth):
                return f"|L| is nowhere 1: {_range(line)}"
            side = -1 if abs(_growth(line, _turned(truth))) < abs(_growth(line, _turned(-truth))) else 1
            turns = [(f"phi = {truth:.6g}", truth), ("1 % more", 1.01 * truth), (f"phi = {given:.6g}", given)]
            pairs = [(text, _turned(-side * phi)) for text, phi in turns if math.isfinite(phi)]
            return _poles(line, pairs)
        closed = exact.plus(line.num, line.den)
        top, bottom = {
            "modulus_margin": (exact.squared(closed), exact.squared(line.den)),
            "hinf": (exact.squared(line.num), exact.squared(line.den)),
        }.get(key, (None, None))
        if top is None:
            return f"the Gramian at 200 digits gives {truth:.6g}"
        value, y = exact.extreme(top, bottom, len(line.den) - 1, largest=key == "hinf")
        sign = "|G|" if key == "hinf" else "|1 + L|"
        return f"{sign} = {float(mp.sqrt(value)):.6g} at w = {float(line.omega(y)):.5g}"


def _factor(given: float) -> tuple[str, Any]:
    return (f"K = {given:.6g}", given) if math.isfinite(given) else ("", None)


def _turned(phi: float) -> Any:
    return mp.expj(mp.radians(mpf(phi)))


def _range(line: exact.Line) -> str:
    top, bottom, n = exact.squared(line.num), exact.squared(line.den), len(line.den) - 1
    low, high = (float(mp.sqrt(exact.extreme(top, bottom, n, largest=side)[0])) for side in (False, True))
    return f"it goes from {low:.4g} to {high:.4g}"


def _poles(line: exact.Line, factors: list[tuple[str, Any]]) -> str:
    word = "max of |z|" if line.discrete else "max Re s"
    shown = []
    for text, factor in factors:
        if factor is not None:
            growth = _growth(line, factor)
            real = f"{growth:.2e}" if abs(growth) < _INFINITE else "infinite"
            shown.append(f"{text}: {growth + 1:.9f}" if line.discrete else f"{text}: {real}")
    return f"{word}, " + "; ".join(shown)


def _growth(line: exact.Line, factor: Any) -> float:
    """Largest |z| - 1 (Re s) of a pole of 1 + factor L."""
    p = [d + mp.mpmathify(factor) * n for n, d in zip(line.num, line.den, strict=True)]
    order = len(p) - 1
    while len(p) > 1 and p[-1] == 0:
        p = p[:-1]
    roots = [*exact.roots(p), *[-mp.inf] * (order - len(p) + 1)]  # s = infinity: z = -1
    if not line.discrete:
        return float(max(mp.re(s) for s in roots))
    return float(max(_modulus(s) for s in roots) - 1)


def _modulus(s: Any) -> Any:
    """|z| of z = (1 + s)/(1 - s)."""
    if s == -mp.inf:
        return mpf(1)
    return abs((1 + s) / (1 - s)) if s != 1 else mp.inf


def kinds(peer: str, rows: list[Disagreement]) -> dict[str, list[Disagreement]]:
    """The disagreements of one peer by what they have in common."""
    sorts: dict[str, list[Disagreement]] = {}
    for row in rows:
        sorts.setdefault(_kind(peer, row), []).append(row)
    return sorts


def _kind(peer: str, row: Disagreement) -> str:
    if row.key == "gain_margin":
        last = margins_of(row.name).phase_crossover
        if last == math.pi and math.isinf(row.peer):
            return f"{peer} misses the crossing at z = -1"
        if last == 0.0 and math.isinf(row.peer):
            return f"{peer} misses the crossing at w = 0"
        return f"{peer}: {'no gain margin where there is one' if math.isinf(row.peer) else 'another gain margin'}"
    if row.key == "phase_margin":
        if peer == "Octave" and row.peer == 180.0:
            return "Octave answers a phase margin of 180 degrees"
        return f"{peer}: another phase margin"
    return f"{peer}: another {WORDS[row.key]}"


def page() -> str:
    """The whole page."""
    peers, octave = read("peers.json"), read("octave.json")
    answers = {"python-control": peers["rows"], "Octave": {row["name"]: row for row in octave["rows"]}}
    rows = {peer: list(disagreements(peer, given)) for peer, given in answers.items()}
    counts = []
    for key, word in WORDS.items():
        systems = sum(key in row["truth"] for row in table.load().values())
        cells = [_count(key, answers[peer], rows[peer]) for peer in answers]
        counts.append(f"| {word} | {systems} | {' | '.join(cells)} |")
    text = HEAD.format(
        count=len(table.load()), control=peers["versions"]["control"], slycot=peers["versions"]["slycot"],
        octave=octave["octave"], package=octave["control"], counts="\n".join(counts),
    )  # fmt: skip
    sections = [text]
    for peer, group_rows in rows.items():
        for title, group in kinds(peer, group_rows).items():
            sections.append(_section(title, group))
    sections.append(_refusals(answers))
    return "\n".join(sections)


def _count(key: str, given: dict[str, Any], rows: list[Disagreement]) -> str:
    asked = [name for name in given if key in given[name]]
    if not asked:
        return "not asked"
    return str(sum(row.key == key for row in rows))


def _section(title: str, group: list[Disagreement]) -> str:
    lines = [f"## {title}", "", f"{len(group)} of the systems; the first {min(len(group), SHOWN)}:", ""]
    lines += ["| system | value | ctrlattn | peer | right | how one sees it |", "|---|---|---|---|---|---|"]
    for row in group[:SHOWN]:
        right = "ctrlattn" if row.ours == row.truth or abs(row.ours / row.truth - 1) <= CLOSE else "neither"
        seen = evidence(row.key, line_of(row.name), row.truth, row.peer).replace("|", "\\|")
        cells = [row.name, WORDS[row.key], f"{row.ours:.6g}", f"{row.peer:.6g}", right, seen]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _refusals(answers: dict[str, Any]) -> str:
    lines = ["## Where a peer has no answer", ""]
    for peer, given in answers.items():
        errors: dict[str, int] = {}
        for row in given.values():
            for key, value in row.items():
                if isinstance(value, dict) and "error" in value:
                    text = f"{WORDS.get(key, 'Hankel values')}: {value['error'].splitlines()[0]}"
                    errors[text] = errors.get(text, 0) + 1
        lines += [f"- {peer}, {text} ({times} systems)." for text, times in sorted(errors.items())]
    return "\n".join([*lines, ""])


def main() -> bool:
    """Write the page, or say whether it is the one that stands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    text = page()
    if parser.parse_args().check:
        return PAGE.read_text(encoding="utf-8") == text
    PAGE.write_text(text, encoding="utf-8")
    return True


if __name__ == "__main__":
    sys.exit(not main())
