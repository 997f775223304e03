"""`ctrlattn`: one module a command. The only room that prints: results on stdout, progress on stderr.

Exit codes: 0 fine, 1 an asked-for check fails, 2 bad input (one line that says what and where), 130 interrupted.
Nothing heavy is imported until a command runs, so that --help answers at once.
"""

from typing import Annotated

import typer

from ctrlattn import __version__
from ctrlattn.cli import analyze, compare, drop, listing, observe, report, simulate, train

app = typer.Typer(
    name="ctrlattn",
    help="The transformer as a feedback automaton over depth: simulate it, and see how stable it is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


app.command(epilog=report.EXAMPLES)(report.report)
app.command(epilog=simulate.EXAMPLES)(simulate.simulate)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command(epilog=train.EXAMPLES)(train.train)
app.command(epilog=observe.EXAMPLES)(observe.observe)
app.command(epilog=analyze.EXAMPLES)(analyze.analyze)
app.command(epilog=drop.EXAMPLES)(drop.drop)
app.command("list")(listing.list_)

__all__ = ["app", "main"]
