"""Several processes give the bytes of one, and a process that is killed costs its batch alone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import small_commands

from ctrlattn import InputError
from ctrlattn.sweep import Range, dumps, pool, run
from ctrlattn.sweep.batch import LOST, compute, unpacked
from ctrlattn.sweep.plan import plan_of
from ctrlattn.sweep.pool import in_processes

pytestmark = pytest.mark.slow


def test_two_processes_one_of_which_is_killed_write_the_files_of_one(small, serial, tmp_path):
    before, killed, left = multiprocessing.active_children(), [], []

    def workers():
        return [process for process in multiprocessing.active_children() if process not in before]

    def kill_one(step, done, total):
        if done and not killed:
            killed.extend(workers())
            os.kill(killed[0].pid, signal.SIGKILL)
        left[:] = workers()

    run(small, tmp_path / "pool", workers=2, progress=kill_one)
    assert (len(killed), len(left)) == (2, 2)
    assert killed[0] not in left
    assert killed[1] in left
    assert workers() == []
    for file in sorted(serial.rglob("*")):
        if file.is_file():
            assert (tmp_path / "pool" / file.relative_to(serial)).read_bytes() == file.read_bytes()


def test_a_batch_that_kills_three_processes_is_lost(small, monkeypatch):
    plan = plan_of(small)

    def give(self, index):
        if index == 0:  # before it is told: it might answer before it dies
            self.process.kill()
        real(self, index)

    real = pool._Worker.give
    monkeypatch.setattr(pool._Worker, "give", give)
    results = dict(in_processes(plan, range(3), 1))
    assert (unpacked(results[0]).status == LOST).all()
    assert "3 processes ended" in unpacked(results[0]).messages[0][2]
    assert results[1] == compute(plan.job, 1)


def test_what_ends_the_sweep_ends_it(small):
    plan = plan_of(small)
    object.__setattr__(plan, "files", ("no/such/file",))
    with pytest.raises(InputError, match="no such file"):
        list(in_processes(plan, range(2), 1))
    object.__setattr__(plan, "files", ())
    with pytest.raises(RuntimeError, match="in a process of the sweep"):
        list(in_processes(plan, ["no number"], 1))


COMMAND = "from ctrlattn.__main__ import main; main()"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_ends_the_command_its_workers_and_nothing_else(small, tmp_path):
    """As from a terminal, which sends it to the whole group."""
    large = replace(small, axes={**small.axes, "loop.skip": Range(0.0, 0.5, 40)})
    file, out = tmp_path / "sweep.toml", tmp_path / "out"
    file.write_text(dumps(large))
    # Whoever runs the tests in the background ignores the signal, and a process inherits that.
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND}"
    command = [sys.executable, "-c", program, "sweep", str(file), "--out", str(out), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    end = time.monotonic() + 200
    while not list(out.glob("cells/[0-9]*.npz")):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "SIGINT" in said.splitlines()[-1]
    assert all(line.startswith("ctrlattn") for line in said.splitlines())
    assert [path for path in tmp_path.rglob(".*") if path.name != ".ctrlattn.files"] == []
    end = time.monotonic() + 120
    while small_commands.group_lives(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)
