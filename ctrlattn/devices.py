"""a name -> the device of torch that has it, judged before any work is done for it."""

from typing import TYPE_CHECKING

from ctrlattn.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")
_NO_NUMBERS = "meta"  # torch's device for shapes alone


def device(name: str) -> "torch.device":
    """The device of that name.

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
    ctrlattn.InputError: there is no device 'cpux' here: did you mean 'cpu'?
    """
    import torch

    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        # For a word that it does not know, torch names every kind of device that there ever was.
        why = str(error).splitlines()[0] if name.partition(":")[0] in _DEVICES else did_you_mean(name, _DEVICES)
        raise InputError(f"there is no device {name!r} here: {why}") from error
    if place.type == _NO_NUMBERS:
        raise InputError(f"there is no device {name!r} here: {name} has shapes and no numbers")
    return place
