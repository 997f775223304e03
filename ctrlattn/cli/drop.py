"""The command `ctrlattn drop`: drop sublayers of a checkpoint, fit gains in their place, and judge the result."""

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
    "Examples:  ctrlattn drop path/to/model --attention 8 --text news.txt   |   ctrlattn drop model.gguf --blocks 2 "
    "--bare --by importance --text news.txt   |   ctrlattn drop path/to/model --layers 5 --layers 7 --text news.txt"
)


def drop(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="transformers directory, .gguf file or hub id.")],
    text: Annotated[str, typer.Option("--text", help="Calibration text; a file, or the text itself.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to; model/ in it must be new.")] = Path(
        "dropped"
    ),
    attention: Annotated[int, typer.Option(min=0, help="Number of attention layers to drop.")] = 0,
    mixer: Annotated[
        int, typer.Option(min=0, help="Number of mixers (state-space, linear attention, convolution) to drop.")
    ] = 0,
    mlp: Annotated[int, typer.Option(min=0, help="Number of MLPs to drop.")] = 0,
    blocks: Annotated[int, typer.Option(min=0, help="Number of whole layers to drop.")] = 0,
    layers: Annotated[
        list[int] | None, typer.Option("--layers", help="Attention layer to drop (repeatable), in place of a number.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="loss (least predicted loss with gains in place; one kind alone, no blocks), importance (least on "
            "average, as published) or worst (least at any token); default: loss where it applies.",
        ),
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Fit no gains: put nothing in their place.")] = False,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of the gains; default: full.")] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Gains of attention layers remember the text in a state of constant size.")
    ] = False,
    held_out: Annotated[
        str | None, typer.Option("--held-out", help="Text to judge by; default: the last fifth of --text.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=10, help="Largest number of tokens read of each text.")] = 16384,
    window: Annotated[int, typer.Option(min=2, help="Tokens that the network sees at once.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Seed of the tokens drawn for the curvature.")] = 0,
    device: Device = None,
    dtype: Numbers = None,
    allow_download: AllowDownload = False,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Take sublayers out of a checkpoint, fit static gains in their place, and judge the result on held-out text.

    It writes model/ (safetensors, and a README.md that says how to load it), which is loaded once and compared, and the
    page: report.html, figures/, results.nc and summary.json.
    """
    with one_line_errors():
        from ctrlattn.files import claim
        from ctrlattn.tables import require_formats

        format_names = require_formats(formats or ())
        running = network_options(device, dtype)
        claim(out)
        words, judging = long_text_of(text), None if held_out is None else long_text_of(held_out)
        count_by_kind = {"attention": attention, "mixer": mixer, "mlp": mlp, "blocks": blocks}
        choice: dict[str, Any] = {"count": count_by_kind}
        if layers:
            if any(count_by_kind.values()):
                raise InputError(
                    "--layers names the layers to drop: leave out --attention, --mixer, --mlp and --blocks"
                )
            choice = {"layers": {"attention": tuple(layers)}}
        applies = sum(map(bool, count_by_kind.values())) == 1 and not blocks and not bare
        rule = by or ("loss" if applies else "importance")
        description = described(source, allow_download)

        from ctrlattn.checkpoints.network.text import frame_of, text_ids
        from ctrlattn.checkpoints.reduce import request

        reduction_request = request.Request(**choice, by=rule, compensate=not bare, memory=memory)
        request.require_possible(reduction_request, description)
        frame = frame_of(description)
        texts = [None if t is None else text_ids(description, t, tokens) for t in (words, judging)]
        request.require_texts([None if ids is None else len(ids) for ids in texts], frame.room(window))

        from ctrlattn import __version__, checkpoints
        from ctrlattn.checkpoints.network.reloaded import reloaded
        from ctrlattn.checkpoints.network.save import discard_unfinished
        from ctrlattn.identity import digest, work_folder
        from ctrlattn.report.pages.reduction import write_drop

        checkpoint, content = load_with_content(description, attention="sdpa", **running)
        split = checkpoints.split_text(checkpoint, texts[0], window=window, judge=texts[1])
        method = {"by": by, "bare": bare, "rank": rank, "memory": memory, "window": window, "seed": seed}
        mark = digest(content, texts, choice, method, __version__)
        folder = work_folder(out, mark, show_progress)
        discard_unfinished(folder / "model")
        reduction = checkpoints.reduce(
            checkpoint,
            split,
            **choice,
            by=rule,
            compensate=not bare,
            rank=rank,
            memory=memory,
            seed=seed,
            progress=show_progress,
        )
        if not (folder / "model" / "config.json").exists():
            checkpoints.save(reduction.after, folder / "model")
        saved = reloaded(reduction.after, folder / "model", split.judge[0], before=checkpoint)
        say(
            f"the network was loaded again from {folder / 'model'}: the largest difference of a logit is "
            f"{saved.difference:.3g}, {saved.tolerance:.3g} is accepted"
        )
        show_progress("speed", 0, 1)
        networks = {"intact": reduction.before, "reduced": reduction.after}
        costs = checkpoints.cost(networks, split.judge[:1])
        show_progress("speed", 1, 1)
        show_progress("perplexity", 0, 1)
        half = {"window": window, "stride": frame.room(window) // 2}
        judged = frame.body(split.judge).flatten()  # consecutive windows form one text again
        sliding = {name: checkpoints.perplexity(network, judged, **half) for name, network in networks.items()}
        show_progress("perplexity", 1, 1)
        page = write_drop(folder, reduction, costs, sliding, saved, formats=format_names)
        if as_json:
            print_json(page.summary)
        else:
            show_path(folder / "model")
            show_path(page.path)
