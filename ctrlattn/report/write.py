"""write(out): signals and loops -> sections -> report.html, figures, results.nc, summary.json, each written whole."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrlattn import __version__, config, plots, results, signals
from ctrlattn.files import atomic, output_directory
from ctrlattn.report import interactive as plotly_panes
from ctrlattn.report.material import Material, named_loops
from ctrlattn.report.page import render
from ctrlattn.report.section import Section
from ctrlattn.report.sections import (
    automaton,
    comparison,
    configurations,
    feedback,
    frequency,
    spectra,
    time,
    tokens,
)

SECTIONS = (automaton, feedback, spectra, time, frequency, tokens, comparison, configurations)
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """Where the page is, and its numbers."""

    path: Path
    summary: dict[str, Any]


def write(
    out: str | Path,
    *,
    presets: Sequence[str] | None = None,
    configurations: Sequence[str | Path] | None = None,
    signals_file: str | Path | None = None,
    recorded: Sequence[Any] | None = None,
    interactive: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Write the report of loops driven by the signals of a real network.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    presets : names, optional
        Loops to compare; None and no configuration: softmax, NeuTRENO and both PIDformer laws.
    configurations : paths of TOML files, optional
        Further loops, named after their files.
    signals_file : path, optional
        Recorded signals (see ctrlattn.signals); None: those that ship with the package.
    recorded : Datasets of checkpoints.tap, optional
        Signals of a checkpoint, one Dataset a text; excludes `signals_file`.
    interactive : bool
        Add plotly panes (the page grows by about 5 MB and stays self-contained).
    progress : callable, optional
        Called with the name of a step, the number of steps done and their total.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        Unknown presets, faulty configurations or signals, an output directory that cannot be written.

    Examples
    --------
    >>> import ctrlattn.report, tempfile
    >>> ctrlattn.report.write(tempfile.mkdtemp(), presets=["no-such-loop"])
    Traceback (most recent call last):
    ...
    ValueError: unknown preset 'no-such-loop': ...
    """
    folder = output_directory(out)
    loops = named_loops(presets, {Path(path).stem: config.load(path).loop for path in configurations or ()})
    material = Material(loops, _networks(signals_file, recorded))
    tell = progress or (lambda step, done, total: None)
    sections = []
    for done, room in enumerate(SECTIONS):
        tell(room.__name__.rpartition(".")[2], done, len(SECTIONS) + 1)
        sections.append(room.section(material))
    summary = _summary(material, sections)
    tell("pictures and files", len(SECTIONS), len(SECTIONS) + 1)
    drawings = _save_figures(output_directory(folder / "figures"), sections)
    _save_results(folder / "results.nc", sections, summary)
    _save_text(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    # The page comes last: where it stands, everything it speaks of stands beside it.
    panes = plotly_panes.panes(material) if interactive else {}
    _save_text(folder / "report.html", _page(material, sections, drawings, panes))
    tell("done", len(SECTIONS) + 1, len(SECTIONS) + 1)
    return Report(folder / "report.html", summary)


def _networks(signals_file: str | Path | None, recorded: Sequence[Any] | None) -> dict[str, list[Any]]:
    """Recorded texts by network; the shipped ones where nothing is given."""
    if signals_file is not None and recorded is not None:
        raise ValueError("give either a signals file or a checkpoint, not both")
    if recorded is not None:
        if not recorded:
            raise ValueError("there is no text among the recorded signals")
        found = [list(recorded)]
    elif signals_file is not None:
        found = [signals.load(signals_file)]
    else:
        found = [signals.load_shipped(name) for name in signals.shipped()]
    return {str(texts[0].attrs.get("model", "unnamed network")): texts for texts in found}


def _summary(material: Material, sections: Sequence[Section]) -> dict[str, Any]:
    facts = {
        "schema_version": SCHEMA_VERSION,
        "ctrlattn": __version__,
        "networks": {name: len(texts) for name, texts in material.networks.items()},
        "loops": {name: config.loop_to_dict(loop) for name, loop in material.loops.items()},
        **{section.key: section.numbers for section in sections},
    }
    return results.json_ready(facts)


def _save_figures(folder: Path, sections: Sequence[Section]) -> dict[str, str]:
    """PNG and SVG files; returns the markup to inline."""
    drawings = {}
    for section in sections:
        for picture in section.pictures:
            _, svg = plots.save(picture.figure, folder / picture.name)
            drawings[picture.name] = plots.inline_svg(svg, picture.name)
    return drawings


def _save_results(path: Path, sections: Sequence[Section], summary: Mapping[str, Any]) -> None:
    import xarray as xr

    variables = {name: variable for section in sections for name, variable in section.variables.items()}
    attrs = {"schema_version": SCHEMA_VERSION, "ctrlattn": __version__, "loops": json.dumps(summary["loops"])}
    results.save(path, xr.Dataset(variables, attrs=attrs))


def _save_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _page(
    material: Material, sections: Sequence[Section], drawings: Mapping[str, str], panes: Mapping[str, str]
) -> str:
    return render(
        sections,
        title="Attention as a feedback loop",
        lead=(
            f"What the attention of {material.network} does as a feedback system over depth, and what "
            f"{len(material.loops)} controllers would make of it. Layers are time steps; the residual add is the "
            "comparator."
        ),
        networks=[_describe(name, texts) for name, texts in material.networks.items()],
        compared=", ".join(material.loops),
        provenance={name: _provenance(texts[0]) for name, texts in material.networks.items()},
        configurations={name: config.dumps(loop) for name, loop in material.loops.items()},
        drawings=drawings,
        interactive=panes,
    )


def _describe(name: str, texts: Sequence[Any]) -> dict[str, Any]:
    sizes = texts[0].sizes
    tokens = [[str(t) for t in text["text"].to_numpy()] for text in texts if "text" in text.coords]
    summary = f"{sizes['layer']} layers, {sizes['head']} heads, {len(texts)} recorded texts"
    return {"name": name, "summary": summary, "texts": tokens}


def _provenance(text: Any) -> dict[str, str]:
    hidden = {"text", "causal", "schema_version", "model"}
    return {str(key): str(value) for key, value in text.attrs.items() if key not in hidden}
