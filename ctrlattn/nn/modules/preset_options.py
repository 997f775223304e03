"""name -> {controller, reference_gain, feedback, mixing}: a preset or relative as options of ControlledViT and LM."""

from typing import Any

from ctrlattn.nn.modules.names import loop_of_network
from ctrlattn.nn.modules.relatives import RELATIVES


def configuration(name: str) -> dict[str, Any]:
    """Return keyword arguments of ControlledViT or ControlledLM that make a network after a preset or a relative.

    A preset of value dynamics (softmax, neutreno, both PIDformer laws) becomes a controller inside attention. A preset
    with a residual connection (comparator) becomes a sign on the stream. A relative (attnscale, centered, shaped,
    differential, value-residual, sinkformer) becomes another attention law, `mixing`, without a controller.

    Raises
    ------
    InputError
        The name is unknown, or the preset has no such network: its order is sequential, it has a normalizer of its
        own, or it controls the stream.

    Examples
    --------
    >>> configuration("pidformer-ema")["reference_gain"], configuration("comparator")["feedback"]
    (0.1, -1.0)
    """
    loop = loop_of_network(name)
    if loop is None:
        return {"controller": None, "reference_gain": 1.0, "feedback": 1.0, "mixing": RELATIVES[name]}
    feedback = 1.0 if loop.skip == 0 else loop.feedback
    return {"controller": loop.controller, "reference_gain": loop.reference_gain, "feedback": feedback}
