"""TOML -> Configuration: reading a file; the message names all of its faults at once."""

import os
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ctrlattn.config.faults import lines
from ctrlattn.config.schema import File, Simulation
from ctrlattn.errors import InputError
from ctrlattn.files import parsed
from ctrlattn.loop import Loop
from ctrlattn.parsing import parse_toml


@dataclass(frozen=True, eq=False)
class Configuration:
    """What one TOML file says."""

    loop: Loop
    simulation: Simulation


def load(path: str | os.PathLike[str]) -> Configuration:
    """Read a TOML file.

    Raises
    ------
    InputError
        A missing file, TOML that does not parse, and every fault of the content at once, one line each with its path
        and value.

    Examples
    --------
    >>> load("no-such-file.toml")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.toml: no such file
    """
    return parsed(path, loads)


def loads(text: str) -> Configuration:
    """Read a configuration from TOML text.

    Raises
    ------
    InputError
        As `load`.

    Examples
    --------
    >>> loads('[loop]\\npreset = "neutreno"').loop.controller.kp
    0.6
    """
    return from_table(parse_toml(text))


def from_table(table: dict[str, Any]) -> Configuration:
    """Read a configuration from the table that a TOML text stands for.

    Raises
    ------
    InputError
        Every fault of the content at once, one line each with its path and value.

    Examples
    --------
    >>> from_table({"loop": {"preset": "neutreno", "skip": 0.5}}).loop.skip
    0.5
    """
    try:
        file = File.model_validate(table)
    except ValidationError as error:
        raise InputError("\n".join(lines(error))) from None
    return Configuration(file.loop.build(), Simulation(**file.simulation.model_dump()))
