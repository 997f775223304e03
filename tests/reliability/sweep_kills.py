"""kill -9 of a worker, the scheduler or the driver of a sweep at a random moment, then the same command again.

    python tests/reliability/sweep_kills.py --kills 30 --seed 0

In turn the driver of a pool of two workers, one of these workers, the scheduler and a
worker of a dask cluster on 127.0.0.1. The second run must then write the files of a run that nobody disturbed, and must
compute no batch that was a file when the first run ended. It is no part of CI, whose test takes a sample.
"""

import argparse
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from ctrlattn import InputError, sweep
from ctrlattn.files import claims
from ctrlattn.sweep.plan import plan_of

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULT = HERE / "sweep_kills.json"
PATIENCE = 240.0  # seconds for a run
VICTIMS = ("driver", "worker of a pool", "scheduler", "worker of a cluster")
SWEEP = """
[loop]
preset = "pidformer-printed"
[axes]
loop.controller.kp = {from = 0.1, to = 1.0, steps = 100}
loop.skip = [0.0, 0.3]
[analyses]
margins = {mode = 0.5}
hit_rate = {draws = 10, features = 8}
"""


class Kill(NamedTuple):
    """One kill: who, at which share of the batches, whether it struck before the end, and what is wrong afterwards."""

    victim: str
    at: int
    struck: bool
    done: int
    faults: tuple[str, ...]


class Driver:
    """A sweep in a process forked after all imports: a campaign then takes minutes."""

    def __init__(self, file: Path, out: Path, **options: Any) -> None:
        self.said = out.parent / "said"
        self.said.write_bytes(b"")
        self.code: int | None = None
        self.number = os.fork()
        if self.number:
            return
        code = 70
        try:
            os.setsid()
            os.dup2(os.open(self.said, os.O_WRONLY), 2)
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", line_buffering=True)
            code = _run(file, out, options)
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.code is None:
            number, status = os.waitpid(self.number, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if number else None
        return self.code

    def wait(self) -> int:
        """The exit code, once it has ended."""
        end = time.monotonic() + PATIENCE
        while self.poll() is None:
            if time.monotonic() > end:
                os.kill(self.number, signal.SIGKILL)
            time.sleep(0.01)
        assert self.code is not None
        return self.code


def _run(file: Path, out: Path, options: dict[str, Any]) -> int:
    try:
        with claims():
            sweep.run(file, out, **options)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Exception:
        traceback.print_exc()
        return 70
    return 0


def whole(file: Path, out: Path) -> str:
    """Run to the end in this process, as the command does: it removes what a killed one left; its first progress."""
    said: list[str] = []
    with claims():
        sweep.run(file, out, progress=lambda step, done, total: said.append(step))
    return said[0]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def results_of(out: Path) -> dict[str, bytes]:
    """The batches and results.nc."""
    files = [*sorted((out / "cells").glob("*.npz")), out / "results.nc"]
    return {path.name: path.read_bytes() for path in files}


def batches_in(out: Path) -> int:
    return len(list((out / "cells").glob("[0-9]*.npz")))


def children(parent: int) -> list[int]:
    """Processes that a process has started and that compute."""
    said = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in said.stdout.splitlines() if "spawn_main" in line]


class Cluster:
    """A scheduler and two workers of dask, each a process of this one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.processes = folder, []
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        end = time.monotonic() + 60
        while not (said := re.search(r"Scheduler at:\s+(tcp://\S+)", (folder / "0.log").read_text())):
            if time.monotonic() > end:
                raise RuntimeError("no scheduler")
            time.sleep(0.05)
        self.address = said[1]
        options = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--no-nanny")
        self.workers = [self._start("worker", self.address, *options) for _ in range(2)]

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(), cwd=self.folder)
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def kill(victim: str, file: Path, alone: dict[str, bytes], work: Path, seed: int) -> Kill:
    """Kill once, look at what is there, run again, and compare."""
    draw = random.Random(f"{victim} {seed}")
    out, total = work / f"{seed}" / "out", sum(name.endswith(".npz") for name in alone)
    out.parent.mkdir(parents=True)
    at = draw.randrange(0, total)
    cluster = Cluster(out.parent / "dask") if "cluster" in victim or victim == "scheduler" else None
    process = Driver(file, out, **({"workers": 2} if cluster is None else {"scheduler": cluster.address}))
    end = time.monotonic() + PATIENCE
    while batches_in(out) < at and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.1))
    struck = process.poll() is None
    if struck:
        _strike(victim, process, cluster, draw)
    code, said = process.wait(), process.said.read_text()[-300:]
    faults = []
    if struck and victim == "scheduler" and code not in (0, 2):
        faults.append(f"it ends with {code}: {said}")
    if struck and victim.startswith("worker") and code:
        faults.append(f"the loss of a worker ends it with {code}: {said}")
    if cluster is not None:
        cluster.end()
    done = batches_in(out)
    again = whole(file, out)
    to_do = int(again.split(" of ")[0])
    if to_do > (total - done) * plan_of(sweep.load(file)).batch:
        faults.append(f"{to_do} cells are computed again where {done} of {total} batches were done")
    now = results_of(out)
    faults += [f"other content: {name}" for name in alone if now.get(name) != alone[name]]
    faults += [f"left over: {path.name}" for path in out.rglob(".*") if ".part" in path.name or "lock" in path.name]
    return Kill(victim, at, struck, done, tuple(faults))


def _strike(victim: str, process: Driver, cluster: Cluster | None, draw: random.Random) -> None:
    if cluster is not None:
        (cluster.scheduler if victim == "scheduler" else cluster.workers[draw.randrange(2)]).kill()
        return
    number = process.number
    if victim.startswith("worker"):
        end = time.monotonic() + PATIENCE
        while not (workers := children(process.number)) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        number = draw.choice(workers or [process.number])
    if process.poll() is None:
        os.kill(number, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.toml"
        file.write_text(SWEEP)
        whole(file, Path(folder) / "alone")
        alone = results_of(Path(folder) / "alone")
        rows: list[Kill] = []
        for i in range(chosen.kills):
            rows.append(kill(VICTIMS[i % len(VICTIMS)], file, alone, Path(folder) / "kills", chosen.seed + i))
            print(rows[-1], file=sys.stderr, flush=True)
            _write(chosen.json, chosen.seed, rows)


def _write(path: Path, seed: int, rows: list[Kill]) -> None:
    counted = {"kills": lambda row: True, "before the end": lambda row: row.struck, "faulty": lambda row: row.faults}
    victims = {
        victim: {
            name: sum(row.victim == victim and bool(counts(row)) for row in rows) for name, counts in counted.items()
        }
        for victim in VICTIMS
    }
    faults = [[row.victim, row.at, *row.faults] for row in rows if row.faults]
    path.write_text(json.dumps({"seed": seed, "victims": victims, "faults": faults}, indent=1) + "\n")


if __name__ == "__main__":
    main()
