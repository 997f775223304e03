"""place -> what a results file or a plan says there, and whether a printed figure is that number.

`file#/key/key` is a place in a file of `simulations/results`, or of `simulations/configs`.
"""

import functools
import json
import tomllib
from pathlib import Path

SIMULATIONS = Path(__file__).parents[2] / "simulations"


def rounds(text, value):
    """Whether the value is printed like this with as many digits."""
    text = text.replace("−", "-")
    return abs(float(text) - value) <= 0.5000001 * 10.0 ** -len(text.partition(".")[2])


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
