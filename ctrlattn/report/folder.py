"""Heading + sections -> a directory: report.html, figures/ (PNG and SVG), results.nc, summary.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrlattn import __version__, plots, results
from ctrlattn.files import atomic, output_directory
from ctrlattn.report.page import Heading, render
from ctrlattn.report.section import Section

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """Where the page is, and its numbers."""

    path: Path
    summary: dict[str, Any]


def save(
    folder: Path,
    heading: Heading,
    sections: Sequence[Section],
    facts: Mapping[str, Any],
    *,
    interactive: Mapping[str, str] | None = None,
) -> Report:
    """Write what a page speaks of, and then the page: where it stands, everything else stands beside it.

    `facts` open summary.json and are the attributes of results.nc; each section adds its numbers and variables.
    """
    summary = _summary(facts, sections)
    drawings = _save_figures(output_directory(folder / "figures"), sections)
    _save_results(folder / "results.nc", sections, facts)
    _save_text(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _save_text(folder / "report.html", render(sections, heading, drawings=drawings, interactive=interactive or {}))
    return Report(folder / "report.html", summary)


def _summary(facts: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    head = {"schema_version": SCHEMA_VERSION, "ctrlattn": __version__}
    ready: dict[str, Any] = results.json_ready({**head, **facts, **{s.key: s.numbers for s in sections}})
    return ready


def _save_figures(folder: Path, sections: Sequence[Section]) -> dict[str, str]:
    """PNG and SVG files; returns the markup to inline."""
    drawings = {}
    for section in sections:
        for picture in section.pictures:
            _, svg = plots.save(picture.figure, folder / picture.name)
            drawings[picture.name] = plots.inline_svg(svg, picture.name)
    return drawings


def _save_results(path: Path, sections: Sequence[Section], facts: Mapping[str, Any]) -> None:
    import xarray as xr

    variables = {name: variable for section in sections for name, variable in section.variables.items()}
    texts = {name: json.dumps(results.json_ready(value)) for name, value in facts.items()}
    results.save(
        path, xr.Dataset(variables, attrs={"schema_version": SCHEMA_VERSION, "ctrlattn": __version__, **texts})
    )


def _save_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
