"""a name -> the device of torch that has it, judged before any work is done for it."""

import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from ctrlattn.errors import InputError

if TYPE_CHECKING:
    import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")
_NO_NUMBERS = "meta"  # torch's device for shapes alone
_DRIVERS = ("nvidia[0-9]*", "dxg", "kfd", "dri/renderD*")  # in /dev: without one of them Linux has a cpu alone


def require_device(name: str) -> None:
    """Raise InputError where no machine has a device of that name; torch is not imported for it.

    A library that gives torch devices of its own is asked by torch: nothing is said here where one is installed.

    Examples
    --------
    >>> require_device("cuda:1")
    >>> require_device("cuda:one")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: there is no device 'cuda:one' here: a device is cpu, cuda, mps or xpu, or one with a number
    """
    kind, colon, index = name.partition(":")
    if kind == _NO_NUMBERS:
        raise InputError(f"there is no device {name!r} here: {name} has shapes and no numbers")
    if kind not in _DEVICES and not entry_points(group="torch.backends"):
        raise InputError(f"there is no device {name!r} here: this machine has {', '.join(here())}")
    if colon and not re.fullmatch("0|[1-9][0-9]{0,5}", index):
        raise InputError(
            f"there is no device {name!r} here: a device is {', '.join(_DEVICES[:-1])} or {_DEVICES[-1]}, or one with "
            "a number"
        )


def here() -> list[str]:
    """Return the names of the devices that torch has on this machine, the cpu first.

    Torch is asked only where a driver says that it may have another device: to import it takes seconds.

    >>> here()[0]
    'cpu'
    """
    if sys.platform == "linux" and not any(any(Path("/dev").glob(pattern)) for pattern in _DRIVERS):
        return ["cpu"]
    import torch

    numbered = [f"{kind}:{i}" for kind in ("cuda", "xpu") for i in range(getattr(torch, kind).device_count())]
    return ["cpu", *numbered, *(["mps"] if torch.backends.mps.is_available() else [])]


def require_here(name: str) -> None:
    """Raise InputError where this machine has no device of that name; every machine has a cpu, without torch.

    >>> require_here("cpu")
    """
    require_device(name)
    if name.partition(":")[0] != "cpu":
        device(name)


def device(name: str) -> "torch.device":
    """Return the device of that name.

    Raises
    ------
    InputError
        Torch does not have the device on this machine, or computes nothing there.

    Examples
    --------
    >>> device("cpu")
    device(type='cpu')
    >>> device("cpux")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: there is no device 'cpux' here: this machine has cpu...
    """
    require_device(name)
    import torch

    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]  # the rest names every backend that torch has
        raise InputError(
            f"there is no device {name!r} here: this machine has {', '.join(here())}; torch says: {reason}"
        ) from error
    return place
