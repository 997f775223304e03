"""bytes that a computation needs <= bytes that are left: work that does not fit into memory is refused, not begun.

Linux grants more memory than there is and later ends the process that uses it. An estimate beforehand is the only way
to say in one line what is too large.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ctrlattn.errors import InputError

_GB = 1e9
_MOST = 10**300  # the largest number that is shown; a product of options may be too large for a float


def require_memory(size: float, subject: str) -> None:
    """Raise InputError where more bytes are needed than are available; nothing is refused where nobody knows.

    Parameters
    ----------
    size : float
        Bytes, an estimate from below.
    subject : str
        What needs them, in the user's words.

    Raises
    ------
    InputError
        They are not available.

    Examples
    --------
    >>> require_memory(1e20, "--tokens 9")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: --tokens 9: this does not fit into memory: it takes 1e+11 GB, ... GB are available
    """
    available = available_memory()
    if available is not None and not size <= available:
        request, room = (f"{min(bytes_, _MOST) / _GB:.3g} GB" for bytes_ in (size, available))
        raise InputError(f"{subject}: this does not fit into memory: it takes {request}, {room} are available")


def available_memory() -> int | None:
    """Return the number of bytes that this process can still take; None where the system does not say it.

    >>> available_memory() is None or available_memory() > 0
    True
    """
    free = [value for value in (_of_system(), _of_group()) if value is not None]
    return min(free) if free else None


def require_disk(size: float, folder: str | os.PathLike[str], subject: str) -> None:
    """Raise InputError where a folder, which need not exist yet, is on a disk with fewer bytes left.

    >>> require_disk(1e20, ".", "--out .")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: --out .: this does not fit on the disk of .: it takes 1e+11 GB, ... GB are available
    """
    place = Path(folder).absolute()
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    with suppress(OSError):
        free = shutil.disk_usage(existing).free
        if not size <= free:
            request, room = (f"{min(bytes_, _MOST) / _GB:.3g} GB" for bytes_ in (size, free))
            raise InputError(
                f"{subject}: this does not fit on the disk of {folder}: it takes {request}, {room} are available"
            )


def _of_system() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):  # other systems: all memory bounds what is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_group() -> int | None:
    """Return what the container leaves, by the limit of its control group; None without a limit."""
    folder = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((folder / "memory.max").read_text(encoding="ascii"))  # "max" is no number, and no limit
        return max(0, limit - int((folder / "memory.current").read_text(encoding="ascii")))
    return None
