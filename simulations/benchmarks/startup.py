"""How long a user waits: `import ctrlattn`, `ctrlattn --help` and the default report, each in a fresh process.

    python simulations/benchmarks/startup.py            # medians of several runs, written beside this file
    python simulations/benchmarks/startup.py --once     # one run each, for CI

The file cache is warm: the first run of each is thrown away. Peak memory is the largest resident set of the process;
this script imports nothing large, since at exec a child inherits the peak of its parent.
"""

import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from machine import describe
from paired import parser_of, write

COMMAND = Path(sysconfig.get_path("scripts")) / "ctrlattn"
IMPORT = "import time; start = time.perf_counter(); import ctrlattn; print(time.perf_counter() - start)"


class Run(NamedTuple):
    """One process: wall time in seconds, peak resident memory in MB, what it printed."""

    seconds: float
    megabytes: float
    output: str


def run(arguments: list[str]) -> Run:
    """Run a process to its end; a CalledProcessError where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read()
    # wait4, since RUSAGE_CHILDREN would be the largest of all children so far.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # ru_maxrss: bytes there, KiB elsewhere
    return Run(seconds, usage.ru_maxrss / unit, output)


def repeat(arguments: list[str], times: int) -> list[Run]:
    """`times` runs after one that warms the file cache; a single run is taken as it is."""
    if times > 1:
        run(arguments)
    return [run(arguments) for _ in range(times)]


def row(label: str, values: list[float], unit: str, limit: float) -> dict[str, str | float | int]:
    """Median and range of repeated measurements beside the limit the project set itself."""
    middle, low, high = (round(f(values), 3) for f in (statistics.median, min, max))
    return {
        "what": label,
        "median": middle,
        "lowest": low,
        "highest": high,
        "unit": unit,
        "limit": limit,
        "runs": len(values),
    }


def measure(short: int, long: int) -> list[dict[str, str | float | int]]:
    """`short` runs of the quick commands, `long` runs of the report."""
    imports = repeat([sys.executable, "-c", IMPORT], short)
    helps = repeat([str(COMMAND), "--help"], short)
    with tempfile.TemporaryDirectory() as folder:
        reports = repeat([str(COMMAND), "report", "--out", str(Path(folder) / "report")], long)
    return [
        row("`import ctrlattn`, inside the process", [float(r.output) for r in imports], "s", 0.3),
        row("`ctrlattn --help`, whole process", [r.seconds for r in helps], "s", 0.6),
        row("`ctrlattn report`, whole process", [r.seconds for r in reports], "s", 45),
        row("`ctrlattn report`, peak memory", [r.megabytes for r in reports], "MB", 1500),
    ]


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    write(arguments.out, "startup", describe(), measure(1, 1) if arguments.once else measure(11, 5))


if __name__ == "__main__":
    main()
