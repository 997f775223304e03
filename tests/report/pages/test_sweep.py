"""The page of a sweep: the best cell with its file, maps and slices, refusals; results.nc is that of `run`."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from ctrlattn import config, results
from ctrlattn.cli import app
from ctrlattn.report.pages.sweep import PAGE, Swept, write_sweep
from ctrlattn.sweep import Range, Sample, Spec, dumps, loads, run
from ctrlattn.sweep.dataset import best_place
from ctrlattn.sweep.plan import plan_of

pytestmark = pytest.mark.usefixtures("undrawn_file")
NEUTRENO = {"preset": "neutreno"}


@pytest.mark.slow
def test_the_page_names_the_best_cell_and_writes_it(tmp_path):
    """x' = (a - P) x settles soonest at P = a."""
    axes = {"loop.controller.kp": Range(0.1, 0.9, 9), "loop.reference_gain": [0.5, 1.0]}
    spec = Spec(axes, {"settling": {"modes": [0.5]}, "interval": {}}, loop=NEUTRENO)
    dataset = run(spec, tmp_path)
    before = (tmp_path / "results.nc").read_bytes()
    report = write_sweep(tmp_path, spec, dataset)
    assert (tmp_path / "results.nc").read_bytes() == before
    assert report.summary["best"]["at"] == {"loop.controller.kp": 0.5, "loop.reference_gain": 0.5}
    assert report.summary["best"]["outputs"]["settling"] == 1
    assert config.load(tmp_path / "best.toml").loop.controller.kp == 0.5
    assert loads((tmp_path / "sweep.toml").read_text()).to_table() == spec.to_table()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"map_settling.png", "map_interval_width.svg", "along_kp.png", "along_reference_gain.png"} <= names
    page = (tmp_path / "report.html").read_text()  # the reference gain moves no pole
    assert "The smallest settling is 1.000, at kp = 0.5 and reference_gain = 0.5, and in 1 other cell" in page


@pytest.mark.slow
def test_refusals_are_counted_with_their_reasons(tmp_path):
    spec = Spec({"simulation.layers": [1, 2, 8, 9]}, {"tokens": {}}, loop={"preset": "residual", "skip": 1e100})
    summary = write_sweep(tmp_path, spec, run(spec, tmp_path)).summary
    assert summary["refused"] == {"done": 0.5, "refused": 2, "lost": 0}
    assert "not finite after 8 layers" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_sample_is_drawn_as_points_and_a_sweep_without_numbers_says_so(tmp_path):
    axes = {"loop.controller.kp": Range(0, 1), "loop.controller.form": ["printed", "ema"]}
    spec = Spec(axes, {"interval": {}}, sample=Sample("sobol", 16), loop={"preset": "pidformer-printed"})
    write_sweep(tmp_path / "a", spec, run(spec, tmp_path / "a"))
    assert {path.stem for path in (tmp_path / "a" / "figures").iterdir()} == {"along_kp", "along_form"}
    none = Spec({"loop.controller.ki": [-0.1, -0.2]}, {"interval": {}}, loop={"preset": "pidformer-printed"})
    report = write_sweep(tmp_path / "b", none, run(none, tmp_path / "b"))
    assert "No cell has a interval width" not in report.path.read_text()
    assert "No cell has a number for interval width" in report.path.read_text()
    assert "best" in report.summary


@pytest.mark.slow
def test_the_command_writes_the_page_and_its_numbers(tmp_path):
    spec = Spec({"loop.controller.kp": [0.2, 0.5]}, {"settling": {"modes": [0.5]}}, loop=NEUTRENO)
    file = tmp_path / "sweep.toml"
    file.write_text(dumps(spec))
    done = CliRunner().invoke(app, ["sweep", str(file), "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["best"]["at"] == {"loop.controller.kp": 0.5}
    np.testing.assert_array_equal(results.load(tmp_path / "out" / "results.nc")["settling"], [4, 1])
    again = CliRunner().invoke(app, ["sweep", str(file), "--out", str(tmp_path / "out")])
    assert again.stdout.strip() == str(tmp_path / "out" / "report.html")
    assert "0 of 2 cells to do" in again.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[axis]", "did you mean 'axes'"),
        ("[axes]\nloop.skip = []\n[analyses]\ninterval = {}\n[loop]\npreset = 'neutreno'", "must not be empty"),
        ("[axes]\nloop.skip = {from = 0, to = 1, steps = -2}\n[analyses]\ninterval = {}", "steps must be"),
        ("[axes]\nloop.skip = [1]\n[analyses]\nintervall = {}", "did you mean 'interval'"),
    ],
)
def test_a_file_that_is_none_ends_with_one_line_and_code_2(tmp_path, text, words):
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    done = CliRunner().invoke(app, ["sweep", str(file), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    both = CliRunner().invoke(app, ["new", "--sweep", "--pid", "1", "0", "0"])
    assert (both.exit_code, "leave out --pid" in both.stderr) == (2, True)


def test_a_map_says_at_which_values_of_the_other_axes_it_is_drawn(tmp_path):
    """x' = (a - P + r) x of a mode does not depend on the order of the axes: the shortest axis is held."""
    axes = {"loop.reference_gain": [0.5, 1.0], "loop.controller.kp": Range(0.1, 0.9, 9), "loop.skip": [0.8, 0.9, 1.0]}
    spec = Spec(axes, {"settling": {"modes": [0.5]}}, loop=NEUTRENO)
    dataset, plan = run(spec, tmp_path), plan_of(spec)
    swept = Swept(plan, spec, dataset, best_place(plan, dataset))
    (section,) = PAGE.sections["maps"](swept)
    ax = section.pictures[0].figure.axes[0]
    assert ax.get_title(loc="left") == f"reference_gain = {axes['loop.reference_gain'][swept.best[0]]:g}"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("skip", "kp")
