"""What is said of an arm without torch is what its network does."""

from functools import partial

import pytest

pytest.importorskip("torch")

from ctrlattn import InputError
from ctrlattn.nn.experiment.arm_names import SUFFIXES, names, preset_of, require_arm
from ctrlattn.nn.experiment.arms import options_of


@pytest.mark.slow
@pytest.mark.parametrize("text", [False, True])
def test_every_arm_is_judged_as_its_network_is(text):
    said = {arm: refusal(require_arm, arm, text) for arm in names()}
    assert said == {arm: refusal(partial(options_of, depth=2), arm, text) for arm in names()}
    assert said["contranorm"] is not None
    assert [said[arm] for arm in ("softmax", "neutreno", "pidformer-ema-learned-each")] == [None] * 3


def refusal(function, arm, text):
    try:
        function(arm, text=text)
    except InputError as error:
        return str(error)
    return None


def test_the_preset_of_a_variant():
    for suffix in SUFFIXES:
        assert preset_of(f"neutreno{suffix}") == ("neutreno", suffix)
        assert preset_of(f"neutreno{suffix}", text=True) == ("neutreno-text", suffix)
    assert preset_of("softmax-flipped", text=True) == ("softmax", "")


def test_a_file_is_an_arm_where_its_loop_is_one_of_values(tmp_path):
    for name, table, told in (
        ("values", 'preset = "neutreno"', None), ("stream", 'preset = "comparator"', "a loop of values"),
        ("sequential", 'preset = "neutreno"\norder = "sequential"', "is not causal"), ("other", "skp = 0", "loop.skp"),
    ):  # fmt: skip
        file = tmp_path / f"{name}.toml"
        file.write_text(f"[loop]\n{table}\n")
        if told is None:
            require_arm(str(file))
        else:
            with pytest.raises(InputError, match=told):
                require_arm(str(file))
