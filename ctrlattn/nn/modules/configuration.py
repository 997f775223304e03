"""name -> controller, reference gain, sign, mixing: presets and relatives as options of the networks here."""

from typing import Any

from ctrlattn import presets
from ctrlattn.errors import InputError, require_known
from ctrlattn.nn.modules.relatives import RELATIVES


def configuration(name: str) -> dict[str, Any]:
    """What a preset or a relative asks of ControlledViT or ControlledLM: controller, reference_gain and feedback.

    A preset of value dynamics (softmax, neutreno, both PIDformer laws) is control inside attention; one with a residual
    connection (comparator) is a sign on the stream. A relative (attnscale, centered, shaped, differential,
    value-residual, sinkformer) is another attention law, `mixing`, without control.

    Raises
    ------
    InputError
        An unknown name, or a preset that has no such network: sequential order, a normalizer of its own, or control
        of the stream.

    Examples
    --------
    >>> configuration("pidformer-ema")["reference_gain"], configuration("comparator")["feedback"]
    (0.1, -1.0)
    """
    if name in RELATIVES:
        return {"controller": None, "reference_gain": 1.0, "feedback": 1.0, "mixing": RELATIVES[name]}
    loop = presets.get(require_known("preset", name, [*presets.names(), *RELATIVES]))
    if loop.order == "sequential" or loop.normalizer is not None:
        raise InputError(f"preset {name!r} is no network of attention and MLP: it is sequential or has its own norm")
    if loop.skip != 0 and loop.controller is not None:
        raise InputError(f"preset {name!r} controls the stream: these networks control values alone")
    feedback = 1.0 if loop.skip == 0 else loop.feedback
    return {"controller": loop.controller, "reference_gain": loop.reference_gain, "feedback": feedback}
