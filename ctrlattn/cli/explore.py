"""The command `ctrlattn explore`: one offline page on which gains are turned and recorded modes move."""

from pathlib import Path
from typing import Annotated

import typer

from ctrlattn.cli.options import AllowDownload, Device, Numbers, RecordingOption, TextsToRead, ToRecord, network_options
from ctrlattn.cli.terminal import one_line_errors, recorded_texts, require_one_recording, show_path, show_progress

EXAMPLES = (
    "Examples:  ctrlattn explore   |   ctrlattn explore --signals mine.npz --out mine.html   |   "
    "ctrlattn explore --checkpoint path/to/model --text 'The cat sat on the mat.'"
)


def explore(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")] = Path(
        "explorer.html"
    ),
    signals: RecordingOption = None,
    checkpoint: ToRecord = None,
    text: TextsToRead = None,
    device: Device = None,
    dtype: Numbers = None,
    allow_download: AllowDownload = False,
) -> None:
    """Write a page on which sliders turn the law and every recorded mode of attention shows whether it is stable.

    It is one HTML file that a browser opens from the disk; it asks no network for anything.
    """
    with one_line_errors():
        from ctrlattn.files import claim

        claim(out, file=b"<!doctype html")
        options = network_options(device, dtype)
        require_one_recording(signals, checkpoint, text, options)
        recorded = None if checkpoint is None else recorded_texts(checkpoint, text or [], allow_download, **options)

        from ctrlattn.report import explore as write

        show_path(write(out, signals_file=signals, recorded=recorded, progress=show_progress))
