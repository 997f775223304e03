"""Faults of a configuration file in words, one line each: loop.predictor.heds: unknown key: did you mean 'heads'?"""

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from ctrlattn.config.schema import AnyController, AnyNormalizer, AnyPredictor, File, LoopModel, SimulationModel, members
from ctrlattn.errors import InputError, did_you_mean, shown

_PARTS = {
    model.kind_name(): model for union in (AnyPredictor, AnyController, AnyNormalizer) for model in members(union)
}
_TABLES: dict[str, type[BaseModel]] = {"loop": LoopModel, "simulation": SimulationModel}


def lines(error: ValidationError) -> Iterator[str]:
    """Yield one line for each fault: its path, what is wrong, the value, and the nearest name where one is unknown.

    Raises
    ------
    ValueError
        One that the package raised by mistake while it built a part; it is no fault of the file.
    """
    for fault in error.errors(include_url=False):
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, Exception) and not isinstance(cause, InputError):
            raise cause
        yield _line(fault)


def _line(fault: Any) -> str:
    loc = [str(place) for place in fault["loc"] if not str(place).startswith("function-")]
    # pydantic puts the chosen branch of a union into the path: users did not write it.
    path = [place for place in loc if place not in _PARTS]
    name, value = ".".join(path) or "file", fault["input"]
    if fault["type"] == "extra_forbidden":
        if len(path) == 1 and path[0] in LoopModel.model_fields:
            return f"{name}: belongs below [loop]"
        return f"{name}: unknown key: {did_you_mean(path[-1], _keys(loc))}"
    if fault["type"] == "union_tag_not_found":
        return f"{name}: the table needs a kind, got {value!r}"
    if fault["type"] == "union_tag_invalid":
        wrong, expected = fault["ctx"]["tag"], fault["ctx"]["expected_tags"]
        return f"{name}.kind: unknown kind {wrong!r}: {did_you_mean(wrong, _words(expected))}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    value_shown = "" if fault["type"] == "missing" or isinstance(value, dict | BaseModel) else f", got {shown(value)}"
    return f"{name}: {message}{value_shown}"


def _keys(loc: list[str]) -> Collection[str]:
    """Return the keys of the table in which the last key of a path stands."""
    if len(loc) == 1:
        return File.model_fields
    return _PARTS[loc[-2]].model_fields if loc[-2] in _PARTS else _TABLES[loc[0]].model_fields


def _words(expected: str) -> list[str]:
    """Return the kinds that pydantic lists as "'pid', 'lti', 'none'"."""
    return [word.strip("' ") for word in expected.split(",")]
