"""Tables and .mat files of a Dataset: read back by pandas and scipy, and by Octave where it is installed."""

import csv
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import loadmat

from ctrlattn import InputError, results, tables

RNG = np.random.default_rng(3)
GAIN = RNG.standard_normal((2, 3))
POLE = RNG.standard_normal((3, 2)) @ np.array([1, 1j])


def example():
    return results.complete(
        xr.Dataset(
            {
                "gain": (("layer", "head"), GAIN, {"units": "1", "long_name": "gain of the feedback"}),
                "turned": (("head", "layer"), GAIN.T + 1),
                "pole": (("head",), POLE),
                "count": ((), 7),
                "bound": ((), np.inf),
                "stable": ("layer", [True, False]),
                "half": ("layer", np.array([0.5, 2.0], dtype=np.float16)),
            },
            coords={"head": ["a", "д", "c, d"], "layer": [3, 5], "text": ("layer", ["x", 'y"'])},
            attrs={"model": "möbius", "seed": 4, "2nd": "x"},
        )
    )


def columns(path):
    """A table of texts and exact numbers; pandas rounds the last digit of a number in a text."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    cells = [[_number(cell) for cell in row] for row in rows]
    return pd.DataFrame(cells, columns=header)


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return cell


def test_a_row_of_a_table_is_a_place(tmp_path):
    files = tables.export(tmp_path / "run.nc", example(), ["csv"])
    assert {file.name for file in files} == {
        "run.layer_head.csv", "run.head_layer.csv", "run.head.csv", "run.layer.csv", "run.scalars.csv",
    }  # fmt: skip
    frame = columns(tmp_path / "run.layer_head.csv")
    assert list(frame) == ["layer", "head", "text", "gain"]
    for row in frame.itertuples():
        place = example()["gain"].sel(layer=row.layer, head=row.head)
        assert (row.gain, row.text) == (float(place), str(place["text"].item()))
    turned = columns(tmp_path / "run.head_layer.csv")
    assert_array_equal(turned["turned"], (GAIN.T + 1).ravel())
    assert turned["text"].tolist() == ["x", 'y"'] * 3
    poles = columns(tmp_path / "run.head.csv")
    assert_array_equal(poles["pole_real"] + 1j * poles["pole_imag"], POLE)
    scalars = columns(tmp_path / "run.scalars.csv")
    assert (scalars["count"].tolist(), scalars["bound"].tolist()) == ([7], [np.inf])


def test_parquet_has_the_same_tables(tmp_path):
    pytest.importorskip("pyarrow")
    tables.export(tmp_path / "run.nc", example(), ["parquet"])
    for dims, frame in tables.tables(example()).items():
        back = pd.read_parquet(tmp_path / f"run.{'_'.join(dims) or 'scalars'}.parquet")
        assert list(back) == list(frame)
        for name in frame:
            assert back[name].tolist() == frame[name].tolist(), name


def test_mat_holds_every_variable_with_its_dims(tmp_path):
    (file,) = tables.export(tmp_path / "run.nc", example(), ["mat"])
    read = loadmat(file, simplify_cells=True)
    assert_array_equal(read["gain"], GAIN)
    assert_array_equal(read["pole"], POLE)
    assert (read["count"], read["bound"]) == (7, np.inf)
    assert read["head"].tolist() == ["a", "д", "c, d"]
    assert read["about"]["gain"]["dims"].tolist() == ["layer", "head"]
    assert (read["about"]["gain"]["units"], read["attributes"]["model"]) == ("1", "möbius")
    assert (read["attributes"]["seed"], read["attributes"]["x2nd"]) == (4, "x")


@pytest.mark.slow
def test_octave_reads_the_mat(tmp_path):
    octave = shutil.which("octave")
    if octave is None:
        pytest.skip("octave is not installed")
    (file,) = tables.export(tmp_path / "run.nc", example(), ["mat"])
    script = (
        f"s = load('{file}'); printf('%.17g ', s.gain, real(s.pole), imag(s.pole), s.count);"
        "printf('|%s|%s|%s', s.head{3}, s.about.gain.units, s.about.gain.dims{2});"
    )
    done = subprocess.run([octave, "-qf", "--eval", script], capture_output=True, text=True, timeout=120)
    numbers, *texts = done.stdout.split("|")
    assert_allclose([float(x) for x in numbers.split()], [*GAIN.T.ravel(), *POLE.real, *POLE.imag, 7], rtol=0)
    assert texts == ["c, d", "1", "head"]  # of texts beyond ASCII Octave takes the first bytes


def test_what_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="unknown format 'xls': known are mat, csv, parquet"):
        tables.export(tmp_path / "a.nc", example(), ["csv", "xls"])
    clash = xr.Dataset({"a-b": ("x", [1.0]), "a_b": ("x", [1.0])})
    with pytest.raises(InputError, match="are both 'a_b' in MATLAB"):
        tables.export(tmp_path / "a.nc", clash, ["mat"])
    with pytest.raises(InputError, match="are both 'about' in MATLAB"):
        tables.export(tmp_path / "a.nc", xr.Dataset({"about": ("x", [1.0])}), ["mat"])
    monkeypatch.setattr("ctrlattn.capacity.available_memory", lambda: 100)
    with pytest.raises(InputError, match="the tables: this does not fit into memory"):
        tables.export(tmp_path / "a.nc", example(), ["csv"])
    assert not list(tmp_path.iterdir())


def test_a_missing_pyarrow_is_told_with_its_command(monkeypatch):
    monkeypatch.setattr("ctrlattn.errors._is_installed", lambda module: False)
    with pytest.raises(InputError, match=r'the format parquet needs pyarrow: pip install "ctrlattn\[tables\]"'):
        tables.require_formats(["parquet"])
