"""The command `ctrlattn analyze`: measure the layers of a checkpoint as a feedback system, and write the page."""

from pathlib import Path
from typing import Annotated

import typer

from ctrlattn.cli.options import AllowDownload, Formats
from ctrlattn.cli.terminal import (
    MOST,
    AsJSON,
    described,
    load_with_content,
    one_line_errors,
    print_json,
    show_path,
    show_progress,
    text_of,
)
from ctrlattn.errors import InputError

EXAMPLES = (
    "Examples:  ctrlattn analyze path/to/model --text news.txt   |   ctrlattn analyze model.gguf --text 'A cat sat.' "
    "--parts feedback --parts heads"
)


def analyze(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="transformers directory, .gguf file or hub id.")],
    text: Annotated[str, typer.Option("--text", help="Text that the network reads; a file, or the text itself.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to; a rerun continues there.")] = Path(
        "analysis"
    ),
    tokens: Annotated[int, typer.Option(min=1, help="Largest number of tokens that are read.")] = 256,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--parts",
            help="Part to measure (repeatable): feedback, heads, value_output, attention, diversity, sinks, gain, "
            "nonnormality, exponents; default: everything.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Seed of the random directions.")] = 0,
    allow_download: AllowDownload = False,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Measure sign and gain of the feedback of every sublayer and head, spectra, sinks, gains and growth over depth.

    It writes report.html (one self-contained file), figures/, results.nc, summary.json, and parts/ (one file per part,
    so that an interrupted run continues).
    """
    with one_line_errors():
        from ctrlattn.files import claim
        from ctrlattn.tables import require_formats

        require_formats(formats or ())
        claim(out)
        words = text_of(text)
        description = described(source, allow_download)

        from ctrlattn import checkpoints
        from ctrlattn.checkpoints.measure.profile import profile_identity, wanted_parts
        from ctrlattn.checkpoints.network.text import token_ids
        from ctrlattn.identity import work_folder
        from ctrlattn.report.pages.checkpoint.page import write_analysis

        wanted_parts(parts)
        description.require_text()
        ids = token_ids(description, words, most=tokens)
        if len(ids) < 2:
            raise InputError("a text of one token has nothing to compare: give --text and --tokens of two at least")
        description.require_positions(len(ids))
        checkpoint, content = load_with_content(description)
        identity = profile_identity(checkpoint, ids, seed=seed, content=content)
        folder = work_folder(out, identity, show_progress)
        profile = checkpoints.feedback_profile(
            checkpoint,
            ids,
            parts=parts,
            store=folder / "parts",
            seed=seed,
            identity=identity,
            progress=show_progress,
        )
        written = write_analysis(folder, profile, formats=formats or ())
        if as_json:
            print_json(written.summary)
        else:
            show_path(written.path)
