"""page + material -> a directory: the one writer of report.html, figures/ (PNG and SVG), results.nc, summary.json."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlattn import __version__, plots, results, tables
from ctrlattn.files import atomic, output_directory, require_ours, together, visible
from ctrlattn.progress import Progress, silent
from ctrlattn.report.page import Front, M, Page
from ctrlattn.report.render import Drawing, render
from ctrlattn.report.section import Section

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1
_PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """Path of the written page, and its numbers."""

    path: Path
    summary: dict[str, Any]


def write(
    out: str | Path,
    page: Page[M],
    material: M,
    *,
    progress: Progress = silent,
    panes: Callable[[M], Mapping[str, str]] | None = None,
    formats: Sequence[str] = (),
) -> Report:
    """Write figures, results and summary of a page, and the page itself last: where it exists, all files exist.

    Nothing of an earlier page is touched until all files of this one are written; then those that this page does not
    have, such as figures of other loops, are removed.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    page : Page
    material : loops and signals, a profile, a reduction, or a study
    progress : callable, optional
        It is called with the name of a step, the number of finished steps and their total.
    panes : material -> {name of a picture: markup to place under it}, optional
    formats : names, optional
        Formats of `tables.export` in which results.nc is written as well.

    Raises
    ------
    InputError
        The directory cannot be written, holds a file of another with the name of one of these, or a format is unknown.
    """
    tables.require_formats(formats)
    folder, total = output_directory(out), len(page.sections) + 1
    require_ours(folder, (_PAGE, "results.nc", "summary.json", *page.beside))  # the figures are judged at the end
    sections: list[Section] = []
    for done, (name, sections_of) in enumerate(page.sections.items()):
        progress(name, done, total)
        sections += sections_of(material)
    progress("pictures and files", total - 1, total)
    markups = {} if panes is None else panes(material)
    with together(folder, last=_PAGE) as stage:
        summary = _save(stage, page, material, sections, markups, formats)
    progress("done", total, total)
    return Report(folder / _PAGE, summary)


def _save(
    folder: Path,
    page: Page[M],
    material: M,
    sections: Sequence[Section],
    panes: Mapping[str, str],
    formats: Sequence[str],
) -> dict[str, Any]:
    facts = page.facts(material)
    summary = _summary(facts, sections)
    for name, text_of in page.beside.items():
        _save_text(folder / name, text_of(material))
    drawings = _save_figures(output_directory(folder / "figures"), sections)
    dataset = page.dataset(material) if page.dataset else _dataset(sections, facts)
    results.save(folder / "results.nc", dataset)
    tables.export(folder / "results.nc", dataset, formats)
    _save_text(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    front = page.front(material, {s.key: s.numbers for s in sections}) if page.front else Front(())
    files = [path.relative_to(folder).as_posix() for path in visible(folder, deep=True) if path.is_file()]
    html = render(
        sections, page.heading(material), front=front, drawings=drawings, interactive=panes, files=sorted(files)
    )
    _save_text(folder / _PAGE, html)
    return summary


def _summary(facts: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    head = {"schema_version": SCHEMA_VERSION, "ctrlattn": __version__}
    ready: dict[str, Any] = results.json_ready({**head, **facts, **{s.key: s.numbers for s in sections}})
    return ready


def _save_figures(folder: Path, sections: Sequence[Section]) -> dict[str, Drawing]:
    """Write PNG and SVG files, and return both SVG variants as markup, by the name of the picture."""
    drawings = {}
    for picture in (picture for section in sections for picture in section.pictures):
        _, svg = plots.save(picture.figure, folder / picture.name)
        wide = plots.inline_svg(svg, picture.name)
        drawings[picture.name] = Drawing(wide, plots.narrow_svg(picture.figure, f"{picture.name}-narrow"))
    return drawings


def _dataset(sections: Sequence[Section], facts: Mapping[str, Any]) -> "xr.Dataset":
    """Collect every variable of the sections with all its coordinates, and the facts as attributes."""
    import xarray as xr

    variables = {name: variable for section in sections for name, variable in section.variables.items()}
    texts = {name: json.dumps(results.json_ready(value)) for name, value in facts.items()}
    attributes = {"schema_version": SCHEMA_VERSION, "ctrlattn": __version__, **texts}
    return results.complete(xr.Dataset(variables, attrs=attributes))


def _save_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
