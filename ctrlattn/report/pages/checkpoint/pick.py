"""Names out of a profile: which variables a section keeps, and its tokens in words."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.report.section import Variable

if TYPE_CHECKING:
    import xarray as xr


def variables(profile: "xr.Dataset", names: Iterable[str]) -> dict[str, Variable]:
    """Those of the names that were measured, as results.nc keeps them."""
    measured = [name for name in names if name in profile.variables]
    return {n: (tuple(map(str, profile[n].dims)), profile[n].to_numpy(), dict(profile[n].attrs)) for n in measured}


def token(profile: "xr.Dataset", index: Any) -> str:
    """A token by its place and, where it is known, its text."""
    i = int(index)
    text = f" ({str(profile['text'].to_numpy()[i])!r})" if "text" in profile.coords else ""
    return f"token {i}{text}"


def largest(values: np.ndarray) -> tuple[int, ...]:
    """Where the largest finite entry is."""
    return tuple(int(i) for i in np.unravel_index(np.nanargmax(values), values.shape))


def most_common(values: Sequence[int] | np.ndarray) -> tuple[int, float]:
    """The value met most often, and its share.

    >>> most_common([0, 0, 7])
    (0, 0.6666666666666666)
    """
    met, counts = np.unique(np.asarray(values), return_counts=True)
    return int(met[counts.argmax()]), float(counts.max() / counts.sum())
