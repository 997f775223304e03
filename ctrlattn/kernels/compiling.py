"""Kernels are compiled at their first use and kept on disk; who waits for the first one is told.

numba tells its listeners of each compilation, and of none where the compiled code comes from the disk. The first one in
a process brings one line; kernels of other packages bring none.
"""

from functools import cache
from typing import Any

from numba.core.event import Event, Listener, register

from ctrlattn.progress import notice

WORDS = "compiling numerical kernels, once for each installation: some seconds"
_ROOM = __name__.rpartition(".")[0]


class _Teller(Listener):
    """A listener that says one line at the first compilation of a kernel of this room."""

    def __init__(self) -> None:
        self.told = False

    def on_start(self, event: Event) -> None:
        if not self.told and is_of_this_room(event.data):
            self.told = True
            notice(WORDS)

    def on_end(self, event: Event) -> None:
        """Say nothing at the end of a compilation."""


def is_of_this_room(data: Any) -> bool:
    """Tell whether a compilation that numba reports is that of a kernel of this package."""
    function = getattr((data or {}).get("dispatcher"), "py_func", None)
    return getattr(function, "__module__", "").startswith(f"{_ROOM}.")


@cache
def watch() -> None:
    """Tell the first compilation in this process from now on; a second call changes nothing."""
    register("numba:compile", _Teller())
