"""Trajectories as Datasets and netCDF files, and the comparison of two results."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from ctrlattn import config, presets, results, simulate

X = np.random.default_rng(0).standard_normal((4, 3))
LOOP = presets.get("pidformer-ema")


def test_labels_and_attributes(xp):
    run = simulate(LOOP, xp.asarray(X), 5)
    labelled = results.to_xarray(run, loop=LOOP, seed=7, tokens=["a", "b", "<i>", "д"])
    assert labelled["state"].dims == ("depth", "token", "feature")
    assert labelled["error"].dims == ("layer", "token", "feature")
    assert_array_equal(labelled["state"], np.asarray(run.state))
    assert (labelled.attrs["seed"], labelled.attrs["schema_version"]) == (7, 1)
    assert config.dumps(config.loads(labelled.attrs["configuration"]).loop) == config.dumps(LOOP)
    assert labelled["text"].to_numpy().tolist() == ["a", "b", "<i>", "д"]


def test_batches_and_last_only():
    batch = np.random.default_rng(0).standard_normal((2, 5, 4, 3))
    assert results.to_xarray(simulate(LOOP, batch, 2))["state"].dims == (
        "depth",
        "batch_0",
        "batch_1",
        "token",
        "feature",
    )
    last = results.to_xarray(simulate(LOOP, batch, 2, record="last"))
    assert dict(last["state"].sizes) == {"batch_0": 2, "batch_1": 5, "token": 4, "feature": 3}
    with pytest.raises(ValueError, match="2 token names for 4 tokens"):
        results.to_xarray(simulate(LOOP, X, 1), tokens=["a", "b"])


def test_file_round_trip_with_complex_numbers(tmp_path):
    labelled = results.to_xarray(simulate(LOOP, X, 3), loop=LOOP)
    labelled["poles"] = ("mode", np.array([1 + 2j, -0.5j, np.inf]))
    labelled["gap"] = ("mode", np.array([np.nan, -np.inf, 0.0]))
    results.save(tmp_path / "a.nc", labelled)
    back = results.load(tmp_path / "a.nc")
    assert results.compare(labelled, back).largest == 0.0
    assert back.attrs["configuration"] == labelled.attrs["configuration"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


def test_bad_files(tmp_path):
    (tmp_path / "text.nc").write_text("hello")
    (tmp_path / "empty.nc").write_bytes(b"")
    for name, word in {"text.nc": "not a netCDF", "empty.nc": "not a netCDF", "absent.nc": "no such file"}.items():
        with pytest.raises(ValueError, match=word):
            results.load(tmp_path / name)
    with pytest.raises(OSError, match=r".*"):
        results.save(tmp_path / "no" / "a.nc", xr.Dataset())


def test_nothing_half_written_when_writing_fails(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        results.save(tmp_path / "a.nc", xr.Dataset({"bad": ("x", np.array([object()]))}))
    assert list(tmp_path.iterdir()) == []


def test_compare_says_where_two_runs_part():
    a = results.to_xarray(simulate(LOOP, X, 6), loop=LOOP)
    push = np.zeros((6, 4, 3))
    push[3, 2, 1] = 0.5
    b = results.to_xarray(simulate(LOOP, X, 6, disturbance=push), loop=presets.get("softmax"))
    comparison = results.compare(a, b)
    assert comparison.differences["state"].first == 4
    assert comparison.differences["error"].first == 4
    assert comparison.differences["state"].absolute >= 0.5
    assert list(comparison.attributes) == ["configuration"]


def test_compare_shapes_missing_and_not_finite():
    a = xr.Dataset({"x": ("depth", [1.0, np.nan, np.inf]), "only": ("k", [1.0]), "t": ("k", ["a"])})
    same = results.compare(a, a.copy())
    assert same.largest == 0.0
    b = xr.Dataset({"x": ("depth", [1.0, 2.0, np.inf]), "t": ("k", ["b"])})
    comparison = results.compare(a, b)
    assert comparison.only_a == ("only",)
    assert comparison.differences["x"].absolute == np.inf
    assert comparison.differences["x"].first == 1
    assert comparison.differences["t"].note == "texts differ"
    assert comparison.largest == np.inf
    other = results.compare(a[["x"]], xr.Dataset({"x": ("depth", [1.0])}))
    assert "shapes differ" in other.differences["x"].note


def test_compare_of_zeros_is_absolute():
    zero, thousandth = xr.Dataset({"x": ("k", [0.0])}), xr.Dataset({"x": ("k", [1e-3])})
    assert results.compare(zero, thousandth).largest == 1e-3


def test_only_a_trajectory_is_labelled():
    with pytest.raises(TypeError, match="to_xarray takes what simulate returns, a Trajectory, got ndarray"):
        results.to_xarray(np.ones((3, 2)))


def test_a_complete_result_has_coordinates_units_and_long_names():
    bare = xr.Dataset({"mean_gain": (("layer", "head"), np.ones((2, 3))), "name": ("head", ["a", "b", "c"])})
    done = results.complete(bare)
    assert set(done.coords) == {"layer", "head", "name"}
    assert done["layer"].to_numpy().tolist() == [0, 1]
    assert done["mean_gain"].attrs == {"long_name": "mean gain", "units": "1"}
    assert done["name"].attrs == {"long_name": "name"}
    assert bare["mean_gain"].attrs == {}
    assert set(bare.coords) == set()
    run = results.to_xarray(simulate(LOOP, X, 3), tokens=["a", "b", "c", "d"])
    assert results.complete(run).identical(run)
    assert all("long_name" in run[name].attrs for name in run.variables)
