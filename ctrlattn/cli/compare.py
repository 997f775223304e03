"""The command `ctrlattn compare`: differences between two result files."""

from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Any

import typer

from ctrlattn.cli.options import Formats
from ctrlattn.cli.terminal import AsJSON, one_line, one_line_errors, print_json, written_out
from ctrlattn.errors import InputError

EXAMPLES = "Example:  ctrlattn compare a.nc b.nc --tolerance 1e-9"


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.nc", help="A result of `simulate` or `report`.")],
    b: Annotated[Path, typer.Argument(metavar="B.nc", help="The result to compare it with.")],
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Exit with 1 if a variable differs by more, relative to its largest value."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.nc", help="netCDF file for the differences.")
    ] = None,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Compare two results: largest differences, the layer where they start, and variables that only one of them has."""
    with one_line_errors():
        from ctrlattn import results, tables
        from ctrlattn.files import claim
        from ctrlattn.netcdf import SIGNATURE

        format_names = tables.require_formats(formats or ())
        if format_names and out is None:
            raise InputError("--format writes beside the netCDF file: give --out as well")
        if out is not None:
            if any(result.exists() and out.exists() and out.samefile(result) for result in (a, b)):
                raise InputError(f"{out}: --out is one of the two results that are compared: give another")
            claim(out, file=SIGNATURE)
        comparison = results.compare(results.load(a), results.load(b))
        if out is not None:
            table = comparison.to_xarray()
            results.save(out, table)
            tables.export(out, table, format_names)
        if as_json:
            print_json(comparison.to_dict())
        else:
            _print_comparison(comparison)
    if tolerance is not None and comparison.largest > tolerance:
        typer.echo(f"differ by {comparison.largest:.3g}, more than {tolerance:.3g}", err=True)
        raise typer.Exit(1)


def _print_comparison(comparison: Any) -> None:
    for name, d in comparison.differences.items():
        where = "" if d.first is None else f", from layer {d.first} on"
        verdict = "equal" if d.absolute == 0 else f"differs by {d.absolute:.3g} ({d.relative:.3g} relative){where}"
        typer.echo(one_line(f"{name}: {d.note or verdict}"))
    for side, names in (("first", comparison.only_a), ("second", comparison.only_b)):
        if names:
            typer.echo(one_line(f"only in the {side}: {', '.join(names)}"))
    for key, (before, after) in comparison.attributes.items():
        changes = list(unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]
        text = "; ".join(line for line in changes if line[:2] != "@@" and line[1:])
        typer.echo(written_out(f"attribute {key}: {text}"))
