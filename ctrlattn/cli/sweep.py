"""The command `ctrlattn sweep`: any analysis over a grid or a sample, on this machine or on a cluster, and its page."""

from pathlib import Path
from typing import Annotated

import typer

from ctrlattn.cli.options import Device, Formats, Numbers, network_options
from ctrlattn.cli.terminal import AsJSON, one_line_errors, print_json, show_path, show_progress

EXAMPLES = (
    "Examples:  ctrlattn new --sweep > sweep.toml   |   ctrlattn sweep sweep.toml --out swept --workers 2   |   "
    "ctrlattn sweep sweep.toml --scheduler tcp://127.0.0.1:8786"
)


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="Axes, analyses, and what all cells share.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to; a rerun continues there.")] = Path(
        "sweep"
    ),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes on this machine; default: one.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Scheduler of a dask cluster, such as tcp://host:8786.")
    ] = None,
    device: Device = None,
    dtype: Numbers = None,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Compute every cell of a sweep, and write a page with maps, slices and the best cell.

    It writes report.html, figures/, results.nc, summary.json, best.toml, and cells/ (one file per batch). The same
    command again continues where it stopped, whatever stopped it.
    """
    with one_line_errors():
        from ctrlattn import sweep as sweeps
        from ctrlattn import tables
        from ctrlattn.report.pages.sweep import write_sweep
        from ctrlattn.sweep.driver import swept
        from ctrlattn.sweep.spec import running

        format_names = tables.require_formats(formats or ())
        options = network_options(device, dtype, here=scheduler is None)
        spec = running(sweeps.load(file), options)
        folder, dataset = swept(spec, out, workers=workers, scheduler=scheduler, progress=show_progress)
        page = write_sweep(folder, spec, dataset, progress=show_progress, formats=format_names)
        if as_json:
            print_json(page.summary)
        else:
            show_path(page.path)
