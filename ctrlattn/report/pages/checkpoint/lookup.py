"""Helpers for sections of a profile's page: variables by name, tokens in words, the largest entry, the mode."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.report.section import Variable
from ctrlattn.report.words import layer_list

if TYPE_CHECKING:
    import xarray as xr


def variables(profile: "xr.Dataset", names: Iterable[str]) -> dict[str, Variable]:
    """Return the named variables that were measured, with all their coordinates, as results.nc holds them."""
    variable_names = [name for name in names if name in profile.variables]
    dims = {dim for name in variable_names for dim in profile[name].dims}
    variable_names += [str(name) for name, label in profile.coords.items() if label.dims and set(label.dims) <= dims]
    return {
        n: (tuple(map(str, profile[n].dims)), profile[n].to_numpy(), dict(profile[n].attrs)) for n in variable_names
    }


def no_matrix(values: np.ndarray) -> tuple[str, ...]:
    """Return a sentence on the layers whose heads (layer, head) have no value, if there are any.

    >>> no_matrix(np.array([[np.nan, np.nan], [0.5, 0.25]]))[0].partition(":")[0]
    'There is no attention matrix in layer 0'
    """
    missing = np.flatnonzero(~np.isfinite(values).any(-1)).tolist()
    where = f"There is no attention matrix in {layer_list(missing)}"
    return (f"{where}: what mixes the tokens there, if anything does, is no softmax attention.",) if missing else ()


def token(profile: "xr.Dataset", index: Any) -> str:
    """Name a token in words: its position and, where it is known, its text."""
    i = int(index)
    text = f" ({str(profile['text'].to_numpy()[i])!r})" if "text" in profile.coords else ""
    return f"token {i}{text}"


def largest(values: np.ndarray) -> tuple[int, ...]:
    """Return the index of the largest finite entry."""
    return tuple(int(i) for i in np.unravel_index(np.nanargmax(values), values.shape))


def most_common(values: Sequence[int] | np.ndarray) -> tuple[int, float]:
    """Return (most frequent value, its share).

    >>> most_common([0, 0, 7])
    (0, 0.6666666666666666)
    """
    distinct, counts = np.unique(np.asarray(values), return_counts=True)
    return int(distinct[counts.argmax()]), float(counts.max() / counts.sum())
