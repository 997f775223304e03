"""The command `ctrlattn report`: write the page on loops that the attention of a real network drives."""

from pathlib import Path
from typing import Annotated

import typer

from ctrlattn.cli import options
from ctrlattn.cli.options import (
    AllowDownload,
    Device,
    Formats,
    Gains,
    LawOfGains,
    Numbers,
    RecordingOption,
    TextsToRead,
    ToRecord,
)
from ctrlattn.cli.terminal import (
    AsJSON,
    one_line_errors,
    print_json,
    recorded_texts,
    require_one_recording,
    show_path,
    show_progress,
)

EXAMPLES = (
    "Examples:  ctrlattn report   |   ctrlattn report --out here -p neutreno -p pidformer-printed   |   "
    "ctrlattn report --checkpoint path/to/model --text 'The cat sat on the mat.'"
)


def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to; made if absent.")] = Path("report"),
    preset: Annotated[
        list[str] | None,
        typer.Option(
            "--preset", "-p", help="Loop to compare, by name (repeatable); see `list`.", autocompletion=options.presets
        ),
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option("--config", "-c", help="Loop to compare, from a TOML file (repeatable).")
    ] = None,
    pid: Gains = None,
    form: LawOfGains = None,
    signals: RecordingOption = None,
    checkpoint: ToRecord = None,
    text: TextsToRead = None,
    device: Device = None,
    dtype: Numbers = None,
    allow_download: AllowDownload = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Add plotly panes (the page grows by about 5 MB).")
    ] = False,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Write a page that shows attention as a feedback loop, on signals of a real network.

    Without arguments it needs no network access: the signals ship inside the package. It writes report.html (one
    self-contained file), figures/ (PNG and SVG), results.nc and summary.json.
    """
    with one_line_errors():
        from dataclasses import replace

        from ctrlattn import config as configurations
        from ctrlattn import presets
        from ctrlattn.errors import require_installed
        from ctrlattn.files import claim
        from ctrlattn.tables import require_formats

        law = options.pid_of(pid, form)
        require_formats(formats or ())
        claim(out)
        if interactive:
            require_installed("--interactive", "plotly")
        for name in preset or ():
            options.require_no_path(name, presets.names(), f"{options.PRESET}; a configuration goes to --config")
            presets.describe(name)
        for path in config or ():
            configurations.load(path)
        running = options.network_options(device, dtype)
        require_one_recording(signals, checkpoint, text, running)
        recorded = None if checkpoint is None else recorded_texts(checkpoint, text or [], allow_download, **running)

        from ctrlattn.report import write

        page = write(
            out,
            presets=preset,
            configurations=config,
            loops={} if law is None else {repr(law): replace(presets.get("pidformer-printed"), controller=law)},
            signals_file=signals,
            recorded=recorded,
            interactive=interactive,
            formats=formats or (),
            progress=show_progress,
        )
        if as_json:
            print_json(page.summary)
        else:
            show_path(page.path)
