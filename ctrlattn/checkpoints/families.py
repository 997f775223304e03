"""Where the signals of a layer are, per family: one row of a table for each kind of network.

Another family takes one such row, `load(source, family=Family(...))`: whether its norms come before ("pre") or after
("post") the sublayer, whether it is causal, the path of its list of layers, and three places inside a layer.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter
from typing import Any, Literal

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Family:
    """Places in a network of one architecture; paths are attribute paths, sides say which tensor is meant."""

    name: str
    norm: Literal["pre", "post"]
    causal: bool
    layers: str  # from the base model to its list of layers
    attention: str  # inside a layer: the module whose second output is the attention matrix
    attention_out: str  # the module whose output is added to the stream
    mid: tuple[str, Side]  # the stream between the sublayers
    mlp_out: str  # the module whose output is added to the stream

    def layers_of(self, model: Any) -> list[Any]:
        """The layers of a model of this family, with or without a head on it."""
        return list(attrgetter(self.layers)(model.base_model))


FAMILIES = {
    "llama": Family(
        name="llama",
        norm="pre",
        causal=True,
        layers="layers",
        attention="self_attn",
        attention_out="self_attn",
        mid=("post_attention_layernorm", "input"),
        mlp_out="mlp",
    ),
    "bert": Family(
        name="bert",
        norm="post",
        causal=False,
        layers="encoder.layer",
        attention="attention.self",
        attention_out="attention.output.dense",
        mid=("attention", "output"),
        mlp_out="output.dense",
    ),
}


def family_of(model_type: str) -> Family:
    """The family of a `model_type`; a ValueError says what exists and what to register.

    >>> family_of("llama").norm
    'pre'
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    nearest = get_close_matches(str(model_type), FAMILIES, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"unknown model family {model_type!r}: {hint}known are {', '.join(FAMILIES)}; for another one give "
        "load(source, family=ctrlattn.checkpoints.Family(...)): where its layers, attention and contributions are"
    )
