"""x_{l+1} = x_l + F_l(x_l): the class Checkpoint, a transformers network with its layers and sublayers F_l."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from ctrlattn.checkpoints.network.families import Family, Kind, Sublayer, layer_index, sees_both_ways, sublayers
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.trace.run import trace
from ctrlattn.checkpoints.trace.structure import Structure
from ctrlattn.errors import InputError


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network ready for analysis, in evaluation mode.

    `stored` is the torch dtype of its weights on disk, in which `save` writes them; None for a model from memory.
    """

    model: Any
    tokenizer: Any | None
    family: Family | Traced
    source: str
    stored: Any = None

    def __repr__(self) -> str:
        """Return one line; `.model` shows every module of the network."""
        kind = type(self.model).__name__
        return f"Checkpoint({self.name!r}: {kind}, {len(self.layers)} layers, {self.width} features)"

    @cached_property
    def structure(self) -> Structure:
        """What its layers add to the stream; a network of the table of families is traced when this is first read."""
        return self.family.structure if isinstance(self.family, Traced) else trace(self.model)

    @property
    def name(self) -> str:
        """The last part of its source, as files and pages call it."""
        return self.source.rstrip("/").rpartition("/")[2]

    @property
    def layers(self) -> list[Any]:
        """The layers, which are modules of transformers."""
        return self.family.layers_of(self.model)

    @property
    def width(self) -> int:
        """The number d of features of the stream."""
        if isinstance(self.family, Traced):
            return self.family.structure.width
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def heads(self) -> int:
        """The number of query heads of a layer."""
        return int(self.model.config.get_text_config().num_attention_heads)

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        if isinstance(self.family, Traced):
            return self.family.causal
        return not sees_both_ways(self.model.config, self.family.causal)

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP of a layer read the same stream."""
        return self.sublayers()[0].parallel

    def sublayers(self, kind: Kind | None = None) -> tuple[Sublayer, ...]:
        """Return sublayers in order of depth, of one kind or all, looked up anew so that replaced modules are found.

        Raises
        ------
        InputError
            An unknown kind, or a model that the family does not fit.
        """
        if kind is not None and kind not in get_args(Kind):
            raise InputError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        return tuple(s for s in sublayers(self.family, self.model) if kind in (None, s.kind))

    def sublayer(self, kind: Kind, layer: int) -> Sublayer:
        """Return the first sublayer of this kind in a layer.

        Raises
        ------
        InputError
            The layer is not there or has none.
        """
        index = self.layer_index(layer)
        members = [sublayer for sublayer in self.sublayers() if sublayer.layer == index]
        for sublayer in members:
            if sublayer.kind == kind:
                return sublayer
        raise InputError(
            f"layer {index} has no {kind}: it has {' and '.join(s.kind for s in members) or 'no sublayer'}"
        )

    def layer_index(self, layer: int) -> int:
        """Return `layer` as an int, checked to be one of 0 ... layers - 1."""
        return layer_index(layer, len(self.layers))
