"""config.json -> what it says of a network of the table of families, before transformers is imported.

transformers and torch take 2.5 s of processor time to be imported. A command that is refused, since a layer does not
exist or the head predicts nothing, does not wait for them. Whatever config.json leaves to a default of transformers is
asked of transformers.
"""

from collections.abc import Mapping
from typing import Any

from ctrlattn.checkpoints.network.families import FAMILIES, KEY

_LAYERS = {"gpt2": "n_layer"}  # the name in the file, where it is not num_hidden_layers
_NESTED = ("text_config", "text_encoder", "decoder", "generator")  # parts of a network of several
_DEFAULTS: dict[str, Any] = {"is_decoder": False, "use_bidirectional_attention": False, "architectures": None}
_IMAGES = ("vit", "deit")


class PlainConfig:
    """Values of config.json by the names that transformers has for them; it is asked for no others."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(name)
        return self._values[name]

    def get_text_config(self) -> "PlainConfig":
        """Return the part that reads text, as in transformers: here the whole."""
        return self


def plain_config(raw: Mapping[str, Any]) -> PlainConfig | None:
    """Return what config.json says; None for another family or a value left out: transformers has to be asked.

    >>> said = plain_config({"model_type": "gpt2", "n_layer": 3, "vocab_size": 9})
    >>> said.num_hidden_layers, said.is_decoder
    (3, False)
    >>> plain_config({"model_type": "gpt2"}) is None
    True
    """
    inner = raw.get("network") if raw.get("model_type") == KEY else raw
    kind = inner.get("model_type") if isinstance(inner, dict) else None
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if not isinstance(inner, dict) or family is None or any(inner.get(name) is not None for name in _NESTED):
        return None
    layers = _LAYERS.get(family.name, "num_hidden_layers")
    names = {layers, *([family.parallel] if family.parallel else [])}
    names |= set() if family.name in _IMAGES else {"vocab_size"}
    names |= {"pad_token_id"} if "roberta" in family.name else set()
    twice = layers != "num_hidden_layers" and "num_hidden_layers" in inner
    if twice or not names <= inner.keys():
        return None
    values = {name: inner[name] for name in names | (inner.keys() & {"vocab_size"}) if name != layers}
    defaults = {name: inner.get(name, default) for name, default in _DEFAULTS.items()}
    return PlainConfig({"model_type": kind, "num_hidden_layers": inner[layers], **values, **defaults})
