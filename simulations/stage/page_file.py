"""text of a page -> its file in docs/, or whether the file has that text: pages that are written from kept results."""

import json

from ctrlattn.files import atomic


def read_json(path):
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_or_check(path, text, check):
    """Write the page, or only compare it; returns whether the file has this text afterwards."""
    if check:
        return path.read_text(encoding="utf-8") == text
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return True
