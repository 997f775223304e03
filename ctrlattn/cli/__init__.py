"""The command line `ctrlattn`, one module per command. Only this room prints: results to stdout, progress to stderr.

Exit codes are 0 (success), 1 (a requested check fails), 2 (bad input, one line that says what and where), 70 (a bug of
ours) and 130 (interrupted). Nothing heavy is imported until a command runs, so that --help answers at once.
"""

import sys
from typing import Annotated

import typer

from ctrlattn import __version__
from ctrlattn.cli import analyze, compare, drop, listing, observe, report, simulate, train
from ctrlattn.cli.terminal import report_bug

app = typer.Typer(
    name="ctrlattn",
    help="The transformer as a feedback automaton over depth: simulate it, and see how stable it is.",
    epilog="Exit codes: 0 fine, 1 an asked-for check fails, 2 bad input, 70 a bug of ctrlattn, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a bug ends it with exit code 70, an interrupt with 130."""
    arguments = _debug_first(sys.argv[1:])
    try:
        app(args=arguments)
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing half-written is left under a final name", err=True)
        raise SystemExit(130) from None
    except Exception as error:
        report_bug(error, arguments)
        raise SystemExit(70) from None


def _debug_first(arguments: list[str]) -> list[str]:
    """The arguments with --debug in front: it is not an option of a command, but people write it at the end.

    >>> _debug_first(["report", "--debug"])
    ['--debug', 'report']
    """
    if "--debug" not in arguments:
        return arguments
    return ["--debug", *(argument for argument in arguments if argument != "--debug")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ctrlattn {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a bug.")] = False,
) -> None:
    pass  # `main` reads --debug from the arguments, since a bug may end a command before or after this


app.command(epilog=report.EXAMPLES)(report.report)
app.command(epilog=simulate.EXAMPLES)(simulate.simulate)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command(epilog=train.EXAMPLES)(train.train)
app.command(epilog=observe.EXAMPLES)(observe.observe)
app.command(epilog=analyze.EXAMPLES)(analyze.analyze)
app.command(epilog=drop.EXAMPLES)(drop.drop)
app.command("list")(listing.list_)

__all__ = ["app", "main"]
