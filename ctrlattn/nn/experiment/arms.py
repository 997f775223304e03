"""arm -> controller, reference gain, sign, mixing: what a name asks of a network that is to be trained.

An arm is a preset, one of PIDformer's relatives, softmax drawn again, or a TOML file with a loop. A preset of values
with a PID has four variants more, named by a suffix:

    -learned         one PID for all layers, whose gains are learned inside a box of stable gains
    -learned-each    one such PID for every layer
    -saturated       u = clip(C(z) e, -limit, limit) with anti-windup
    -scheduled       u = (1 - k/L) C(z) e at layer k of L
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from ctrlattn import config, presets
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, require_known
from ctrlattn.nn.experiment.measures import clipped
from ctrlattn.nn.modules.blocks import Block
from ctrlattn.nn.modules.configuration import configuration
from ctrlattn.nn.modules.gains import Actuator, LearnedPID
from ctrlattn.nn.modules.network import Network
from ctrlattn.nn.modules.relatives import RELATIVES
from ctrlattn.stability.modes.regions import Interval, stability_set

# An A/A arm: the same network from another draw. With the sign as a gauge "comparator" is one as well; see `flipped`.
AGAIN, FLIPPED = "softmax-again", "softmax-flipped"
ROOM = 0.25  # in units of alpha: without it, gains at the edge of stability could not change at all
SPREAD = 0.5  # largest relative change of a learned gain


def learning_region(pid: PID) -> Interval:
    """Real modes of attention for which gains that begin as `pid` must stay stable while they are learned.

    They are all of [0, 1] where `pid` is stable on it. Otherwise they begin ROOM above the edge of stability: the
    printed gains .8/.5/.05 are stable for .15 < alpha < 1.82 alone, and the modes below the edge stay without a claim.

    Raises
    ------
    InputError
        Gains that are not stable near alpha = 1, the mode of equal tokens, which every softmax attention has.

    Examples
    --------
    >>> learning_region(PID(0.8, 0.5, 0.05, form="ema"))
    (0.0, 1.0)
    >>> low, high = learning_region(PID(0.8, 0.5, 0.05))
    >>> round(low, 6), high
    (0.4, 1.0)
    """
    for low, high in stability_set(pid):
        start = 0.0 if low < 0 else low + ROOM
        if low < 1 < high and start < 1:
            return start, 1.0
    raise InputError(
        f"the gains {pid.kp:g}/{pid.ki:g}/{pid.kd:g} ({pid.form}) are not stable on ({1 - ROOM:g}, 1): "
        "there is no region in which they could be learned"
    )


def _learned(pid: PID, depth: int, limit: float) -> LearnedPID:
    return LearnedPID(pid, region=learning_region(pid), spread=SPREAD)


def _learned_each(pid: PID, depth: int, limit: float) -> list[Any]:
    # The first layer only starts the memory: gains there would have no gradient.
    return [pid, *(_learned(pid, depth, limit) for _ in range(depth - 1))]


def _saturated(pid: PID, depth: int, limit: float) -> Actuator:
    return Actuator(pid, limit=limit)


def _scheduled(pid: PID, depth: int, limit: float) -> list[Any]:
    return [Actuator(pid, gain=1 - k / depth) for k in range(depth)]


VARIANTS: dict[str, Callable[[PID, int, float], Any]] = {
    "-learned": _learned,
    "-learned-each": _learned_each,
    "-saturated": _saturated,
    "-scheduled": _scheduled,
}


def names() -> list[str]:
    """All arms that have a name: presets, relatives, softmax drawn again, and the variants of presets with a PID.

    >>> "pidformer-ema-learned" in names(), "softmax-learned" in names()
    (True, False)
    """
    plain = [*presets.names(), *RELATIVES, AGAIN, FLIPPED]
    controlled = [name for name in presets.names() if isinstance(presets.get(name).controller, PID)]
    values = [name for name in controlled if presets.get(name).skip == 0]
    return [*plain, *(name + suffix for name in values for suffix in VARIANTS)]


def options_of(arm: str, *, text: bool = False, depth: int = 8, limit: float = 1.0) -> dict[str, Any]:
    """What an arm asks of ControlledViT or ControlledLM.

    Parameters
    ----------
    arm : str
    text : bool
        Take the variant of a preset for text ("-text") where there is one.
    depth : int
        Layers, for arms with a controller of its own at each.
    limit : float
        Largest |u| of an arm that saturates.

    Raises
    ------
    InputError
        An unknown name, a file that is no loop, a loop that is no network.

    Examples
    --------
    >>> options_of("neutreno")["controller"].kp, options_of("neutreno", text=True)["controller"].kp
    (0.6, 0.4)
    >>> options_of("pidformer-printed-saturated", limit=2.0)["controller"].limit
    2.0
    >>> options_of("pidformer-ema-lerned")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown arm 'pidformer-ema-lerned': did you mean 'pidformer-ema-learned'?
    """
    if arm.endswith(".toml"):
        loop = config.load(arm).loop
        if loop.skip != 0 or loop.order == "sequential" or loop.normalizer is not None:
            raise InputError(f"{arm}: an arm is a loop of values: skip = 0, parallel, without normalizer")
        return {"controller": loop.controller, "reference_gain": loop.reference_gain, "feedback": 1.0}
    require_known("arm", arm, names())
    if arm in (AGAIN, FLIPPED):
        return configuration("softmax")
    suffix = next((suffix for suffix in VARIANTS if arm.endswith(suffix)), "")
    preset = arm.removesuffix(suffix)
    options = configuration(f"{preset}-text" if text and f"{preset}-text" in presets.names() else preset)
    return {**options, "controller": VARIANTS[suffix](options["controller"], depth, limit)} if suffix else options


def controller_report(model: Network, inputs: torch.Tensor) -> dict[str, Any]:
    """What a variant did that its name does not say: the gains it learned, the share of u that it clipped.

    Parameters
    ----------
    model : ControlledViT or ControlledLM
    inputs : as the network reads them
        On which the clipped share is counted.

    Returns
    -------
    dict, empty for an arm with neither
        start (kp, ki, kd), gains (one such row, or one for each layer from layer 1 on), region and spread; limit and
        clipped, the share of the elements of u at their limit, layer by layer.

    Examples
    --------
    >>> from ctrlattn.nn.modules.vit import ControlledViT
    >>> sizes = {"image": 4, "patch": 2, "channels": 1, "classes": 2, "dim": 4, "depth": 3, "heads": 2}
    >>> model = ControlledViT(**sizes, **options_of("neutreno-learned"))
    >>> controller_report(model, torch.zeros(2, 1, 4, 4))["gains"]
    [[0.6, 0.0, 0.0]]
    """
    controllers = [cast(Block, block).attn.controller for block in model.blocks]
    laws: Sequence[LearnedPID] = list(dict.fromkeys(c for c in controllers if isinstance(c, LearnedPID)))
    report: dict[str, Any] = {}
    if laws:
        start = laws[0].start
        report |= {"start": [start.kp, start.ki, start.kd], "region": laws[0].region, "spread": laws[0].spread}
        report["gains"] = [[pid.kp, pid.ki, pid.kd] for pid in (law.fixed() for law in laws)]
    limits = [c.limit for c in controllers if isinstance(c, Actuator) and c.limit is not None]
    if limits:
        report |= {"limit": limits[0], "clipped": clipped(model, inputs)}
    return report
