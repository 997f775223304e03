"""Several processes give the bytes of one, and a process that is killed costs its batch alone."""

import os
import signal

import pytest

from ctrlattn import InputError
from ctrlattn.sweep import pool, run
from ctrlattn.sweep.batch import LOST, compute, unpacked
from ctrlattn.sweep.plan import plan_of
from ctrlattn.sweep.pool import in_processes

pytestmark = pytest.mark.slow


def test_two_processes_write_the_files_of_one(small, tmp_path):
    run(small, tmp_path / "serial")
    run(small, tmp_path / "pool", workers=2)
    for file in sorted((tmp_path / "serial").rglob("*")):
        if file.is_file():
            assert (tmp_path / "pool" / file.relative_to(tmp_path / "serial")).read_bytes() == file.read_bytes()


def test_the_batch_of_a_killed_process_is_computed_by_the_next(small):
    plan = plan_of(small)
    done = in_processes(plan, range(plan.batches), 2)
    results = dict([next(done)])
    pool_of_two = list(done.gi_frame.f_locals["team"])
    os.kill(pool_of_two[0].process.pid, signal.SIGKILL)
    results |= dict(done)
    assert results == {i: compute(plan.job, i) for i in range(plan.batches)}
    assert not any(worker.process.is_alive() for worker in pool_of_two[1:] if worker.process._popen is not None)


def test_a_batch_that_kills_three_processes_is_lost(small, monkeypatch):
    plan = plan_of(small)

    def give(self, index):
        real(self, index)
        if index == 0:
            self.process.kill()

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
        list(in_processes(plan, range(2), 2))
    object.__setattr__(plan, "files", ())
    with pytest.raises(RuntimeError, match="in a process of the sweep"):
        list(in_processes(plan, ["no number"], 2))
