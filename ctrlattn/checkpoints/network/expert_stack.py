"""A stack of experts, (experts, rows, columns), whose members are read from their file when they are asked for.

A token takes a few experts of a layer, and transformers' plain loop over them asks for one after the other. Whatever
else is done with the stack reads it as a whole. A table of words is such a stack as well, whose members are rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

_Read = Callable[[], torch.Tensor]


class ExpertStack:
    """Stands in for a weight (experts, rows, columns), float32.

    Parameters
    ----------
    shape : (experts, rows, columns), or (words, columns)
    member : callable (i) -> (rows, columns), or (columns,)
        It reads expert i.
    whole : callable () -> tensor of this shape
        It reads all of them.

    Examples
    --------
    >>> weights = torch.arange(12.0).reshape(3, 2, 2)
    >>> stack = ExpertStack((3, 2, 2), member=lambda i: weights[i], whole=lambda: weights)
    >>> stack[torch.tensor(2)].tolist(), torch.sum(stack).item()
    ([[8.0, 9.0], [10.0, 11.0]], 66.0)
    """

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, shape: tuple[int, ...], member: Callable[[int], torch.Tensor], whole: _Read) -> None:
        self.shape, self._member, self._whole = torch.Size(shape), member, whole
        self.ndim = len(shape)

    @property
    def brings(self) -> tuple[int, torch.dtype]:
        """Return what a trace compares of weights."""
        return self.ndim, self.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> torch.Tensor:
        if isinstance(place, tuple) and place and type(place[0]) is int:
            return self[place[0]][place[1:]]
        number = isinstance(place, torch.Tensor) and place.ndim == 0 and not place.is_floating_point()
        if type(place) is int or (number and place.dtype != torch.bool):
            i = int(place)
            if not -len(self) <= i < len(self):
                raise IndexError(f"expert {i} of {len(self)}")
            return self._member(i % len(self))
        return self._whole()[place]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying and pickling ask for methods that a stack has not
            raise AttributeError(name)
        return getattr(self._whole(), name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(cls, lambda stack: stack._whole(), (args, kwargs or {}))
        return function(*args, **kwargs)


def stacks_of(layer: Any) -> dict[str, tuple[Any, str]]:
    """Map name in the layer -> (module, name in it) for each stack that transformers' loop over experts reads.

    >>> stacks_of(torch.nn.Linear(2, 2))
    {}
    """
    stacks = {}
    for path, module in layer.named_modules():
        if hasattr(module, "_apply_gate") and hasattr(module, "is_concatenated"):  # what its decorator leaves
            for name, weight in module.named_parameters(recurse=False):
                if weight.ndim == 3:
                    stacks[f"{path}.{name}"] = (module, name)
    return stacks
