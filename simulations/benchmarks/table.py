"""results/*.json -> the tables of docs/benchmarks.md, between the markers that name the file.

    python simulations/benchmarks/table.py              # rewrite the page
    python simulations/benchmarks/table.py --check      # exit 1 if the page is not what the results say

A results file is {"machine": {...}, "rows": [{column: value, ...}, ...]}.
"""

import argparse
import json
import re
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(rows: list[dict[str, object]]) -> str:
    """A Markdown table; the columns are the keys in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(column, "")) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(name: str) -> str:
    """Table and machine of one results file."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    return f"{table(result['rows'])}\n\nMeasured on: {machine}.\n"


def fill(page: str) -> str:
    """The page with every marked block written anew."""
    return BLOCK.sub(lambda match: match[1] + section(match[2]) + match[3], page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    arguments = parser.parse_args()
    old = PAGE.read_text(encoding="utf-8")
    new = fill(old)
    if not arguments.check:
        PAGE.write_text(new, encoding="utf-8")
    elif old != new:
        sys.exit(f"docs/{PAGE.name} is out of date: run python simulations/benchmarks/table.py")


if __name__ == "__main__":
    main()
