"""A cluster of dask gives the files of one process, survives its workers, and says when its scheduler is gone."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctrlattn import InputError
from ctrlattn.files import visible
from ctrlattn.sweep import run
from ctrlattn.sweep.plan import plan_of

distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = [
    pytest.mark.slow,
    # What dask and tornado leave behind when processes are killed is theirs.
    pytest.mark.filterwarnings("default"),
]
ROOT = Path(__file__).parents[2]


def files_of(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_a_cluster_of_threads_writes_the_files_of_one_process(small, serial, tmp_path):
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        run(small, tmp_path / "cluster", scheduler=cluster.scheduler_address)
    assert files_of(tmp_path / "cluster") == files_of(serial)


class Processes:
    """`dask scheduler` and `dask worker` on a free port of 127.0.0.1, as a user starts them."""

    def __init__(self, folder):
        self.folder, self.running = folder, []
        environment = {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
        self.environment = {**os.environ, **environment}

    def start(self, *arguments):
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        log = self.folder / f"{len(self.running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=self.environment, cwd=self.folder)
        self.running.append(process)
        return process, log

    def scheduler(self):
        self.process, log = self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        end = time.monotonic() + 60
        while not (said := re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        return said[1]

    def worker(self, address):
        options = ["--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--no-nanny"]
        return self.start("worker", address, *options, "--local-directory", str(self.folder))[0]

    def end(self):
        for process in self.running:
            process.kill()
            process.wait()


@pytest.fixture
def processes(tmp_path):
    folder = tmp_path / "dask"
    folder.mkdir()
    started = Processes(folder)
    yield started
    started.end()


def test_a_worker_that_dies_costs_nothing_and_a_scheduler_that_dies_no_batch_that_was_done(
    small, serial, tmp_path, processes
):
    address = processes.scheduler()
    first, _ = processes.worker(address), processes.worker(address)
    killed = []

    def kill_one(step, done, total):
        if done >= 2 and not killed:
            os.kill(first.pid, signal.SIGKILL)
            killed.append(done)

    run(small, tmp_path / "cluster", scheduler=address, progress=kill_one)
    assert killed
    assert files_of(tmp_path / "cluster") == files_of(serial)

    def kill_it(step, done, total):
        if done >= 2:
            processes.process.kill()

    with pytest.raises(InputError, match="is gone: what was done is written"):
        run(small, tmp_path / "out", scheduler=address, progress=kill_it)
    done = len(visible(tmp_path / "out" / "cells", "*.npz"))
    assert 2 <= done < plan_of(small).batches
    run(small, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(serial)


def test_no_scheduler_is_one_sentence(small, tmp_path, monkeypatch):
    monkeypatch.setattr("ctrlattn.sweep.cluster._PATIENCE", 0.5)
    with pytest.raises(InputError, match="no scheduler of dask answers there"):
        run(small, tmp_path, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="no scheduler of dask answers there"):
        run(small, tmp_path, scheduler="nowhere")
