"""Two ways timed in turn, so that what else the machine does falls on both; and a benchmark as a program."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from machine import describe


def alternate(
    first: Callable[[], Any],
    second: Callable[[], Any],
    times: int,
    calls: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Seconds a call in `times` turns of each, after one call of each that warms caches and compiles.

    A turn of the first is `calls` calls on end: what takes a millisecond cannot be timed by one call after a second
    of other work. What runs on one thread may be timed by `time.thread_time`, which other work does not lengthen.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in (first, second):
        call()
    for _ in range(times):
        for call, samples, count in ((first, seconds[0], calls), (second, seconds[1], 1)):
            start = clock()
            for _ in range(count):
                call()
            samples.append((clock() - start) / count)
    return seconds


RESULTS = Path(__file__).parent / "results"


class _Once(argparse.Action):
    """A small run is no measurement: it leaves the results alone unless --out names a directory for its own."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, **options)

    def __call__(self, parser: Any, namespace: argparse.Namespace, *_: Any) -> None:
        namespace.once = True
        namespace.out = None if namespace.out == RESULTS else namespace.out


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark can be asked for; --worker is a process that `in_threads` has started."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory for the results")
    parser.add_argument("--once", action=_Once, help="small, one run each; written where --out says, or nowhere")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the libraries, where it matters")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def median_ms(seconds: list[float]) -> float:
    """Median in milliseconds, three significant digits."""
    return float(f"{1e3 * statistics.median(seconds):.3g}")


def in_threads(script: str, threads: int, *arguments: str) -> Any:
    """What `script --worker ...` prints as JSON, in a process of its own with that many threads for every library."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, script, "--worker", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def write(folder: Path | None, name: str, machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """<folder>/<name>.json, and the rows on the screen."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))


def command(
    script: str, description: str | None, worker: Callable[[bool], list[dict[str, Any]]], threads: Sequence[int] = (1,)
) -> None:
    """A benchmark as a program: the rows of `worker(small)`, from one process for each number of threads, in one file.

    The file has the name of the script. Without numbers of threads, they are those of --threads.
    """
    arguments = parser_of(description).parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.once)))
        return
    extra = ["--once"] if arguments.once else []
    results = [in_threads(script, number, *extra) for number in threads or arguments.threads]
    write(arguments.out, Path(script).stem, describe(), [row for rows in results for row in rows])
