"""stored results -> a page in docs/: reading and writing JSON, and writing or checking the page itself."""

import json
from pathlib import Path

from ctrlattn.files import atomic


def read_json(path):
    """The content of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_json(path, content):
    """Write a JSON file, whole or not at all."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def without_curves(comparison):
    """A trained comparison without its curves, which only the main section draws."""
    return {name: value for name, value in comparison.items() if name != "curves"}


def write_or_check(path, text, check):
    """Write the page, or only compare it; returns whether the file has this text afterwards."""
    if check:
        return path.read_text(encoding="utf-8") == text
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return True
