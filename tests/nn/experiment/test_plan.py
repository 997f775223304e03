"""Plans: read from a file, or refused with the place of the fault."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.nn.experiment.plan import plan_of, read_plan  # noqa: E402
from ctrlattn.nn.experiment.settings import RunSettings  # noqa: E402

PLAN = Path(__file__).parents[3] / "simulations" / "configs" / "train_digits.toml"


def test_the_plan_that_was_fixed_can_be_read():
    plan = read_plan(PLAN, "digits")
    assert plan.seeds == tuple(range(100, 110))
    assert len(plan.tests) == 16
    assert plan.settings_of("pidformer-ema", 100) == RunSettings("pidformer-ema", 100)  # the defaults of the command


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = 'digits'\nseed = 3", "plan has no 'seed': did you mean 'seeds'"),
        ("data = 'text'", "this is not a plan for digits"),
        ("seeds = [0, 0]", "given twice"),
        ("seeds = []", "at least one"),
        ("correction = 'none'", 'correction must be "holm"'),
        ("arms = ['softmx']", "did you mean 'softmax'"),
        ("arms = ['neutreno']", "compared with 'softmax', which is not among neutreno"),
        ("[settings]\nepoch = 3", "settings has no 'epoch'"),
        ("[settings]\nrate = -1.0", "rate must be positive"),
        ("[settings]\nrate = inf", "rate must be positive and finite, got inf"),
        ("[[tests]]\narm = 'softmax'\nscore = 'clean'\ndirection = 'up'", "less, greater or two-sided"),
        ("[[tests]]\narm = 'softmax'", "lacks score and direction"),
        ("arms = ", "this is not TOML"),
        ("arms = 3", "arms must be a list, got 3"),
        ("seeds = [true]", "a seed must be a whole number in 0 ... 9223372036854775807, got True"),
        ("seeds = [-1]", "a seed must be a whole number in 0 ... 9223372036854775807, got -1"),
        ("seeds = [0.0]", "a seed must be a whole number in 0 ... 9223372036854775807, got 0.0"),
        ("alpha = 'small'", "alpha must be positive"),
        ("settings = 3", "settings must be a table"),
        ("[settings]\nepochs = 2.5", "settings: epochs must be a whole number of at least 1, got 2.5"),
        ("[settings]\nepochs = true", "settings: epochs must be a whole number of at least 1, got True"),
        ("[settings]\nepochs = 0", "settings: epochs must be a whole number of at least 1, got 0"),
        ("[settings]\nnorm = 3", "norm must be a word, got 3"),
        ("[rates]\nsoftmx = 1e-3", "rates has no 'softmx': did you mean 'softmax'"),
        ("[rates]\nsoftmax = 0.0", "rates: softmax must be positive and finite, got 0.0"),
        ("rates = 3", "rates must be a table"),
    ],
)
def test_a_plan_with_a_fault_says_where(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(path, "digits")
    assert str(caught.value).startswith(str(path))


def test_the_data_of_a_plan_stand_where_none_are_given(tmp_path):
    assert read_plan(PLAN) == read_plan(PLAN, "digits")
    path = tmp_path / "plan.toml"
    path.write_text("seeds = [0]", encoding="utf-8")
    with pytest.raises(InputError, match="data must say what to train on: digits, mnist5k, text"):
        read_plan(path)
    assert read_plan(path, "digits").data == "digits"


@pytest.mark.parametrize("seed", [2**63, 2**64, 10**30])
def test_a_seed_of_more_bits_than_the_generators_is_refused_before_any_training(seed):
    with pytest.raises(InputError, match="a seed must be a whole number in 0 "):
        plan_of("digits", seeds=(0, seed))
    assert plan_of("digits", seeds=(2**63 - 1,)).seeds == (2**63 - 1,)


def test_a_plan_that_is_not_utf8_says_so(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_bytes(b"data = '\xff'")
    with pytest.raises(InputError, match=r"plan\.toml: not a text in UTF-8: invalid start byte at byte 8"):
        read_plan(path)


@pytest.mark.parametrize("value", ["{}", "[]", "3", "[[]]"])
def test_a_test_whose_direction_is_no_word_is_refused(tmp_path, value):
    """A mutated plan ended in a bug: unhashable type."""
    lines = PLAN.read_text(encoding="utf-8").replace('direction = "less"', f"direction = {value}", 1)
    assert f"direction = {value}" in lines
    path = tmp_path / "plan.toml"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=r"tests\[\d+\].direction must be a word, got"):
        read_plan(path, None)


def test_an_arm_with_a_rate_of_its_own_is_trained_at_it():
    plan = plan_of("digits", settings={"rate": 2e-3, "depth": 3}, rates={"neutreno": 1e-3})
    assert plan.settings_of("neutreno", 4) == RunSettings("neutreno", 4, rate=1e-3, depth=3)
    assert plan.settings_of("softmax", 4).rate == 2e-3
