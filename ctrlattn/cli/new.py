"""The command `ctrlattn new`: print a configuration whose every key is explained, to redirect into a file."""

from typing import Annotated

import typer

from ctrlattn.cli.options import PRESET, Gains, LawOfGains, pid_of, presets, require_no_path
from ctrlattn.cli.terminal import one_line_errors

EXAMPLES = (
    "Examples:  ctrlattn new > loop.toml   |   ctrlattn new neutreno --pid 0.4 0.1 0 --form ema > loop.toml   |   "
    "ctrlattn new --sweep > sweep.toml"
)


def new(
    preset: Annotated[
        str, typer.Argument(metavar="PRESET", help="Preset to begin with.", autocompletion=presets)
    ] = "pidformer-printed",
    pid: Gains = None,
    form: LawOfGains = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Print a sweep over this preset instead.")] = False,
) -> None:
    """Print a configuration, or a sweep, with every key explained."""
    with one_line_errors():
        require_no_path(preset, presets(""), PRESET)
        if sweep:
            from ctrlattn.errors import InputError
            from ctrlattn.sweep.explanation import explained_sweep

            if pid is not None or form is not None:
                raise InputError("--sweep varies the gains itself: leave out --pid and --form")
            typer.echo(explained_sweep(preset), nl=False)
            return
        from dataclasses import replace

        from ctrlattn.config import explained
        from ctrlattn.presets import get

        loop, law = get(preset), pid_of(pid, form)
        typer.echo(explained(loop if law is None else replace(loop, controller=law)), nl=False)
