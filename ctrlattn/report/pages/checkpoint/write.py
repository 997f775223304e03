"""write_analysis(out, profile): a feedback profile -> report.html, figures, results.nc, summary.json."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlattn.errors import InputError
from ctrlattn.files import output_directory
from ctrlattn.report.folder import Report, save
from ctrlattn.report.page import Heading
from ctrlattn.report.pages.checkpoint import attention, directions, feedback, stream, value_maps
from ctrlattn.report.section import Section
from ctrlattn.report.words import count, number

if TYPE_CHECKING:
    import xarray as xr

SECTIONS: tuple[Callable[["xr.Dataset"], list[Section]], ...] = (
    feedback.sections,
    value_maps.sections,
    attention.sections,
    stream.sections,
    directions.sections,
)


def write_analysis(out: str | Path, profile: "xr.Dataset") -> Report:
    """Write the page of a feedback profile.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    profile : Dataset of checkpoints.feedback_profile
        Of any parts: what was not measured has no section.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        A Dataset of something else; an output directory that cannot be written.

    Examples
    --------
    >>> import xarray
    >>> write_analysis("nowhere", xarray.Dataset())
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: this is no feedback profile: it has no 'cost' among its attributes...
    """
    if "cost" not in profile.attrs:
        raise InputError(
            "this is no feedback profile: it has no 'cost' among its attributes; make one with "
            "checkpoints.feedback_profile(checkpoint, ids)"
        )
    found = [section for sections in SECTIONS for section in sections(profile)]
    facts = {name: profile.attrs[name] for name in ("model", "family", "norm", "causal", "seed")}
    cost, effort = json.loads(profile.attrs["cost"]), json.loads(profile.attrs["effort"])
    return save(output_directory(out), _heading(profile, cost), found, {**facts, "cost": cost, "effort": effort})


def _heading(profile: "xr.Dataset", cost: dict[str, Any]) -> Heading:
    name, sizes = str(profile.attrs["model"]), profile.sizes
    passes = sum(part["forward_passes"] for part in cost.values())
    measured = ", ".join(f"{count(sizes[dim], noun)}" for dim, noun in _COUNTED.items() if dim in sizes)
    tokens = [str(t) for t in profile["text"].to_numpy()] if "text" in profile.coords else []
    return Heading(
        title=f"{name} as a feedback system",
        lead=(
            "Each sublayer adds to the stream what it predicts or wants changed. Whether it pushes against the state "
            "or along it, how much, on which tokens, and how that adds up over depth: measured on one text."
        ),
        networks=[{"name": name, "summary": measured, "texts": [tokens] if tokens else []}],
        provenance={
            "Network": {key: str(profile.attrs[key]) for key in ("family", "norm", "ctrlattn")},
            "Cost in forward passes": {part: number(one["forward_passes"], 0) for part, one in cost.items()}
            | {"altogether": number(passes, 0)},
        },
    )


_COUNTED = {"layer": "layer", "head": "head", "token": "token"}
