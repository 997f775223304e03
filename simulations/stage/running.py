"""Every scene ends here: it writes its numbers and its picture, and prints its verdict."""

import argparse
import json
import sys
from pathlib import Path

from ctrlattn.errors import InputError
from ctrlattn.files import atomic, output_directory
from ctrlattn.provenance import provenance


def save(out, name, numbers, figure, dpi=100, plan=None, indent=1):
    """Write <name>.json and <name>.png under `out`, each whole or not at all; returns the numbers.

    The file says under "run" what made it: commit, time, versions, and `plan`, the SHA-256 of the plan. Numbers that
    come from such a file keep the run that they come from. Without `indent` the file is one line, where its values are
    many.
    """
    save_numbers(out, name, numbers, plan, indent)
    with atomic(Path(out) / f"{name}.png") as path:
        figure.savefig(path, dpi=dpi)
    return numbers


def save_numbers(out, name, numbers, plan=None, indent=1):
    """`save` without a picture."""
    separators = (",", ":") if indent is None else None
    text = json.dumps({"run": provenance(plan), **numbers}, ensure_ascii=False, indent=indent, separators=separators)
    with atomic(output_directory(out) / f"{name}.json") as path:
        path.write_text(text, encoding="utf-8")
    return numbers


def numbers_of(path):
    """The numbers that `save` wrote; an InputError in one line where there are none."""
    try:
        numbers = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no results of a scene: {error}") from error
    numbers.setdefault("run", "not recorded")  # the file is older than the record of runs
    return numbers


def command(main, description, full, more=None, missing=None):
    """Run main(out, seed, full) from the command line and print its verdict; bad input is one line and exit code 2.

    `full` says what --full adds; `more`, if given, takes the parser and adds what one scene alone has; `missing` says
    which package is not installed, None where all are.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", required=True, help="directory of the results; made if absent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true", help=full)
    if more is not None:
        parser = more(parser)
    options = vars(parser.parse_args())
    try:
        if missing is not None:
            raise InputError(missing)
        output_directory(options["out"])  # before the work, not after
        print("\n".join(main(**options)["verdict"]))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
