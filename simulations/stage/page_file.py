"""stored results -> a page in docs/: reading and writing JSON, the words of the page, writing or checking it."""

import json
import re
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


def plain(text):
    """Markdown takes `<` for the beginning of a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def marked(paragraph):
    """What a reader looks for is seen at once: its words are bold, and plan, control and power are a list.

    >>> marked("Question: is it so?")
    '**Question:** is it so?'
    >>> print(marked("How it is judged.\\nPlan: none.\\nControl: none."))
    **How it is judged.**
    <BLANKLINE>
    - **Plan:** none.
    - **Control:** none.
    """
    paragraph = re.sub(r"^(Question:|How it is judged\.|What it shows|What it does not show)", r"**\1**", paragraph)
    return re.sub(r"\n(Plan|Control|Power):", r"\n- **\1:**", paragraph).replace("\n- **Plan", "\n\n- **Plan")
