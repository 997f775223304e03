"""The explained sweep is a sweep, and names everything that one may hold."""

import pytest

from ctrlattn import InputError
from ctrlattn.sweep import ANALYSES, loads
from ctrlattn.sweep.cell import KEYS
from ctrlattn.sweep.explanation import explained_sweep
from ctrlattn.sweep.plan import judged


@pytest.mark.parametrize("preset", ["pidformer-printed", "neutreno", "pid-steering"])
def test_it_is_read_and_judged(preset, tmp_path):
    plan = judged(loads(explained_sweep(preset)), tmp_path)
    assert plan.space.shape == (41, 21, 2)


def test_every_analysis_and_key_is_in_it_and_can_be_taken_from_its_comments(tmp_path):
    text = explained_sweep()
    assert all(f"{name} = {{" in text for name in ANALYSES)
    assert all(f"{key} = " in text for keys in KEYS.values() for key in keys)
    lines = [line.removeprefix("# ") if line.startswith("# margins") else line for line in text.splitlines()]
    assert list(loads("\n".join(lines)).analyses) == ["interval", "settling", "margins"]


def test_a_preset_without_gains_is_refused():
    with pytest.raises(InputError, match="no PID gains"):
        explained_sweep("softmax")
