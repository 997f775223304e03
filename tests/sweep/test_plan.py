"""Everything is judged before work starts."""

import numpy as np
import pytest

from ctrlattn import InputError, signals
from ctrlattn.sweep import plan as plans
from ctrlattn.sweep.axes import Range, Sample
from ctrlattn.sweep.plan import judged, plan_from, plan_of
from ctrlattn.sweep.spec import Spec

PRINTED = {"preset": "pidformer-printed"}


def sweep(axes=None, analyses=None, **tables):
    axes = {"loop.controller.kp": [0.1, 0.2]} if axes is None else axes
    return Spec(axes, {"interval": {}} if analyses is None else analyses, **{"loop": PRINTED, **tables})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (sweep({}), "at least one axis"),
        (sweep(analyses={}), "at least one analysis"),
        (sweep(analyses={"intervl": {}}), "unknown analysis 'intervl': did you mean 'interval'"),
        (sweep(analyses={"interval": {"x": 1}}), "unknown option of interval"),
        (sweep(analyses={"interval": 3}), "must be a table"),
        (sweep(analyses={"settling": {"modes": []}}), "settling.modes"),
        (sweep(analyses={"settling": {"modes": ["a"]}}), "settling.modes"),
        (sweep(analyses={"margins": {"mode": float("inf")}}), "margins.mode"),
        (sweep(analyses={"hit_rate": {"draws": 0}}), "hit_rate.draws"),
        (sweep({"loop.controler.kp": [1]}), "axes.loop.controler.kp: unknown key controler: did you mean 'controller'"),
        (sweep({"lop.skip": [1]}), "a path begins with a table, did you mean 'loop'"),
        (sweep({"loop": [1]}), "a path begins with a table"),
        (sweep({"loop.skip.x": [1]}), "has no parts"),
        (sweep({"simulation.layer": [1]}), "did you mean 'layers'"),
        (sweep({"loop.skip": []}), "axes.loop.skip: a list of values must not be empty"),
        (sweep({"loop.skip": {"from": 0, "to": 1, "steps": -1}}), "axes.loop.skip: steps"),
        (sweep({f"loop.{k}": Range(0, 1, 1000) for k in ("skip", "feedback", "reference_gain")}), "1e.09 cells"),
        (sweep(best="setling", analyses={"settling": {"modes": [0.1]}}), "did you mean 'settling'"),
        (sweep(recording={"layr": 1}), "recording.layr: unknown key"),
    ],
)
def test_a_sweep_that_is_none_is_refused(spec, words):
    with pytest.raises(InputError, match=words):
        plan_of(spec)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (sweep({"loop.controller.kpp": [1]}), "kpp: unknown key: did you mean 'kp'"),
        (sweep({"loop.controller.form": ["printed", "emma"]}), "axes.loop.controller.form = 'emma'"),
        (sweep({"loop.controller.ema": [0.1, 0.2, 1.5]}), "ema = 1.5"),
        (sweep({"loop.controller.kp": [1.0]}, loop={"preset": "softmax"}), "which has no kp"),
        (sweep({"loop.skip": [1.0]}, loop={"preset": "softmax"}), "the loop has no controller"),
        (
            sweep({"loop.skip": [1.0]}, {"settling": {"modes": [0.1]}}, loop={"preset": "prediction-error"}),
            "no scalar modes",
        ),
        (sweep(analyses={"settling": {}}), r"needs a table \[recording\]"),
        (sweep(analyses={"unstable_share": {}}, recording={"source": "minilm"}), "did you mean 'minilm-l6'"),
        (sweep({"recording.layer": [0, 6]}, {"unstable_share": {}}, recording={"source": "minilm-l6"}), "layer = 6"),
        (sweep(analyses={"loss": {}}), r"needs a table \[checkpoint\]"),
        (sweep(analyses={"loss": {}}, checkpoint={"source": "no/such", "text": "a text"}), "no/such"),
        (Spec({"simulation.seed": [0]}, {"tokens": {}}), r"needs a table \[loop\]"),
    ],
)
def test_a_value_that_makes_no_cell_is_refused(spec, words, tmp_path):
    with pytest.raises(InputError, match=words):
        judged(spec, tmp_path)


def test_memory_and_disk_are_judged(tmp_path, monkeypatch):
    spec = sweep({"loop.controller.kp": Range(0, 1, 10**6), "loop.controller.ki": Range(0, 1, 50)})
    monkeypatch.setattr("ctrlattn.capacity.available_memory", lambda: 10**9)
    with pytest.raises(InputError, match="does not fit into memory"):
        judged(spec, tmp_path)
    monkeypatch.setattr("ctrlattn.capacity.available_memory", lambda: None)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 10**6}))
    with pytest.raises(InputError, match="does not fit on the disk"):
        judged(spec, tmp_path)


def test_batches_cover_all_cells_once_and_take_a_tenth_of_a_second_or_more():
    plan = plan_of(sweep({"loop.controller.kp": Range(0, 1, 1000), "loop.controller.ki": Range(0, 1, 77)}))
    bounds = [plan.bounds(i) for i in range(plan.batches)]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == plan.space.cells == 77_000
    for analyses in ({"margins": {}}, {"settling": {"modes": [0.1, 0.2]}}, {"tokens": {}}):
        plan = plan_of(sweep({"loop.controller.kp": Range(0, 1, 100_000)}, analyses))
        assert plan.seconds * plan.batch >= 0.1 or plan.batch == 20_000


def test_the_mark_is_of_everything_that_decides(tmp_path):
    texts = signals.load_shipped("minilm-l6")
    files = [tmp_path / "own.npz", tmp_path / "other.npz"]
    for file, chosen in zip(files, (texts[:1], texts[1:]), strict=True):
        signals.save(file, chosen)
    share = {"analyses": {"unstable_share": {}}, "recording": {"source": str(files[0])}}
    mark = judged(sweep(**share), tmp_path).mark
    assert judged(sweep(**share), tmp_path).mark == mark
    assert judged(sweep({"loop.controller.kp": [0.1, 0.3]}, **share), tmp_path).mark != mark
    files[0].write_bytes(files[1].read_bytes())
    assert judged(sweep(**share), tmp_path).mark != mark


def test_a_worker_that_would_compute_something_else_says_so(tmp_path):
    file = tmp_path / "own.npz"
    signals.save(file, signals.load_shipped("minilm-l6")[:1])
    job = judged(sweep(analyses={"unstable_share": {}}, recording={"source": str(file)}), tmp_path).job
    assert plan_from(job).space.cells == 2
    with pytest.raises(InputError, match="install one version"):
        plan_from(job._replace(version="0.0"))
    file.write_bytes(b"")
    with pytest.raises(InputError, match="other content"):
        plan_from(job._replace(version=job.version, text=job.text + " "))
    file.unlink()
    with pytest.raises(InputError, match="no such file"):
        plan_from(job._replace(text=job.text + "  "))


def test_a_sample_is_judged_by_its_ends(tmp_path):
    spec = sweep({"loop.controller.ema": {"from": 0.0, "to": 1.0}}, sample=Sample("random", 10))
    with pytest.raises(InputError, match="ema"):
        judged(spec, tmp_path)
    assert np.isfinite(judged(sweep({"loop.skip": Range(0, 1)}, sample=Sample("sobol", 10)), tmp_path).seconds)
    assert plans.GAINS[0] == "loop.controller.kp"
