"""The command `ctrlattn observe`: learn a sparse dictionary of one signal of a layer, and write its pages."""

from pathlib import Path
from typing import Annotated

import typer

from ctrlattn.cli.options import AllowDownload, Device, Formats, Numbers, network_options
from ctrlattn.cli.terminal import (
    MOST,
    AsJSON,
    described,
    file_of,
    load_checkpoint,
    one_line_errors,
    print_json,
    show_path,
    show_progress,
)
from ctrlattn.errors import InputError

EXAMPLES = (
    "Examples:  ctrlattn observe path/to/model --layer 12 --signal error --text novel.txt   |   "
    "ctrlattn observe path/to/model --layer 3 --text novel.txt --features 1024 --tokens 50000 --out here"
)


def observe(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="transformers directory, .gguf file or hub id.")],
    layer: Annotated[int, typer.Option(help="Index of the layer; the first is 0.")],
    text: Annotated[str, typer.Option("--text", help="UTF-8 file to learn from; a tenth of it is held out.")],
    signal: Annotated[str, typer.Option(help="Signal of the layer: state, prediction, error, mid or mlp.")] = "state",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Directory to write to; an interrupted training continues there.")
    ] = Path("observe"),
    features: Annotated[int, typer.Option(min=1, help="Number of directions in the dictionary.")] = 4096,
    k: Annotated[int, typer.Option(min=0, help="Features per example (TopK); 0: ReLU with --penalty.")] = 32,
    penalty: Annotated[float, typer.Option(help="Weight of the L1 norm, such as 2; ReLU only.")] = 0.0,
    tokens: Annotated[int, typer.Option(min=100, help="Approximate number of tokens to learn from.")] = 400_000,
    context: Annotated[int, typer.Option(min=8, help="Tokens per window.")] = 128,
    held_out: Annotated[int, typer.Option(min=1, help="Number of held-out windows to measure on.")] = 64,
    shown: Annotated[int, typer.Option(min=1, help="Number of features whose texts are shown.")] = 24,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Seed of the dictionary and of the order.")] = 0,
    device: Device = None,
    dtype: Numbers = None,
    allow_download: AllowDownload = False,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Learn a sparse dictionary of one signal of one layer, and show the texts on which its features are active.

    It writes report.html (explained variance beside principal components, recovered loss), features.html (texts per
    feature, with shaded tokens), dictionary.safetensors, figures/, results.nc and summary.json.
    """
    with one_line_errors():
        from ctrlattn.files import claim
        from ctrlattn.tables import require_formats

        format_names = require_formats(formats or ())
        running = network_options(device, dtype)
        if not k and not penalty:
            raise InputError("--k 0 is ReLU, which keeps every positive feature: it needs a --penalty")
        claim(out)
        file = file_of(text)
        if file is None:
            raise InputError(
                f"--text names a file, a dictionary needs many thousand tokens; got the text {text[:40]!r}"
            )
        if not file.is_file():
            raise InputError(f"{file}: no such file")
        description = described(source, allow_download)

        from ctrlattn.observers.examples import require_examples
        from ctrlattn.observers.settings import Settings

        Settings(features, k or None, penalty=penalty)
        require_examples(description, file, layer, (signal,), context)

        from ctrlattn.observers import study
        from ctrlattn.report.pages import observer as pages

        checkpoint = load_checkpoint(description, attention="sdpa", **running)
        result = study(
            checkpoint,
            file,
            layer,
            signal,
            out,
            features=features,
            k=k or None,
            penalty=penalty,
            tokens=tokens,
            seed=seed,
            context=context,
            held_out=held_out,
            shown=shown,
            progress=show_progress,
        )
        page = pages.write(result.folder, result, formats=format_names)
        if as_json:
            print_json(page.summary)
        else:
            show_path(page.path)
