"""profile -> the page of `ctrlattn analyze`: its heading, facts and order of sections."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlattn.errors import InputError
from ctrlattn.report import folder
from ctrlattn.report.folder import Report
from ctrlattn.report.page import Heading, Page
from ctrlattn.report.pages.checkpoint import attention, feedback, jacobians, stream, value_maps
from ctrlattn.report.words import count, number

if TYPE_CHECKING:
    import xarray as xr


def write_analysis(out: str | Path, profile: "xr.Dataset", *, formats: Sequence[str] = ()) -> Report:
    """Write the page of a feedback profile.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    profile : Dataset of checkpoints.feedback_profile
        A profile with any of its parts; a part that was not measured has no section.
    formats : names, optional
        Formats of `tables.export` in which results.nc is written as well.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        The Dataset is not a feedback profile, or the output directory cannot be written.

    Examples
    --------
    >>> import xarray
    >>> write_analysis("nowhere", xarray.Dataset())
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: this is not a feedback profile: it has no 'cost' among its attributes...
    """
    if "cost" not in profile.attrs:
        raise InputError(
            "this is not a feedback profile: it has no 'cost' among its attributes; make one with "
            "checkpoints.feedback_profile(checkpoint, ids)"
        )
    return folder.write(out, PAGE, profile, formats=formats)


def _facts(profile: "xr.Dataset") -> dict[str, Any]:
    facts = {name: profile.attrs[name] for name in ("model", "family", "norm", "causal", "seed")}
    return {**facts, "cost": json.loads(profile.attrs["cost"]), "effort": json.loads(profile.attrs["effort"])}


def _heading(profile: "xr.Dataset") -> Heading:
    name, sizes, cost = str(profile.attrs["model"]), profile.sizes, json.loads(profile.attrs["cost"])
    passes = sum(part["forward_passes"] for part in cost.values())
    summary = ", ".join(f"{count(sizes[dim], noun)}" for dim, noun in _COUNTED.items() if dim in sizes)
    tokens = [str(t) for t in profile["text"].to_numpy()] if "text" in profile.coords else []
    return Heading(
        title=f"{name} as a feedback system",
        lead=(
            "Each sublayer adds to the stream what it predicts or wants changed. Whether it pushes against the state "
            "or along it, how much, on which tokens, and how that adds up over depth: measured on one text."
        ),
        networks=[{"name": name, "summary": summary, "texts": [tokens] if tokens else []}],
        provenance={
            "Network": {key: str(profile.attrs[key]) for key in ("family", "norm", "ctrlattn")},
            "Cost in forward passes": {part: number(costs["forward_passes"], 0) for part, costs in cost.items()}
            | {"altogether": number(passes, 0)},
        },
    )


_COUNTED = {"layer": "layer", "head": "head", "token": "token"}

PAGE: Page["xr.Dataset"] = Page(
    heading=_heading,
    facts=_facts,
    sections={
        "feedback": feedback.sections,
        "value_maps": value_maps.sections,
        "attention": attention.sections,
        "stream": stream.sections,
        "directions": jacobians.sections,
    },
)
