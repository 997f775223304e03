"""The command `ctrlattn new`: print a configuration whose every key is explained, to redirect into a file."""

from typing import Annotated

import typer

from ctrlattn.cli.terminal import one_line_errors

EXAMPLES = "Examples:  ctrlattn new > loop.toml   |   ctrlattn new neutreno --pid 0.4 0.1 0 --form ema > loop.toml"


def new(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="Preset to begin with.")] = "pidformer-printed",
    pid: Annotated[
        tuple[float, float, float] | None,
        typer.Option("--pid", metavar="KP KI KD", help="Gains in place of the preset's."),
    ] = None,
    form: Annotated[str | None, typer.Option(metavar="printed|ema", help="Law of these gains.")] = None,
) -> None:
    """Print a configuration with every key explained."""
    with one_line_errors():
        from dataclasses import replace

        from ctrlattn import presets
        from ctrlattn.config import explained
        from ctrlattn.controllers import PID
        from ctrlattn.errors import InputError, require_known

        loop = presets.get(preset)
        if pid is None and form is not None:
            raise InputError("--form is the law of gains: give --pid KP KI KD with it")
        if pid is not None:
            law = "printed" if form is None else require_known("form", form, ("printed", "ema"))
            loop = replace(loop, controller=PID(*pid, form=law))  # type: ignore[arg-type]
        typer.echo(explained(loop), nl=False)
