"""`ctrlattn`: report, simulate, compare, train, list. The only room that prints: results on stdout, progress on stderr.

Exit codes: 0 fine, 1 an asked-for check fails, 2 bad input (one line that says what and where), 130 interrupted.
Nothing heavy is imported until a command runs, so that --help answers at once.
"""

import json
import sys
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Any

import typer

from ctrlattn import __version__

app = typer.Typer(
    name="ctrlattn",
    help="The transformer as a feedback automaton over depth: simulate it, and see how stable it is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJSON = Annotated[bool, typer.Option("--json", help="Machine-readable results on stdout.")]


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 2, an interrupt in 130."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing half-written is left under a final name", err=True)
        raise SystemExit(130) from None


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ctrlattn {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:  ctrlattn report   |   ctrlattn report --out here -p neutreno -p pidformer-printed   |   "
    "ctrlattn report --checkpoint path/to/model --text 'The cat sat on the mat.'"
)
def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to; made if absent.")] = Path("report"),
    preset: Annotated[
        list[str] | None, typer.Option("--preset", "-p", help="Loop to compare, by name (repeatable); see `list`.")
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option("--config", "-c", help="Loop to compare, from a TOML file (repeatable).")
    ] = None,
    signals: Annotated[
        Path | None, typer.Option("--signals", help="Recorded signals (.npz); default: those that ship inside.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="transformers directory, .gguf file or hub id to record instead.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="Text for --checkpoint; @FILE reads a file (repeatable).")
    ] = None,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Let a hub id of --checkpoint be fetched.")
    ] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Add plotly panes (the page grows by about 5 MB).")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Write a page that tells what attention does as a feedback loop, on signals of a real network.

    Without arguments it needs no network access: the signals ship inside the package. It writes report.html (one
    self-contained file), figures/ (PNG and SVG), results.nc and summary.json.
    """
    with _one_line_errors():
        from ctrlattn.files import output_directory
        from ctrlattn.presets import describe

        output_directory(out)
        for name in preset or ():
            describe(name)
        if signals is not None and checkpoint is not None:
            raise ValueError("give either --signals or --checkpoint, not both")
        if text and checkpoint is None:
            raise ValueError("--text goes with --checkpoint")
        recorded = None if checkpoint is None else _record(checkpoint, text or [], allow_download)

        from ctrlattn.report import write

        written = write(
            out,
            presets=preset,
            configurations=config,
            signals_file=signals,
            recorded=recorded,
            interactive=interactive,
            progress=_show_progress,
        )
        if as_json:
            _print_json(written.summary)
        else:
            typer.echo(written.path)


@app.command(
    epilog="Examples:  ctrlattn simulate prediction-error --layers 15   |   ctrlattn simulate loop.toml --out run.nc"
)
def simulate(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE.toml", help="Name of a preset, or a configuration.")],
    layers: Annotated[int | None, typer.Option(min=0, help="Layers (time steps).")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of the seeded Gaussian signal.")] = None,
    features: Annotated[int | None, typer.Option(min=1, help="Features of the signal.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the signal.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="netCDF file for the trajectory.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Simulate one loop on a seeded Gaussian signal and show how its state develops over depth."""
    with _one_line_errors():
        import numpy as np

        from ctrlattn import results
        from ctrlattn.loop import simulate as run

        loop, plan = _loop_of(source)
        layers, tokens = _given(layers, plan.layers), _given(tokens, plan.tokens)
        features, seed = _given(features, plan.features), _given(seed, plan.seed)
        if out is not None and not out.parent.is_dir():
            raise ValueError(f"{out}: the directory {out.parent} does not exist")
        x = np.random.default_rng(seed).standard_normal((tokens, features))
        with np.errstate(over="ignore", invalid="ignore"):  # an unstable loop may leave the range of floats
            trajectory = run(loop, x, layers)
            rms = np.sqrt(np.mean(trajectory.state**2, axis=(-2, -1)))
            error = np.sqrt(np.mean((loop.reference_gain * x - trajectory.state) ** 2, axis=(-2, -1)))
        cosine = [_mean_cosine(state) for state in trajectory.state]
        if out is not None:
            results.save(out, results.to_xarray(trajectory, loop=loop, seed=seed))
        if as_json:
            facts = {"source": source, "layers": layers, "tokens": tokens, "features": features, "seed": seed}
            _print_json({**facts, "rms": rms, "rms_error": error, "mean_cosine": cosine, "out": out and str(out)})
            return
        typer.echo("layer   RMS state   RMS error   mean cosine")
        for k, row in enumerate(zip(rms, error, cosine, strict=True)):
            typer.echo(f"{k:5d}   {row[0]:9.4g}   {row[1]:9.4g}   {row[2]:11.4f}")
        if out is not None:
            typer.echo(out)


@app.command(epilog="Example:  ctrlattn compare a.nc b.nc --tolerance 1e-9")
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.nc", help="A result of `simulate` or `report`.")],
    b: Annotated[Path, typer.Argument(metavar="B.nc", help="The result to hold against it.")],
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Exit with 1 if a variable differs by more, relative to its largest value."),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Hold two results side by side: largest differences, where they part, what only one of them has."""
    with _one_line_errors():
        from ctrlattn import results

        found = results.compare(results.load(a), results.load(b))
        if as_json:
            _print_json(found.to_dict())
        else:
            _print_comparison(found)
    if tolerance is not None and found.largest > tolerance:
        typer.echo(f"differ by {found.largest:.3g}, more than {tolerance:.3g}", err=True)
        raise typer.Exit(1)


@app.command(
    epilog="Examples:  ctrlattn train digits   |   ctrlattn train digits --configs softmax --configs pidformer-ema "
    "--seeds 10   |   ctrlattn train digits --plan simulations/configs/train_digits.toml --out here"
)
def train(
    data: Annotated[str, typer.Argument(metavar="digits|mnist5k|text", help="What to train on.")],
    configs: Annotated[
        list[str] | None,
        typer.Option(
            "--configs", help="Arm, by name of a preset or a TOML file (repeatable); the first is the reference."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds, from --first on.")] = None,
    first: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to; a rerun goes on there.")] = Path(
        "train"
    ),
    plan: Annotated[
        Path | None, typer.Option("--plan", help="TOML file with arms, seeds, settings and the tests fixed beforehand.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Layers.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Features of a token.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    norm: Annotated[str | None, typer.Option(help="layer, rms or none.")] = None,
    depth_scaled: Annotated[
        bool | None, typer.Option("--depth-scaled", help="Initial output weights times 1/sqrt(2 depth).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes with one thread each.")] = 2,
    as_json: AsJSON = False,
) -> None:
    """Train several attention laws on the same footing, attack them, and compare them seed by seed.

    It writes runs/ (one file a run: a killed comparison goes on), weights/ (safetensors), comparison.json, table.md and
    comparison.png. By default: softmax twice, NeuTRENO, both PIDformer laws and the comparator, five seeds.
    """
    with _one_line_errors():
        from ctrlattn.files import output_directory

        output_directory(out)
        changes = {
            "epochs": epochs,
            "depth": depth,
            "dim": width,
            "rate": rate,
            "norm": norm,
            "depth_scaled": depth_scaled,
        }
        settings = {name: value for name, value in changes.items() if value is not None}
        if plan is not None and (configs or seeds or first or settings):
            raise ValueError("--plan says what is compared, and when it was fixed: give no other option beside it")

        from ctrlattn.nn import comparison, table
        from ctrlattn.plots import save
        from ctrlattn.plots.training import compared

        if plan is not None:
            chosen = comparison.read_plan(plan, data)
        else:
            arms = tuple(configs or comparison.ARMS)
            numbers = tuple(range(first, first + (5 if seeds is None else seeds)))
            chosen = comparison.plan_of(data, arms=arms, seeds=numbers, against=arms[0], settings=settings)
        result = comparison.compare(chosen, out, _show_progress, workers=workers)
        table.write(out / "table.md", result)
        save(compared(result, table.shown(result)), out / "comparison")
        if as_json:
            _print_json(result)
        else:
            typer.echo("\n".join(table.lines(result)))
            typer.echo(out / "comparison.json")


@app.command("list")
def list_(as_json: AsJSON = False) -> None:
    """Show the presets with their sources, and what configurations are made of."""
    from ctrlattn import config, presets
    from ctrlattn import signals as recordings

    described = {name: presets.describe(name) for name in presets.names()}
    if as_json:
        _print_json(
            {
                "presets": {
                    name: {"summary": p.summary, "source": p.source, "loop": config.loop_to_dict(p.loop)}
                    for name, p in described.items()
                },
                "kinds": config.kinds(),
                "shipped_signals": recordings.shipped(),
            }
        )
        return
    typer.echo("Presets")
    for name, p in described.items():
        typer.echo(f"  {name}\n      {p.summary}\n      {p.source}")
    for part, kinds in config.kinds().items():
        typer.echo(f"{part.capitalize()} of a configuration: {', '.join(kinds)}")
    typer.echo(f"Shipped signals: {', '.join(recordings.shipped())}")


class _one_line_errors:
    """What a user can mend becomes one line on stderr and exit code 2; anything else is a bug and keeps its trace."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError | TypeError | OSError):
            typer.echo(f"ctrlattn: {error}", err=True)
            raise typer.Exit(2) from error


def _loop_of(source: str) -> tuple[Any, Any]:
    from ctrlattn import config, presets

    if source.endswith(".toml"):
        found = config.load(source)
        return found.loop, found.simulation
    return presets.get(source), config.Simulation()


def _record(source: str, texts: list[str], allow_download: bool) -> list[Any]:
    try:
        from ctrlattn import checkpoints
    except ImportError as error:
        raise ValueError('--checkpoint needs transformers: pip install "ctrlattn[hf]"') from error
    if not texts:
        raise ValueError("--checkpoint needs at least one --text")
    words = [_text(text) for text in texts]
    typer.echo(f"ctrlattn: loading {source}", err=True)
    checkpoint = checkpoints.load(source, allow_download=allow_download)
    return [checkpoints.tap(checkpoint, text) for text in words]


def _text(argument: str) -> str:
    """The text itself, or the content of the file after an @."""
    text = Path(argument[1:]).read_text(encoding="utf-8") if argument.startswith("@") else argument
    if not text.strip():
        raise ValueError(f"--text {argument!r} is empty")
    return text.strip()


def _given(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _mean_cosine(state: Any) -> float:
    import numpy as np

    from ctrlattn.frequency import mean_cosine

    with np.errstate(over="ignore", invalid="ignore"):
        return float(mean_cosine(state))


def _print_comparison(found: Any) -> None:
    for name, d in found.differences.items():
        where = "" if d.first is None else f", from layer {d.first} on"
        verdict = "equal" if d.absolute == 0 else f"differs by {d.absolute:.3g} ({d.relative:.3g} relative){where}"
        typer.echo(f"{name}: {d.note or verdict}")
    for side, names in (("first", found.only_a), ("second", found.only_b)):
        if names:
            typer.echo(f"only in the {side}: {', '.join(names)}")
    for key, (one, other) in found.attributes.items():
        changes = list(unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=0))[2:]
        typer.echo(f"attribute {key}: " + "; ".join(line for line in changes if line[:2] != "@@" and line[1:]))


def _print_json(facts: Any) -> None:
    from ctrlattn.results import json_ready

    typer.echo(json.dumps(json_ready(facts), indent=2, ensure_ascii=False, allow_nan=False))


def _show_progress(step: str, done: int, total: int) -> None:
    """A bar on stderr: redrawn in place on a terminal, one line a step elsewhere."""
    bar = "█" * round(20 * done / total)
    line = f"ctrlattn [{bar:<20}] {done}/{total} {step}"
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[2K{line}", err=True, nl=done == total)
    else:
        typer.echo(line, err=True)


__all__ = ["app", "main"]
