"""place -> what a results file or a plan says there, and whether a printed figure is that number.

`file#/key/key` is a place in a file of `simulations/results`, or of `simulations/configs`.
"""

import functools
import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np

SIMULATIONS = Path(__file__).parents[2] / "simulations"


def rounds(text, value):
    """Whether the value is printed like this with as many digits.

    >>> rounds("7e-16", 6.7e-16), rounds("7e-16", 7.6e-16), rounds("1,000", 1000), rounds(".25", 0.2451)
    (True, False, True, True)
    """
    mantissa, _, exponent = text.replace("−", "-").replace(",", "").partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(float(mantissa) * 10.0 ** int(exponent or 0) - value) <= 0.5000001 * unit


@functools.cache
def results(name):
    """The content of a results file, or of a plan."""
    path = SIMULATIONS / "results" / name
    text = (path if path.exists() else SIMULATIONS / "configs" / name).read_text(encoding="utf-8")
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)


def stored(place):
    """(value, index) at `file#/key/key[index]`; keys may hold slashes."""
    name, _, path = place.partition("#/")
    path, _, index = path.partition("[")
    value = results(name)
    while path:
        keys = [str(key) for key in (value if isinstance(value, dict) else range(len(value)))]
        key = max((key for key in keys if path == key or path.startswith(f"{key}/")), key=len)
        value, path = value[key if isinstance(value, dict) else int(key)], path[len(key) + 1 :]
    return value, int(index.rstrip("]")) if index else None


def follows(figure, source):
    """Whether a figure of the words on plan, control and power is what its source says.

    The source is a place, or says what is made of one: `half`, the largest half of an interval there (of those with n
    draws, of one score, of names that match `of`, in one column); `below`, how far the lowest end lies below 0; `high`,
    the upper end; `count`, what the unit is counted by; `documents`, how many differ; `gap`, the largest difference of
    a stated value and a found one in sentences; `printed factor`, the root of the ratio of the ends in a sentence; or
    the words of a file of `code`, which hold the figure.
    """
    if isinstance(source, str):
        value = stored(source)[0]
        return rounds(figure, value) if not isinstance(value, str) else any(rounds(figure, x) for x in numbers(value))
    if "code" in source:
        text = (SIMULATIONS.parent / source["code"]).read_text(encoding="utf-8")
        return source["words"] in text and any(rounds(figure, x) for x in numbers(source["words"]))
    return rounds(figure, COMPUTED[next(iter(source))](source))


def numbers(text):
    """The numbers of a sentence."""
    return [float(x) for x in re.findall(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", text)]


def intervals_of(source):
    """[(low, high)] of the intervals that a source names."""
    (place,) = (place for kind, place in source.items() if kind in COMPUTED)
    entry, column = stored(place)[0], source.get("column")
    if "low" in entry:
        entry = {"": entry}
    rows = entry.items() if isinstance(entry, dict) else enumerate(entry)
    found = []
    for name, row in rows:
        named = re.search(source.get("of", ""), str(name)) and row.get("score") == source.get("score", row.get("score"))
        if named and row.get("n") == source.get("n", row.get("n")):
            ends = [[line[column] for line in row[end]] if column is not None else row[end] for end in ("low", "high")]
            found += zip(*(end if isinstance(end, list) else [end] for end in ends), strict=True)
    assert found, source
    return found


def printed(source):
    """The ends of the last interval that a sentence prints."""
    (place,) = source.values()
    return [float(end) for end in re.findall(r"\[([^\]]+)\]", stored(place)[0])[-1].split(", ")]


def count(source):
    """Draws, values or entries."""
    entry = stored(source["count"])[0]
    return entry.get("n", len(entry.get("values", ()))) if isinstance(entry, dict) else len(entry)


def gap(source):
    """The largest difference of what sentences state and what they found."""
    pairs = [re.search("stated (.*), found (.*)", stored(place)[0]).groups() for place in source["gap"]]
    return max(float(np.max(np.abs(np.subtract(numbers(stated), numbers(found))))) for stated, found in pairs)


COMPUTED = {
    "half": lambda source: max((high - low) / 2 for low, high in intervals_of(source)),
    "below": lambda source: -min(low for low, _ in intervals_of(source)),
    "high": lambda source: stored(source["high"])[0]["high"],
    "count": count,
    "documents": lambda source: len(set(stored(source["documents"])[0]["documents"])),
    "gap": gap,
    "printed factor": lambda source: math.sqrt(printed(source)[1] / printed(source)[0]),
}
