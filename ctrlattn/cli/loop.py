"""The command `ctrlattn loop`: repeat a span of a checkpoint as a controlled loop; forecast and loss."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ctrlattn.cli.options import AllowDownload, Device, Formats, Gains, LawOfGains, Numbers, network_options, pid_of
from ctrlattn.cli.terminal import (
    MOST,
    AsJSON,
    described,
    load_with_content,
    long_text_of,
    one_line_errors,
    print_json,
    show_path,
    show_progress,
)
from ctrlattn.errors import InputError

EXAMPLES = (
    "Examples:  ctrlattn loop path/to/model --layers 10:14 --passes 4 --gain .25 --text news.txt   |   ctrlattn loop "
    "model.gguf --layers 2:4 --passes 8 --controller law.toml --recall 2.5 --scan --text news.txt"
)


def loop(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="transformers directory, .gguf file or hub id.")],
    layers: Annotated[str, typer.Option("--layers", metavar="A:B", help="The span a:b, layers a to b - 1.")],
    text: Annotated[str, typer.Option("--text", help="Text to judge by; a file, or the text itself.")],
    passes: Annotated[int, typer.Option(help="How often the span runs, at least once.")] = 4,
    gain: Annotated[float | None, typer.Option(help="Gain of a P controller over passes.")] = None,
    controller: Annotated[
        Path | None, typer.Option(help="TOML file whose [loop] has the controller over passes, in place of --gain.")
    ] = None,
    pid: Gains = None,
    form: LawOfGains = None,
    recall: Annotated[float, typer.Option(help="Pull back to the stream that entered the span, at least 0.")] = 0.0,
    scan: Annotated[bool, typer.Option("--scan", help="Forecast all spans of this length over depth.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to.")] = Path("looped"),
    tokens: Annotated[int, typer.Option(min=4, help="Largest number of tokens read of the text.")] = 2048,
    window: Annotated[int, typer.Option(min=2, help="Tokens that the network sees at once.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Seed of the search for eigenvalues.")] = 0,
    device: Device = None,
    dtype: Numbers = None,
    allow_download: AllowDownload = False,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Run a span of layers several times as a controlled loop, forecast whether it can rest, and measure the loss.

    It writes report.html, figures/, results.nc and summary.json. Before any loss is measured, stderr says which spans
    have no fixed point within reach. A run that was stopped goes on where it was.
    """
    with one_line_errors():
        from ctrlattn.files import claim
        from ctrlattn.tables import require_formats

        format_names = require_formats(formats or ())
        running = network_options(device, dtype)
        claim(out)
        span, law, words = _span(layers), _law(gain, controller, pid_of(pid, form)), long_text_of(text)
        description = described(source, allow_download)

        from ctrlattn.checkpoints.network.repeated_span import require_loop
        from ctrlattn.checkpoints.network.text import token_ids

        require_loop(span, passes, law, recall, description.layers)
        windows = _windows(token_ids(description, words, most=tokens), window)

        from ctrlattn import __version__, checkpoints
        from ctrlattn.identity import digest, work_folder
        from ctrlattn.report.pages.repeated import write_repeated

        checkpoint, content = load_with_content(description, attention="sdpa", **running)
        options: dict[str, Any] = {"layers": span, "passes": passes, "controller": law, "recall": recall}
        entry = checkpoints.repeat(checkpoint, **options).model.config.ctrlattn["loop"]
        mark = digest(content, entry, windows, scan, seed, __version__)
        folder = work_folder(out, mark, show_progress)
        study = checkpoints.loop_study(
            checkpoint, windows, **options, scan=scan, runs=folder / "runs", seed=seed, progress=show_progress
        )
        page = write_repeated(folder, study, formats=format_names)
        if as_json:
            print_json(page.summary)
        else:
            show_path(page.path)


def _span(layers: str) -> tuple[int, int]:
    first, colon, last = layers.partition(":")
    try:
        if colon:
            return int(first), int(last)
    except ValueError:
        pass
    raise InputError(f"--layers must be a:b with whole numbers, such as 10:14 for the layers 10 to 13, got {layers!r}")


def _law(gain: float | None, file: Path | None, pid: Any) -> Any:
    """Return the controller over passes, or None where no option gives one."""
    from ctrlattn.controllers import PID

    names = [name for name, value in (("--gain", gain), ("--controller", file), ("--pid", pid)) if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} say the law twice: give one of them")
    if file is None:
        return PID(gain) if gain is not None else pid
    from ctrlattn import config

    law = config.load(file).loop.controller
    if law is None:
        raise InputError(f"{file}: its [loop] has no controller")
    return law


def _windows(ids: list[int], window: int) -> list[list[int]]:
    """Return as many whole windows as the text has."""
    count = len(ids) // window
    if not count:
        raise InputError(f"the text has {len(ids)} tokens, fewer than one window of {window}: give more, or --window")
    return [ids[i * window : (i + 1) * window] for i in range(count)]
