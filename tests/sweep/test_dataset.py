"""Cells as a labelled Dataset: coordinates, units, failures, and the best of them."""

import numpy as np
import pytest

from ctrlattn import config, results
from ctrlattn.sweep import Range, Sample, Spec, run
from ctrlattn.sweep.dataset import best_place, cell_toml, values_at
from ctrlattn.sweep.plan import plan_of
from ctrlattn.sweep.spec import loads

PRINTED = {"preset": "pidformer-printed"}


def test_intervals_of_a_grid_are_the_closed_form_in_every_cell(tmp_path):
    axes = {f"loop.controller.k{t}": Range(low, 1, 7) for t, low in (("p", 0), ("i", 0), ("d", -0.5))}
    dataset = run(Spec(axes, {"interval": {}}, loop=PRINTED), tmp_path)
    kp, ki, kd = (dataset[name] for name in ("kp", "ki", "kd"))
    low, high = kp + ki / 2 + 2 * kd - 1, 1 + kp + ki * kd / (1 + kd)
    stable = (np.abs(kd) < 1) & (low < high)
    np.testing.assert_allclose(dataset["interval_low"], low.where(stable).transpose("kp", "ki", "kd"), rtol=1e-14)
    np.testing.assert_allclose(dataset["interval_high"], high.where(stable).transpose("kp", "ki", "kd"), rtol=1e-14)
    assert dataset["interval_low"].attrs["units"] == "1"
    assert dataset["kp"].attrs["long_name"] == "loop.controller.kp"
    assert "failure_cell" not in dataset
    assert not dataset["status"].any()


def test_refused_cells_are_nan_and_listed(small, serial, whole):
    dataset = whole
    refused = dataset["status"].sel(analysis="tokens") == 1
    np.testing.assert_array_equal(refused, np.broadcast_to([False, True], (60, 2)))
    np.testing.assert_array_equal(np.isnan(dataset["rms"]), refused)
    assert dataset["status"].attrs["flag_meanings"] == "done refused lost"
    cells = dataset["failure_cell"].where(dataset["failure_analysis"] == "tokens", drop=True)
    assert cells.to_numpy().tolist() == list(range(1, 120, 2))
    assert "not finite after 3 layers" in str(dataset["failure_message"][-1].item())
    back = results.load(serial / "results.nc")
    assert results.compare(dataset, back).largest == 0
    assert loads(back.attrs["sweep"]).to_table() == small.to_table()


def test_a_sample_has_one_dimension_and_its_axes_as_coordinates(tmp_path):
    axes = {"loop.controller.kp": Range(0, 2), "loop.controller.form": ["printed", "ema"]}
    spec = Spec(axes, {"interval": {}}, sample=Sample("sobol", 32, seed=2), loop=PRINTED)
    dataset = run(spec, tmp_path)
    assert dataset["interval_low"].dims == ("cell",)
    printed = dataset["form"] == "printed"
    expected = dataset["kp"] + 0.25 + 0.1 - 1
    np.testing.assert_allclose(dataset["interval_low"][printed], expected[printed], rtol=1e-13)
    assert set(results.load(tmp_path / "results.nc")["form"].to_numpy()) == {"printed", "ema"}


def test_the_best_cell_is_a_configuration(tmp_path):
    spec = Spec(
        {"loop.controller.kp": [0.1, 0.4, 0.7], "simulation.layers": [3, 5]}, {"settling": {"modes": [0.5]}},
        loop={"preset": "neutreno"}, recording={"layer": 2},
    )  # fmt: skip
    plan, dataset = plan_of(spec), run(spec, tmp_path)
    place = best_place(plan, dataset)
    assert (place, values_at(plan, place)) == ((1, 0), {"loop.controller.kp": 0.4, "simulation.layers": 3})
    read = config.loads(cell_toml(plan, place))
    assert (read.loop.controller.kp, read.simulation.layers) == (0.4, 3)
    assert "# layer = 2" in cell_toml(plan, place)


@pytest.mark.parametrize("sample", [None, Sample("sobol", 4)])
def test_the_best_cell_of_a_sweep_without_a_loop_is_a_sweep_of_one_cell(sample):
    shared = {"best": "loss", "checkpoint": {"source": "a", "text": "b"}, "span": {"layers": 2}}
    spec = Spec(
        {"span.first": Range(1, 4, 4, whole=True), "span.recall": Range(0, 1, 5)}, {"loss": {}}, sample, **shared
    )
    plan = plan_of(spec)
    place = (2,) if sample else (1, 3)
    one = loads(cell_toml(plan, place))
    assert one.axes == {path: [value] for path, value in values_at(plan, place).items()}
    assert one.to_table() == {**spec.to_table(), "axes": one.axes} if sample is None else one.sample is None
    again = plan_of(one)
    assert again.space.cells == 1
    assert values_at(again, (0,) * len(again.space.shape)) == values_at(plan, place)
    assert (again.tables, again.best) == (plan.tables, plan.best)


def test_no_number_no_best_cell(tmp_path):
    spec = Spec({"loop.controller.ki": [-0.1, -0.2]}, {"interval": {}}, loop=PRINTED)
    assert best_place(plan_of(spec), run(spec, tmp_path)) is None


@pytest.mark.parametrize("path", ["loop.controller.kp", "simulation.tokens"])
def test_units_of_axes(tmp_path, path):
    spec = Spec({path: [1, 2]}, {"tokens": {}}, loop=PRINTED)
    dataset = run(spec, tmp_path)
    name = path.split(".")[-1]
    assert dataset[name].attrs["units"] == {"kp": "1", "tokens": "token"}[name]
