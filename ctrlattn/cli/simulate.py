"""The command `ctrlattn simulate`: run one loop on a seeded Gaussian signal, and print its state over depth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ctrlattn.cli import options
from ctrlattn.cli.options import Formats, Gains, LawOfGains
from ctrlattn.cli.terminal import MOST, AsJSON, given, one_line_errors, print_json, show_path
from ctrlattn.errors import InputError

EXAMPLES = (
    "Examples:  ctrlattn simulate prediction-error --layers 15   |   ctrlattn simulate loop.toml --out run.nc   |   "
    "ctrlattn simulate neutreno --pid 0.6 0.1 0"
)


def simulate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PRESET|FILE.toml", help="Name of a preset, or a configuration.", autocompletion=options.presets
        ),
    ],
    pid: Gains = None,
    form: LawOfGains = None,
    layers: Annotated[int | None, typer.Option(min=0, max=MOST, help="Layers (time steps).")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of the seeded Gaussian signal.")] = None,
    features: Annotated[int | None, typer.Option(min=1, help="Features of the signal.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MOST, help="Seed of the signal.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.nc", help="netCDF file for the trajectory.")
    ] = None,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Simulate one loop on a seeded Gaussian signal and show how its state develops over depth."""
    with one_line_errors():
        import numpy as np

        from ctrlattn import results, tables
        from ctrlattn.files import claim
        from ctrlattn.loop import simulate as run
        from ctrlattn.netcdf import SIGNATURE

        loop, plan = _loop_of(source, options.pid_of(pid, form))
        layers, tokens = given(layers, plan.layers), given(tokens, plan.tokens)
        features, seed = given(features, plan.features), given(seed, plan.seed)
        if tables.require_formats(formats or ()) and out is None:
            raise InputError("--format writes beside the netCDF file: give --out as well")
        _require_room(loop, layers, tokens, features)
        if out is not None:
            claim(out, file=SIGNATURE)
        x = np.random.default_rng(seed).standard_normal((tokens, features))
        with np.errstate(over="ignore", invalid="ignore"):  # an unstable loop may overflow
            trajectory = run(loop, x, layers)
            rms = np.sqrt(np.mean(trajectory.state**2, axis=(-2, -1)))
            error = np.sqrt(np.mean((loop.tracking.error(trajectory.state, x)) ** 2, axis=(-2, -1)))
        cosine = [_mean_cosine(state) for state in trajectory.state]
        if out is not None:
            labelled = results.to_xarray(trajectory, loop=loop, seed=seed)
            results.save(out, labelled)
            tables.export(out, labelled, formats or ())
        if as_json:
            facts = {"source": source, "layers": layers, "tokens": tokens, "features": features, "seed": seed}
            print_json({**facts, "rms": rms, "rms_error": error, "mean_cosine": cosine, "out": out and str(out)})
            return
        typer.echo("layer   RMS state   RMS error   mean cosine")
        for k, row in enumerate(zip(rms, error, cosine, strict=True)):
            typer.echo(f"{k:5d}   {row[0]:9.4g}   {row[1]:9.4g}   {row[2]:11.4f}")
        if out is not None:
            show_path(out)


def _require_room(loop: Any, layers: int, tokens: int, features: int) -> None:
    """Raise InputError where the trajectory, state and three signals of each layer, does not fit into memory."""
    from ctrlattn.capacity import require_memory

    recorded = 8 * tokens * features * (4 * layers + 1)
    pairs = 8 * tokens**2 if loop.order == "parallel" and hasattr(loop.predictor, "weights") else 0
    require_memory(recorded + pairs, f"--layers {layers} --tokens {tokens} --features {features}")


def _loop_of(source: str, law: Any) -> tuple[Any, Any]:
    from dataclasses import replace

    from ctrlattn import config, presets

    if source.endswith(".toml"):
        configuration = config.load(source)
        loop, plan = configuration.loop, configuration.simulation
    else:
        options.require_no_path(source, presets.names(), options.PRESET_OR_FILE)
        loop, plan = presets.get(source), config.Simulation()
    return (loop if law is None else replace(loop, controller=law)), plan


def _mean_cosine(state: Any) -> float:
    import numpy as np

    from ctrlattn.frequency import mean_cosine

    with np.errstate(over="ignore", invalid="ignore"):
        return float(mean_cosine(state))
