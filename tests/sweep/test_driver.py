"""A sweep is done once, goes on where it stopped, and is the same however it was computed."""

import shutil

import numpy as np
import pytest

from ctrlattn import InputError, results
from ctrlattn.sweep import Spec, driver, dumps, run


def files_of(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_what_is_done_is_not_done_again(small, serial, whole, tmp_path, monkeypatch):
    shutil.copytree(serial, tmp_path / "a")
    files = files_of(tmp_path / "a")
    cells = [name for name in files if name.startswith("cells/")]
    assert len(cells) > 3
    (tmp_path / "a" / cells[1]).unlink()
    (tmp_path / "a" / cells[2]).write_bytes(files[cells[2]][:50])
    computed = []
    real = driver.compute

    def counted(job, index):
        computed.append(index)
        return real(job, index)

    monkeypatch.setattr(driver, "compute", counted)
    again = run(small, tmp_path / "a")
    assert computed == [1, 2]
    assert files_of(tmp_path / "a") == files
    assert again.identical(whole)


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on(small, serial, whole, tmp_path, monkeypatch):
    real = driver.compute

    def stopped(job, index):
        if index == 2:
            raise KeyboardInterrupt
        return real(job, index)

    monkeypatch.setattr(driver, "compute", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path / "out")
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 2
    monkeypatch.setattr(driver, "compute", real)
    assert run(small, tmp_path / "out").identical(whole)
    assert files_of(tmp_path / "out") == files_of(serial)


def test_another_sweep_goes_to_another_folder(tmp_path):
    one, two = (
        Spec({"loop.controller.kp": values}, {"interval": {}}, loop={"preset": "neutreno"})
        for values in ([0.1, 0.2], [0.3, 0.4])
    )
    run(one, tmp_path / "out")
    before = files_of(tmp_path / "out")
    said = []
    run(two, tmp_path / "out", progress=lambda step, done, total: said.append(step))
    assert files_of(tmp_path / "out") == before
    (other,) = [folder for folder in tmp_path.iterdir() if folder.name.startswith("out-")]
    np.testing.assert_allclose(results.load(other / "results.nc")["interval_high"], [1.3, 1.4])
    assert "goes to" in said[0]


@pytest.mark.slow
def test_a_file_is_the_spec_that_it_holds(small, whole, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(dumps(small))
    assert run(file, tmp_path / "a").identical(whole)


def test_progress_ends_with_all_cells(small, tmp_path):
    said = []
    run(small, tmp_path, progress=lambda *step: said.append(step))
    assert said[0][0] == "120 of 120 cells to do"
    assert said[-1][0] == "120 of 120 cells"
    assert said[-1][1] == said[-1][2]
    assert len(said) <= 52


def test_either_workers_or_a_scheduler(small, tmp_path):
    with pytest.raises(InputError, match="give one of them"):
        run(small, tmp_path, workers=2, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="workers"):
        run(small, tmp_path, workers=0)
