"""docs/families.md from simulations/results/families*.json: what load, tap and repeat make of types of transformers.

python simulations/families_page.py
"""

import json
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TASKS = {
    "causal": "Causal language models", "masked": "Masked language models", "vision": "Vision",
    "composite": "Composite models, by their text decoder",
}  # fmt: skip


def row(entry: dict[str, object]) -> str:
    """One line of a table."""
    if entry["outcome"] != "exact":
        return f"| {entry['type']} | {entry['outcome']} | {entry['reason']} | |"
    matrices = "all" if entry["matrix"] else "not all"
    return f"| {entry['type']} | {entry['layer']} | {', '.join(entry['kinds'])} | {matrices} |"


def counts(types: list[dict[str, object]]) -> str:
    """How many of each outcome."""
    every = Counter(entry["outcome"] for entry in types)
    return ", ".join(f"{every[outcome]} {outcome}" for outcome in ("exact", "refused", "does not run"))


def repeated(types: list[dict[str, object]]) -> list[str]:
    """The section on repeated layers, with every type that is refused."""
    every = Counter(entry["outcome"] for entry in types)
    largest = max(entry["error"] for entry in types if entry["outcome"] == "equal")
    counts = ", ".join(f"{every[outcome]} {outcome}" for outcome in ("equal", "differs", "refused", "not loaded"))
    refusals = [entry for entry in types if entry["outcome"] == "refused"]
    return [
        "## Layers that run several times",
        "",
        "`simulations/repeat_census.py` let two layers of the same networks run three times, and twice under a",
        "controller with recall. It compared the output with that of the network itself, whose last of these layers",
        "calls them again.",
        f"Of {len(types)} types, composite ones included, that is: {counts}; {every['does not run']} do not run.",
        f"Equal means within 1e-9 in float64; the largest difference, of a type in float32, is {largest:.1g}.",
        "",
        "| type | refused, since |",
        "|---|---|",
        *(f"| {entry['type']} | {' '.join(str(entry['reason']).split())} |" for entry in refusals),
    ]


def page(results: dict[str, object], loops: dict[str, object]) -> str:
    """The whole page."""
    types, versions = results["types"], results["run"]["versions"]
    alone = [entry for entry in types if entry["task"] != "composite"]
    composite = [entry for entry in types if entry["task"] == "composite"]
    lines = [
        "# Families",
        "",
        "`simulations/families_census.py` measures, and `simulations/families_page.py` writes this page, for",
        f"transformers {versions['transformers']}. A tiny random network",
        "of every type was loaded and tapped, in float64 where the type runs in it. Exact means that `load` and `tap`",
        "accept it, and that `recompose` gives every state back to the rounding of the coarsest type in the network.",
        f"The result is, of {len(alone)} types: {counts(alone)}.",
        "",
        f"Of {len(composite)} composite types, which read images or sound as well, the decoder was traced on a text",
        f"alone: {counts(composite)}. What does not run",
        "asks for an image or for sound, or its own checks refuse the small configuration that was made for it.",
    ]
    for task, heading in TASKS.items():
        lines += ["", f"## {heading}", "", "| type | layer | kinds | layers with a matrix |", "|---|---|---|---|"]
        lines += [row(entry) for entry in types if entry["task"] == task]
    lines += ["", *repeated(loops["types"])]
    return "\n".join(lines) + "\n"


def main() -> None:
    names = ("families", "families_repeated")
    files = [(ROOT / "simulations" / "results" / f"{name}.json").read_text(encoding="utf-8") for name in names]
    (ROOT / "docs" / "families.md").write_text(page(*map(json.loads, files)), encoding="utf-8")


if __name__ == "__main__":
    main()
