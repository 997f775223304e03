"""Does anything lie, break or get lost? `python tests/reliability/reliability.py --kills 100 --inputs 1000 --seed 0`

Kills commands and runs them again (`kills`), gives commands mutated files (`mutants`), and writes reliability.json.
`--table` writes its numbers into docs/reliability.md. It is no part of CI, whose tests take a small sample.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULT, PAGE = HERE / "reliability.json", ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- The campaign writes from here", "<!-- to here. -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    result = json.loads(chosen.json.read_text(encoding="utf-8")) if chosen.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if chosen.kills or chosen.inputs:
            import small_commands

            small_commands.prepare()
            small_commands.make_stage(Path(folder) / "stage")
        if chosen.kills:
            result["kills"] = run_kills(Path(folder), chosen.kills, chosen.seed)
        if chosen.inputs:
            result["inputs"] = run_inputs(Path(folder), chosen.inputs, chosen.seed)
    if not chosen.table:
        chosen.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if chosen.table:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_table(text, result), encoding="utf-8")


def run_kills(work: Path, count: int, seed: int) -> dict[str, Any]:
    import kills

    import ctrlattn

    rows, faults, begin = {}, [], time.monotonic()
    for name, share in kills.SHARES.items():
        alone = kills.undisturbed(name, work / "stage", work)
        done = [kills.kill(name, work / "stage", work, alone, seed + i) for i in range(round(share * count / 100))]
        rows[name] = {
            "kills": len(done),
            "before the end": sum(each.struck for each in done),
            "file events": alone.events,
            "faulty": sum(bool(each.faults) for each in done),
        }
        faults += [[name, each.moment, *each.faults] for each in done if each.faults]
        print(name, rows[name], f"{time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return {"version": ctrlattn.__version__, "seed": seed, "commands": rows, "faults": faults}


def run_inputs(work: Path, count: int, seed: int) -> dict[str, Any]:
    import mutants

    import ctrlattn

    outcomes = []
    for i in range(count):
        outcomes.append(mutants.tried(i, seed, work / "stage", work / "mutant"))
        if outcomes[-1].verdict in mutants.BAD:
            print(outcomes[-1], file=sys.stderr, flush=True)
    rows = {}
    for kind in mutants.KINDS:
        own = [each for each in outcomes if each.kind == kind]
        verdicts = Counter(each.verdict for each in own)
        rows[kind] = {
            "inputs": len(own),
            **{verdict: verdicts[verdict] for verdict in mutants.VERDICTS},
            "longest s": round(max((each.seconds for each in own), default=0.0), 1),
            "largest MB": round(max((each.megabytes for each in own), default=0.0)),
        }
    bad = [
        [each.index, each.kind, each.change, each.verdict, each.said]
        for each in outcomes
        if each.verdict in mutants.BAD
    ]
    return {"version": ctrlattn.__version__, "seed": seed, "kinds": rows, "bad": bad}


def table(rows: dict[str, dict[str, Any]], what: str) -> list[str]:
    """Markdown of rows of numbers, with their sum where a sum says something."""
    heads = list(next(iter(rows.values())))
    lines = ["| " + " | ".join([what, *heads]) + " |", "|---|" + "---:|" * len(heads)]
    lines += ["| " + " | ".join([name, *(str(row[head]) for head in heads)]) + " |" for name, row in rows.items()]
    largest = ("longest", "largest")
    total = [
        str((max if head.startswith(largest) else sum)(row[head] for row in rows.values()))
        if head != "file events"
        else ""
        for head in heads
    ]
    return [*lines, "| " + " | ".join(["all", *total]) + " |"]


def with_table(text: str, result: dict[str, Any]) -> str:
    """The page with the tables of a result between its two marks."""
    lines = []
    for key, what, rows in (("kills", "command", "commands"), ("inputs", "format", "kinds")):
        if key in result:
            about = result[key]
            lines += ["", f"Version {about['version']}, seed {about['seed']}:", "", *table(about[rows], what)]
    head, rest = text.split(BEGIN)
    first, tail = rest.split("\n", 1)
    return f"{head}{BEGIN}{first}\n" + "\n".join(lines[1:]) + f"\n\n{END}" + tail.split(END)[1]


if __name__ == "__main__":
    main()
