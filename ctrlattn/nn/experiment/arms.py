"""arm -> {controller, reference_gain, feedback, mixing}: the arms of the trained comparison, by name.

An arm is a preset, one of PIDformer's relatives, softmax with other initial weights, or a TOML file with a loop. A
preset that controls values by a PID has four more variants, which are named by a suffix:

    -learned         one PID for all layers, whose gains are learned inside a box of stable gains
    -learned-each    one such PID per layer
    -saturated       u = clip(C(z) e, -limit, limit) with anti-windup
    -scheduled       u = (1 - k/L) C(z) e at layer k of L
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from ctrlattn.controllers import PID
from ctrlattn.errors import InputError
from ctrlattn.nn.experiment.arm_names import SUFFIXES, loop_of_file, preset_of
from ctrlattn.nn.experiment.measures import clipped
from ctrlattn.nn.modules.blocks import Block
from ctrlattn.nn.modules.gains import Actuator, LearnedPID
from ctrlattn.nn.modules.network import Network
from ctrlattn.nn.modules.preset_options import configuration
from ctrlattn.stability.modes.intervals import Interval
from ctrlattn.stability.modes.regions import stability_set

ROOM = 0.25  # distance in alpha from the edge of stability; at the edge itself the gains could not change at all
SPREAD = 0.5  # largest relative change of a learned gain


def learning_region(pid: PID) -> Interval:
    """Return the interval of real attention modes for which a learned PID that starts as `pid` must stay stable.

    The interval is [0, 1] where `pid` is stable on all of it. Otherwise it begins ROOM above the edge of stability: the
    printed gains .8/.5/.05 are stable for .15 < alpha < 1.82 alone. Nothing is guaranteed for modes below the interval.

    Raises
    ------
    InputError
        The gains are not stable near alpha = 1. This is the mode of equal tokens, which every softmax attention has.

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


def _learned_pid(pid: PID, depth: int, limit: float) -> LearnedPID:
    return LearnedPID(pid, region=learning_region(pid), spread=SPREAD)


def _learned_each(pid: PID, depth: int, limit: float) -> list[Any]:
    # The first layer only starts the memory: learned gains would have no gradient there.
    return [pid, *(_learned_pid(pid, depth, limit) for _ in range(depth - 1))]


def _saturated_pid(pid: PID, depth: int, limit: float) -> Actuator:
    return Actuator(pid, limit=limit)


def _scheduled_gains(pid: PID, depth: int, limit: float) -> list[Any]:
    return [Actuator(pid, gain=1 - k / depth) for k in range(depth)]


VARIANTS: dict[str, Callable[[PID, int, float], Any]] = dict(
    zip(SUFFIXES, (_learned_pid, _learned_each, _saturated_pid, _scheduled_gains), strict=True)
)


def options_of(arm: str, *, text: bool = False, depth: int = 8, limit: float = 1.0) -> dict[str, Any]:
    """Return keyword arguments of ControlledViT or ControlledLM that make the network of an arm.

    Parameters
    ----------
    arm : str
    text : bool
        Whether to take the text variant of a preset ("-text") where there is one.
    depth : int
        Number of layers, for arms with one controller per layer.
    limit : float
        Largest |u| of an arm that saturates.

    Raises
    ------
    InputError
        The name is unknown, a file does not hold a loop, or its loop does not make a network.

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
        loop = loop_of_file(arm)
        return {"controller": loop.controller, "reference_gain": loop.reference_gain, "feedback": 1.0}
    preset, suffix = preset_of(arm, text=text)
    options = configuration(preset)
    return {**options, "controller": VARIANTS[suffix](options["controller"], depth, limit)} if suffix else options


def controller_report(model: Network, inputs: torch.Tensor) -> dict[str, Any]:
    """Return the gains that an arm learned, and the share of u that it clipped.

    Parameters
    ----------
    model : ControlledViT or ControlledLM
    inputs : as the network reads them
        Inputs on which the clipped share is counted.

    Returns
    -------
    dict, empty for an arm that neither learns gains nor clips
        start (kp, ki, kd), gains (one such row, or one per layer from layer 1 on), region and spread; limit and
        clipped, which is the share of the elements of u at their limit, layer by layer.

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
