"""Settings that are accepted make a network that runs; the others are refused without torch."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ctrlattn import InputError  # noqa: E402
from ctrlattn.nn.experiment.loop_arms import LOOP_ARMS  # noqa: E402
from ctrlattn.nn.experiment.loop_forecast import held_out  # noqa: E402
from ctrlattn.nn.experiment.loop_settings import LoopSettings, require_loop_settings  # noqa: E402
from ctrlattn.nn.experiment.loop_training import build_loop  # noqa: E402

SMALL = LoopSettings("prefix-sums", "plain", 0, dim=4, hidden=4)


@pytest.mark.parametrize("task", ["prefix-sums", "addition", "maze"])
def test_what_is_accepted_runs_and_what_is_refused_has_no_problems(task):
    for arm in LOOP_ARMS:
        for size in range(1, 6):
            settings = replace(SMALL, task=task, arm=arm, size=size, layers=1 + size % 3)
            try:
                require_loop_settings(settings)
            except InputError as error:
                with pytest.raises(InputError, match=str(error)):
                    held_out(settings, count=1)
            else:
                assert build_loop(settings)(held_out(settings, count=1)[0], 2).isfinite().all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("batch", 0), ("examples", 0), ("marks", 0), ("hidden", 0), ("dim", 1.5), ("layers", 0),
        ("layers", 4), ("passes", 1), ("size", -1), ("rate", 0.0), ("rate", float("inf")), ("decay", -1.0),
        ("penalty", float("nan")), ("most_radius", 0.0), ("penalty_form", "x"), ("arm", "none"), ("task", "chess"),
        ("hold_every", 0), ("hold_rows", 0), ("penalty_rows", 0), ("penalty_rounds", 0), ("batch", 10**12),
        ("dtype", "float16"), ("dtype", "bfloat16"),
        ("size", 10**12), ("hidden", 10**12), ("examples", 10**15),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError):
        require_loop_settings(replace(SMALL, **{name: value}))


def test_float64_takes_twice_the_memory(monkeypatch):
    asked = []
    monkeypatch.setattr("ctrlattn.nn.experiment.loop_settings.require_memory", lambda size, what: asked.append(size))
    for dtype in ("float32", "float64"):
        require_loop_settings(replace(SMALL, dtype=dtype))
    assert asked[1] == 2 * asked[0] > 0
