"""fl(f(x)): operations of a coarser type than the network's own, computed in its type and rounded once.

Torch computes an elementwise function on whole vectors of the processor in another way than on the numbers behind them,
and orders the sums of a product by its size. A router that scores tokens in float32, in a network of float64, therefore
gives a token another last digit when there are other tokens beside it. Rounded once, a token has the same digits beside
all others. Where a state is held in the coarser type, and one token is computed by another formula than a whole text,
only the network's own type throughout shows whether both are the same function.
"""

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class RoundedOnce(TorchDispatchMode):
    """Inside the block, what operations give in a coarser type is the value in `fine`, rounded to that type.

    Parameters
    ----------
    fine : torch.dtype
        The type of the network.

    Examples
    --------
    >>> x = torch.linspace(-3, 3, 32)
    >>> with RoundedOnce(torch.float64):
    ...     whole, first = x.sigmoid(), x[:27].sigmoid()
    >>> torch.equal(whole[:27], first), torch.equal(whole, x.double().sigmoid().float())
    (True, True)
    """

    def __init__(self, fine: torch.dtype) -> None:
        super().__init__()
        self._fine = fine

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._rounds(func, (args, kwargs), result):
            return result
        exact = func(*tree_map(self._to_fine, args), **tree_map(self._to_fine, kwargs))
        return tree_map(lambda y, value: value.to(y.dtype) if self._coarse(y) else y, result, exact)

    def _rounds(self, func: Any, inputs: Any, result: Any) -> bool:
        """Tell whether an operation reads and gives a coarser type; a view or what is written into is not rounded."""
        return not _shares(func) and all(any(map(self._coarse, tree_leaves(values))) for values in (result, inputs))

    def _to_fine(self, value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return self._fine if value.is_floating_point and _eps(value) > _eps(self._fine) else value
        if not self._coarse(value):
            return value
        return value.to(self._fine.to_complex() if value.is_complex() else self._fine)

    def _coarse(self, value: Any) -> bool:
        if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
            return False
        return _eps(value.dtype) > _eps(self._fine)


class InOwnType(RoundedOnce):
    """Inside the block, what operations give in a coarser type is the value in `fine`, which is not rounded at all.

    Examples
    --------
    >>> x = torch.linspace(-3, 3, 32, dtype=torch.float64)
    >>> with InOwnType(torch.float64):
    ...     y = x.to(torch.float32).sigmoid()
    >>> y.dtype, torch.equal(y, x.sigmoid())
    (torch.float64, True)
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _shares(func):  # what is written into keeps its type
            return func(*args, **kwargs)
        return func(*tree_map(self._to_fine, args), **tree_map(self._to_fine, kwargs))


@cache
def _shares(func: Any) -> bool:
    """Tell whether an operation writes into what it is given, or gives a view of it."""
    return func._schema.is_mutable or any(value.alias_info is not None for value in func._schema.returns)


@cache
def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps
