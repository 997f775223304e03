"""The command `ctrlattn analyze`: measure the layers of a checkpoint as a feedback system, and write the page."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ctrlattn.cli.options import AllowDownload, Device, Formats, Numbers, network_options
from ctrlattn.cli.terminal import (
    MOST,
    AsJSON,
    described,
    load_with_content,
    long_text_of,
    one_line_errors,
    print_json,
    say,
    show_path,
    show_progress,
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
    on_disk: Annotated[
        bool, typer.Option("--on-disk", help="Keep the weights of one layer at a time in memory.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Seed of the random directions.")] = 0,
    device: Device = None,
    dtype: Numbers = None,
    allow_download: AllowDownload = False,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Measure sign and gain of the feedback of every sublayer and head, spectra, sinks, gains and growth over depth.

    It writes report.html (one self-contained file), figures/, results.nc, summary.json, and parts/ (one file per part,
    so that an interrupted run continues).

    With --on-disk the weights stay in their file (safetensors or GGUF) and are read once for every pass, with the same
    numbers. Parts feedback to sinks take one pass together, the others more than a hundred.
    """
    with one_line_errors():
        from ctrlattn.files import claim
        from ctrlattn.tables import require_formats

        require_formats(formats or ())
        running = network_options(device, dtype)
        if on_disk and running:
            raise InputError(f"--on-disk computes in float32 on the cpu: leave out --{next(iter(running))}")
        claim(out)
        words = long_text_of(text)
        description = described(source, allow_download)

        from ctrlattn.checkpoints.measure.part_names import require_parts
        from ctrlattn.checkpoints.network.text import token_ids

        require_parts(parts)
        description.require_text()
        ids = token_ids(description, words, most=tokens)
        if len(ids) < 2:
            raise InputError("a text of one token has nothing to compare: give --text and --tokens of two at least")
        description.require_positions(len(ids))

        from ctrlattn import checkpoints
        from ctrlattn.checkpoints.measure.profile import profile_identity
        from ctrlattn.identity import work_folder
        from ctrlattn.report.pages.checkpoint.page import write_analysis

        checkpoint, content = _open(description, on_disk, running)
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
        page = write_analysis(folder, profile, formats=formats or ())
        if as_json:
            print_json(page.summary)
        else:
            show_path(page.path)


def _open(description: Any, on_disk: bool, running: dict[str, str]) -> tuple[Any, str]:
    """Open the network in memory or on disk, and return it with the digest of its files."""
    from ctrlattn.capacity import require_memory
    from ctrlattn.checkpoints.network.content import on_disk_with_content

    if on_disk:
        _ = description.loaded_tokenizer  # what is wrong with the configuration is told before the line
        say(f"reading {description.source} layer by layer")
        return on_disk_with_content(description)
    dtype = running.get("dtype", "float32")
    size = description.numbers * (8 if dtype == "float64" else 4)
    require_memory(size, f"{description.source} in {dtype}; --on-disk keeps one layer in memory")
    return load_with_content(description, **running)
