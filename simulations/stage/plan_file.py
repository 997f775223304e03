"""plan -> (plan, SHA-256): a plan that was written down before its runs, and the digest that every run keeps."""

import json
import tomllib
from hashlib import sha256
from pathlib import Path

from ctrlattn.errors import InputError

CONFIGS = Path(__file__).parents[1] / "configs"


def read_size(name, kind, full):
    """The size of a run, a `kind` (named tuple) of simulations/configs/<name>.json, and the SHA-256 of that plan.

    >>> from collections import namedtuple
    >>> read_size("innovation", namedtuple("Size", "documents tokens folds strengths"), full=True)[0].documents
    64
    """
    text = (CONFIGS / f"{name}.json").read_bytes()
    return kind(**json.loads(text)["full" if full else "small"]), sha256(text).hexdigest()


def read_plan(name):
    """The table of simulations/configs/<name>.toml, with the digest of its bytes under "sha256".

    >>> plan = read_plan("signs_of_reads")
    >>> len(plan["seeds"]), len(plan["sha256"])
    (8, 64)
    """
    path = CONFIGS / f"{name}.toml"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: no plan: {error}") from error
    return {**tomllib.loads(content.decode("utf-8")), "sha256": sha256(content).hexdigest()}
