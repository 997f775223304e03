"""loops + recorded signals -> the page of `ctrlattn report`: its heading, facts and order of sections."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctrlattn import config, tables
from ctrlattn.errors import require_flag
from ctrlattn.files import require_output
from ctrlattn.loop import Loop
from ctrlattn.progress import Progress, silent
from ctrlattn.report import folder
from ctrlattn.report.folder import Report
from ctrlattn.report.page import Heading, Page
from ctrlattn.report.pages.loops import (
    automaton,
    comparison,
    design,
    explore,
    exponents,
    feedback,
    frequency,
    front,
    spectra,
    time_response,
    tokens,
    transients,
)
from ctrlattn.report.pages.loops import configurations as configurations_of_papers
from ctrlattn.report.pages.loops import interactive as plotly_panes
from ctrlattn.report.pages.loops.material import RECORDED, Material, named_loops, require_in_range
from ctrlattn.report.recordings import recorded_networks
from ctrlattn.report.words import count, listed


def write(
    out: str | Path,
    *,
    presets: Sequence[str] | None = None,
    configurations: Sequence[str | Path] | None = None,
    loops: Mapping[str, Loop] | None = None,
    signals_file: str | Path | None = None,
    recorded: Sequence[Any] | None = None,
    interactive: bool = False,
    formats: Sequence[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Write the report of loops driven by the signals of a real network.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    presets : names, optional
        Loops to compare. Without presets and configurations: softmax, NeuTRENO and both PIDformer laws.
    configurations : paths of TOML files, optional
        Further loops, which are named after their files.
    loops : name -> Loop, optional
        Further loops.
    signals_file : path, optional
        Recorded signals (see ctrlattn.signals), by default those that ship with the package.
    recorded : Datasets of checkpoints.tap, optional
        Signals of a checkpoint, one Dataset per text; excludes `signals_file`.
    interactive : bool
        Whether to add plotly panes. The page grows by about 5 MB and stays self-contained.
    formats : names, optional
        Formats of `tables.export` in which results.nc is written as well.
    progress : callable, optional
        It is called with the name of a step, the number of finished steps and their total.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        A preset or a format is unknown, a configuration or the signals are faulty, or the output directory cannot be
        written.

    Examples
    --------
    >>> import ctrlattn.report, tempfile
    >>> ctrlattn.report.write(tempfile.mkdtemp(), presets=["no-such-loop"])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown preset 'no-such-loop': ...
    """
    interactive = require_flag("interactive", interactive)
    require_output(out)
    tables.require_formats(formats)
    configured = {Path(path).stem: config.load(path).loop for path in configurations or ()}
    material = Material(
        named_loops(presets, {**configured, **(loops or {})}), recorded_networks(signals_file, recorded)
    )
    require_in_range(material)
    tell = progress or silent
    if material.start_words != RECORDED:
        tell(f"{material.network}: the simulated loops start at {material.start_words}", 0, len(PAGE.sections) + 1)
    panes = plotly_panes.panes if interactive else None
    return folder.write(out, PAGE, material, progress=tell, panes=panes, formats=formats)


def _facts(material: Material) -> dict[str, Any]:
    return {
        "loops_start_at": material.start_words,
        "networks": {name: len(texts) for name, texts in material.networks.items()},
        "loops": {name: config.loop_to_dict(loop) for name, loop in material.loops.items()},
    }


def _heading(material: Material) -> Heading:
    return Heading(
        title="Attention as a feedback loop",
        lead=(
            f"What the attention of {listed(list(material.networks))} does as a feedback system over depth, and what "
            f"{count(len(material.loops), 'law')} would make of it. Layers are time steps."
        ),
        networks=[_describe(name, texts) for name, texts in material.networks.items()],
        compared=", ".join(material.loops),
        provenance={name: _provenance(texts[0]) for name, texts in material.networks.items()},
        listings={name: config.dumps(loop) for name, loop in material.loops.items()},
        listings_title="The loops compared, as TOML (ctrlattn report --config)",
    )


def _describe(name: str, texts: Sequence[Any]) -> dict[str, Any]:
    sizes = texts[0].sizes
    tokens = [[str(t) for t in text["text"].to_numpy()] for text in texts if "text" in text.coords]
    summary = f"{sizes['layer']} layers, {sizes['head']} heads, {len(texts)} recorded texts"
    without = sum("state" not in text for text in texts)
    if without:
        summary += f", {without} of them attention alone, without states"
    return {"name": name, "summary": summary, "texts": tokens}


def _provenance(text: Any) -> dict[str, str]:
    hidden = {"text", "causal", "schema_version", "model"}
    return {str(key): str(value) for key, value in text.attrs.items() if key not in hidden}


PAGE = Page(
    heading=_heading,
    facts=_facts,
    front=front.front,
    sections={
        "automaton": automaton.sections,
        "feedback": feedback.sections,
        "spectra": spectra.sections,
        "transients": transients.sections,
        "exponents": exponents.sections,
        "time": time_response.sections,
        "frequency": frequency.sections,
        "tokens": tokens.sections,
        "comparison": comparison.sections,
        "configurations": configurations_of_papers.sections,
        "design": design.sections,
        "explore": explore.sections,
    },
)
