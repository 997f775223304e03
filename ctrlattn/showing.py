"""result.plot() = plots.view(result): what a person looks for at a result, found in the room that has it.

A result knows nothing of figures or files, and imports go down only. These calls are the one exception: by name, when
they are made. No module is loaded before, and no result depends on what shows it.
"""

from importlib import import_module
from typing import Any, TypeVar

Result = TypeVar("Result")


def plot(result: Any, **options: Any) -> Any:
    """Draw the picture that suits a result, as `ctrlattn.plots.view` does.

    >>> import numpy as np
    >>> from ctrlattn import presets, simulate
    >>> simulate(presets.get("neutreno"), np.ones((3, 2)), 4).plot().get_xlabel()
    'Depth (layers)'
    """
    return import_module("ctrlattn.plots").view(result, **options)


def about(result: Result, system: Any) -> Result:
    """Return the same frozen result, now with the system it is of; its fields, its dict and its equality stay."""
    object.__setattr__(result, "system", system)
    return result


def to_xarray(trajectory: Any, **facts: Any) -> Any:
    """Return a Trajectory with names and units, as `ctrlattn.results.to_xarray` labels it.

    >>> import numpy as np
    >>> from ctrlattn import presets, simulate
    >>> simulate(presets.get("neutreno"), np.ones((3, 2)), 4).to_xarray(seed=1).attrs["seed"]
    1
    """
    return import_module("ctrlattn.results").to_xarray(trajectory, **facts)


def as_html(text: str) -> str:
    """Return the HTML of a text for a notebook, its columns kept.

    >>> as_html("a < b")
    '<pre>a &lt; b</pre>'
    """
    from html import escape

    return f"<pre>{escape(text)}</pre>"
