"""docs/families.md from simulations/results/families.json: what load and tap make of every type of transformers.

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


def page(results: dict[str, object]) -> str:
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
    return "\n".join(lines) + "\n"


def main() -> None:
    results = json.loads((ROOT / "simulations" / "results" / "families.json").read_text(encoding="utf-8"))
    (ROOT / "docs" / "families.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
