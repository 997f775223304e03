"""A batch is values, status and messages; it is the same bytes every time, and a damaged one is noticed."""

import numpy as np
import pytest

from ctrlattn import stability_interval
from ctrlattn.controllers import PID
from ctrlattn.sweep import batch
from ctrlattn.sweep.axes import Range
from ctrlattn.sweep.batch import DONE, LOST, REFUSED, compute, is_whole, lost, packed, unpacked
from ctrlattn.sweep.plan import plan_of
from ctrlattn.sweep.spec import Spec


def mixed():
    """Both laws and two gains: an axis of gains between two others."""
    axes = {"loop.controller.form": ["printed", "ema"], "loop.controller.kp": Range(0, 1, 5), "loop.skip": [0.0, 0.5]}
    return plan_of(Spec(axes, {"interval": {}, "margins": {"mode": 0.5}}, loop={"preset": "pidformer-printed"}))


def test_cells_of_several_laws_lie_in_their_places():
    plan = mixed()
    result = unpacked(compute(plan.job, 0))
    values = plan.space.values(0, plan.space.cells)
    for k in range(plan.space.cells):
        law = PID(values["loop.controller.kp"][k], 0.5, 0.05, form=values["loop.controller.form"][k])
        low, high = stability_interval(law)
        np.testing.assert_allclose(result.values[:3, k], (high - low, low, high), rtol=1e-12)
    assert np.all(result.status == DONE)
    assert result.messages == []


def test_a_cell_that_is_refused_is_nan_and_says_why():
    axes = {"span.first": [0, 1], "simulation.layers": [1, 3]}
    spec = Spec(axes, {"tokens": {}, "hit_rate": {"draws": 5}}, loop={"preset": "residual", "skip": 1e200})
    result = unpacked(compute(plan_of(spec).job, 0))
    assert result.status.tolist()[0] == [DONE, REFUSED, DONE, REFUSED]
    np.testing.assert_array_equal(np.isnan(result.values[0]), [False, True, False, True])
    assert [(a, k) for a, k, _ in result.messages if a == 0] == [(0, 1), (0, 3)]
    assert result.messages[0][2] == "the state is not finite after 3 layers"


def test_a_bug_is_no_refusal(monkeypatch):
    plan = mixed()

    def broken(cell, options):
        raise TypeError("a bug")

    row = batch.ANALYSES["margins"]._replace(of_cell=broken)
    monkeypatch.setitem(batch.ANALYSES, "margins", row)
    with pytest.raises(TypeError, match="a bug"):
        compute(plan.job, 0)


def test_equal_batches_have_equal_bytes_and_survive_packing():
    plan = mixed()
    content = compute(plan.job, 0)
    assert content == compute(plan.job, 0) == packed(unpacked(content))
    assert is_whole(plan, 0, content)
    for damaged in (b"", content[:-30], content[: len(content) // 2], packed(batch.Batch(
        np.zeros((2, 3)), np.zeros((2, 3), np.uint8), []))):  # fmt: skip
        assert not is_whole(plan, 0, damaged)


def test_a_lost_batch_is_nan_everywhere():
    plan = mixed()
    result = unpacked(lost(plan, 0, "why"))
    assert np.all(np.isnan(result.values))
    assert np.all(result.status == LOST)
    assert len(result.messages) == 2 * plan.space.cells
    assert is_whole(plan, 0, packed(result))
