"""The command line `ctrlattn`, one module per command. Only this room prints: results to stdout, progress to stderr.

Exit codes are 0 (success), 1 (a requested check fails), 2 (bad input, or a file or device that fails: one line that
says what and where), 70 (a bug of ours) and 128 + n where signal n ended the command: 129, 130, 141, 143. Nothing heavy
is imported until a command runs, so that --help answers at once.
"""

import gc
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ctrlattn import __version__
from ctrlattn.cli import analyze, compare, drop, explore, listing, loop, new, observe, report, simulate, sweep, train
from ctrlattn.cli.options import ranges_in_words, worded
from ctrlattn.cli.terminal import (
    CLOSED_PIPE,
    Stopped,
    end_on_signals,
    open_closed_streams,
    plain_usage,
    report_bug,
    silence,
    spoken,
    stay_stopped,
    stop_behind,
    stop_on_signals,
    tell,
    told,
)

_GENERAL = {"--debug": "", "--quiet": "quiet", "-q": "quiet", "--verbose": "verbose", "-v": "verbose"}


class Commands(TyperGroup):
    """The commands. A message of wrong use shows an argument without the characters that would steer a terminal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for command in self.commands.values():
            for parameter in command.params:
                ranges_in_words(parameter)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the options in front of the command."""
        with plain_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Read the arguments of the command, and run it."""
        with plain_usage():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    name="ctrlattn",
    help="The transformer as a feedback automaton over depth: simulate it, and see how stable it is.",
    epilog="Exit codes: 0 fine, 1 an asked-for check fails, 2 bad input or a file that fails, 70 a bug of ctrlattn, "
    "130 interrupted, 143 terminated, 129 terminal closed, 141 output closed.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a bug ends it with exit code 70, a signal with 128 and its number."""
    open_closed_streams()
    stop_on_signals()
    try:
        _run(_general_first(sys.argv[1:]))
    except Stopped as stop:
        stay_stopped()
        with suppress(OSError):  # stderr may be closed too
            tell(str(stop))
        gc.freeze()  # Python would visit every object of torch once more: a second of work, and more on a busy machine
        raise SystemExit(stop.code) from None
    finally:
        end_on_signals()


def _run(arguments: list[str]) -> None:
    try:
        with spoken(_volume(arguments)):
            app(args=arguments)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer ends with 1, which is the code of a check that fails
            silence(sys.stdout)
            raise SystemExit(CLOSED_PIPE) from None
        raise
    except Exception as error:
        if (stop := stop_behind(error)) is not None:
            raise stop from None
        if told(error):  # stdout is a file on a full disk
            silence(sys.stdout)
            raise SystemExit(2) from None
        report_bug(error, arguments)
        raise SystemExit(70) from None


def _general_first(arguments: list[str]) -> list[str]:
    """Put --debug, --quiet and --verbose in front of the arguments: no command has them, but people write them last.

    >>> _general_first(["report", "--debug", "-q"])
    ['--debug', '-q', 'report']
    """
    general = [argument for argument in arguments if argument in _GENERAL]
    return [*general, *(argument for argument in arguments if argument not in _GENERAL)]


def _volume(arguments: list[str]) -> str:
    """Tell how much is said on stderr; of --quiet and --verbose the last one counts."""
    levels = [_GENERAL[argument] for argument in arguments if _GENERAL.get(argument)]
    return levels[-1] if levels else "normal"


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"ctrlattn {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a bug.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say the seconds of each step, and time and memory at the end.")
    ] = False,
) -> None:
    pass  # `main` reads all but the version from the arguments, since a bug may end a command before or after this


_COMMANDS = (
    (report.report, report.EXAMPLES, "Write a page: attention as a feedback loop."),
    (explore.explore, explore.EXAMPLES, "Write a page whose sliders turn the law."),
    (simulate.simulate, simulate.EXAMPLES, "Run one loop, and show its state over depth."),
    (new.new, new.EXAMPLES, "Print a configuration, every key explained."),
    (compare.compare, compare.EXAMPLES, "Compare two results, variable by variable."),
    (train.train, train.EXAMPLES, "Train attention laws alike, and compare them."),
    (observe.observe, observe.EXAMPLES, "Learn sparse causes of one signal of a layer."),
    (analyze.analyze, analyze.EXAMPLES, "Measure the feedback of every sublayer."),
    (drop.drop, drop.EXAMPLES, "Take sublayers out of a checkpoint."),
    (loop.loop, loop.EXAMPLES, "Repeat a span of layers as a controlled loop."),
    (sweep.sweep, sweep.EXAMPLES, "Any analysis over a grid or a sample of anything."),
)
for _command, _examples, _help in _COMMANDS:
    app.command(epilog=_examples, short_help=_help)(worded(_command))
app.command("list", short_help="Show presets, parts and shipped signals.")(worded(listing.list_))

__all__ = ["app", "main"]
