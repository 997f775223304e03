"""The names of all arms of the trained comparison, and what can be said of an arm before torch is imported."""

from ctrlattn import config, presets
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, require_known
from ctrlattn.loop import Loop, require_scalar_gains
from ctrlattn.nn.modules.names import RELATIVES, loop_of_network

# An A/A arm is the same network with other initial weights. "comparator" is one as well, since training can undo its
# sign by negating W_O; see `training.flipped`.
AGAIN, FLIPPED = "softmax-again", "softmax-flipped"
SUFFIXES = ("-learned", "-learned-each", "-saturated", "-scheduled")  # variants of a preset with a PID of values


def names() -> list[str]:
    """Return the names of all arms: presets, relatives, softmax with other weights, and the variants of PID presets.

    >>> "pidformer-ema-learned" in names(), "softmax-learned" in names()
    (True, False)
    """
    base_names = [*presets.names(), *RELATIVES, AGAIN, FLIPPED]
    controlled = [name for name in presets.names() if isinstance(presets.get(name).controller, PID)]
    values = [name for name in controlled if presets.get(name).skip == 0]
    return [*base_names, *(name + suffix for name in values for suffix in SUFFIXES)]


def loop_of_file(arm: str) -> Loop:
    """Read the loop of values in the TOML file of an arm.

    Raises
    ------
    InputError
        The file does not hold a loop, or its loop does not make a network.
    """
    loop = require_scalar_gains(config.load(arm).loop, f"{arm}: an arm")
    if loop.skip != 0 or loop.order == "sequential" or loop.normalizer is not None:
        raise InputError(f"{arm}: an arm is a loop of values: skip = 0, parallel, without normalizer")
    return loop


def preset_of(arm: str, *, text: bool = False) -> tuple[str, str]:
    """Return the preset or relative of a named arm, and the suffix of its variant.

    Raises
    ------
    InputError
        The name is unknown, or its preset makes no network.

    Examples
    --------
    >>> preset_of("neutreno-learned", text=True), preset_of("softmax-again")
    (('neutreno-text', '-learned'), ('softmax', ''))
    >>> preset_of("pidformer-ema-lerned")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown arm 'pidformer-ema-lerned': did you mean 'pidformer-ema-learned'?
    """
    require_known("arm", arm, names())
    if arm in (AGAIN, FLIPPED):
        return "softmax", ""
    suffix = next((suffix for suffix in SUFFIXES if arm.endswith(suffix)), "")
    preset = arm.removesuffix(suffix)
    preset = f"{preset}-text" if text and f"{preset}-text" in presets.names() else preset
    loop_of_network(preset)
    return preset, suffix


def require_arm(arm: str, *, text: bool = False) -> None:
    """Raise InputError unless it is the name of an arm, or a file with the loop of one.

    >>> require_arm("neutreno")
    """
    if arm.endswith(".toml"):
        loop_of_file(arm)
    else:
        preset_of(arm, text=text)
