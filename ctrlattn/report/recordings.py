"""A file of signals, the texts of a checkpoint, or the shipped recordings -> texts by the name of their network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctrlattn import signals
from ctrlattn.errors import InputError


def recorded_networks(signals_file: str | Path | None, recorded: Sequence[Any] | None) -> dict[str, list[Any]]:
    """Read the recorded texts by network; by default the shipped ones.

    Parameters
    ----------
    signals_file : path, optional
        Recorded signals (see ctrlattn.signals).
    recorded : Datasets of checkpoints.tap, optional
        One Dataset for each text; excludes `signals_file`.

    Raises
    ------
    InputError
        Both are given, the file is faulty, or there is no text.

    Examples
    --------
    >>> list(recorded_networks(None, None))
    ['SmolLM2-135M-Instruct', 'all-MiniLM-L6-v2']
    """
    if signals_file is not None and recorded is not None:
        raise InputError("give either a signals file or a checkpoint, not both")
    if recorded is not None:
        if not recorded:
            raise InputError("there is no text among the recorded signals")
        networks = [list(recorded)]
    elif signals_file is not None:
        networks = [signals.load(signals_file)]
    else:
        networks = [signals.load_shipped(name) for name in signals.shipped()]
    return {str(texts[0].attrs.get("model", "unnamed network")): texts for texts in networks}
