"""Do the names of the house say what stands where? `python tests/readers.py --seed 0 > sheet.md`

The sheet holds the outline of the package (docs/outline.py) and twenty random lines of at least thirty characters. A
reader who has never seen the code names the file of each: twenty lines "number. file". What he wrote is scored by

    python tests/readers.py --seed 0 --score answers.md

A line that stands in several files is named rightly by each of them. It is no part of CI, as it wants a reader.
"""

import argparse
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LINES, SHORTEST = 20, 30


def drawn(seed: int) -> tuple[list[str], dict[str, set[str]]]:
    """The lines of a seed, and the files in which each line of the package stands."""
    files, every = defaultdict(set), []
    for path in sorted((ROOT / "ctrlattn").rglob("*.py")):
        lines = [
            line for text in path.read_text(encoding="utf-8").splitlines() if len(line := text.strip()) >= SHORTEST
        ]
        every += lines
        for line in lines:
            files[line].add(path.relative_to(ROOT / "ctrlattn").as_posix())
    return random.Random(seed).sample(every, LINES), files


def sheet(seed: int) -> str:
    """What a reader is shown."""
    lines = [f"{place}. `{line}`" for place, line in enumerate(drawn(seed)[0], 1)]
    return "\n".join(["# The files", "", *map(str, outliner()()), "", "# The lines", "", *lines])


def outliner() -> Callable[..., list[Any]]:
    """The function of docs/outline.py."""
    sys.path.insert(0, str(ROOT / "docs"))
    from outline import outlines

    return outlines


def score(seed: int, answers: str) -> str:
    """One line for each answer, and the count of those that are right."""
    lines, files = drawn(seed)
    named = dict(re.findall(r"^(\d+)\. *(?:ctrlattn/)?(\S+\.py)", answers, re.MULTILINE))
    right = [named.get(str(place)) in files[line] for place, line in enumerate(lines, 1)]
    each = [
        f"{place}. {'right' if hit else 'wrong'}: {', '.join(sorted(files[line]))}"
        for place, (line, hit) in enumerate(zip(lines, right, strict=True), 1)
    ]
    return "\n".join([*each, f"{sum(right)} of {LINES} are right"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--score", type=Path, help="the answers of a reader")
    options = parser.parse_args()
    print(score(options.seed, options.score.read_text("utf-8")) if options.score else sheet(options.seed))
