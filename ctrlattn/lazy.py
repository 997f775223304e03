"""name -> the module of a room that has it, imported on first use (PEP 562): the room itself is cheap to import.

What a network cannot be asked is judged without torch, and that judgement stands in rooms that need torch otherwise.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A module whose names load on first use; a file or sub-room of the name of a function never hides the function.

    Python binds a sub-module in its parent when it is imported, as `checkpoints.reduce` beside the function `reduce`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in self.__all__):
            super().__setattr__(name, value)


def on_first_use(
    room: str, homes: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a room; `homes` has the names of its modules, between spaces.

    A module of another room has its whole name.

    >>> _, get, _ = on_first_use("ctrlattn", {"errors": "InputError InputTypeError"})
    >>> get("InputError").__name__
    'InputError'
    """
    home = {name: module for module, names in homes.items() for name in names.split()}
    names = sorted(home)

    def get(name: str) -> Any:
        if name in home:
            module = home[name]
            full_name = module if module.startswith("ctrlattn.") else f"{room}.{module}"
            return getattr(import_module(full_name), name)
        raise AttributeError(f"module {room!r} has no attribute {name!r}")

    return names, get, lambda: names


def hide_sub_modules(room: str) -> None:
    """Let the functions of a room keep their names where a sub-module has the same one."""
    sys.modules[room].__class__ = _Room


def loaded(library: str, *names: str) -> tuple[type[Any], ...]:
    """Return classes of a library for `isinstance`, none while it is not loaded: nobody has an object of it before.

    >>> isinstance([1.0], loaded("control", "StateSpace"))
    False
    """
    module = sys.modules.get(library)
    return tuple(getattr(module, name) for name in names if hasattr(module, name))
