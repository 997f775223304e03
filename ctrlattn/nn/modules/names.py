"""name -> its loop: which presets and relatives make a network, judged before torch is imported."""

from ctrlattn import presets
from ctrlattn.errors import InputError, require_known
from ctrlattn.loop import Loop

RELATIVES = ("attnscale", "centered", "shaped", "differential", "value-residual", "sinkformer")


def loop_of_network(name: str) -> Loop | None:
    """Return the loop of a preset that makes a network; None for a relative, which has an attention law and no loop.

    Raises
    ------
    InputError
        The name is unknown, or the preset has no such network: its order is sequential, it has a normalizer of its
        own, or it controls the stream.

    Examples
    --------
    >>> loop_of_network("comparator").feedback, loop_of_network("centered")
    (-1.0, None)
    >>> loop_of_network("centred")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown preset 'centred': did you mean 'centered'?
    """
    if name in RELATIVES:
        return None
    loop = presets.get(require_known("preset", name, [*presets.names(), *RELATIVES]))
    if loop.order == "sequential" or loop.normalizer is not None:
        raise InputError(f"preset {name!r} is not a network of attention and MLP: it is sequential or has its own norm")
    if loop.skip != 0 and loop.controller is not None:
        raise InputError(f"preset {name!r} controls the stream: these networks control values alone")
    return loop
