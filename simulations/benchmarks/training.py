"""How long the trained comparison takes: `ctrlattn train digits`, four configurations, as a user starts it.

    python simulations/benchmarks/training.py              # five seeds, two processes
    python simulations/benchmarks/training.py --seeds 1    # a fifth of it, from which five are estimated
    python simulations/benchmarks/training.py --once       # one seed, one epoch, for CI

CPU time is that of the command and its workers: what it says of five seeds on two cores holds where the machine has
other work as well, wall time only where it is at rest.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time

from machine import describe
from paired import parser_of, write

CONFIGURATIONS = ("softmax", "neutreno", "pidformer-printed", "pidformer-ema")
SEEDS, CORES, LIMIT = 5, 2, 15 * 60


def command(seeds: int, out: str, *extra: str) -> list[str]:
    """The command, by the interpreter that runs this script."""
    configurations = [word for name in CONFIGURATIONS for word in ("--configs", name)]
    start = [sys.executable, "-c", "from ctrlattn.cli import main; main()", "train", "digits"]
    return [*start, *configurations, "--seeds", str(seeds), "--workers", str(CORES), "--out", out, *extra]


def measured(seeds: int, *extra: str) -> tuple[float, float]:
    """Wall and CPU seconds of one comparison into a folder of its own."""
    with tempfile.TemporaryDirectory() as out:
        start_usage, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command(seeds, out, *extra), check=True, capture_output=True)
        wall, end_usage = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, end_usage.ru_utime + end_usage.ru_stime - start_usage.ru_utime - start_usage.ru_stime


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each configuration")
    arguments = parser.parse_args()
    seeds, extra = (1, ("--epochs", "1")) if arguments.once else (arguments.seeds, ())
    load = f"{os.getloadavg()[0]:.2f}"
    wall, cpu = measured(seeds, *extra)
    row = {
        "what": f"ctrlattn train digits, {len(CONFIGURATIONS)} configurations, {seeds} of {SEEDS} seeds",
        "runs": len(CONFIGURATIONS) * seeds,
        "wall (s)": round(wall),
        "CPU (s)": round(cpu),
        f"{SEEDS} seeds, CPU time over {CORES} cores (s)": round(cpu * SEEDS / seeds / CORES),
        "limit (s)": LIMIT,
    }
    machine = {**describe(), "load before": load, "date": time.strftime("%Y-%m-%d")}
    write(arguments.out, "training", machine, [row])


if __name__ == "__main__":
    main()
