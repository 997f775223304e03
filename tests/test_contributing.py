"""The code that CONTRIBUTING shows runs on the package of today, and the names that it leans on exist."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn import CausalMean, Loop, LTIController, SoftmaxAttention, controllers, presets, simulate

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^   ```text\n(.*?)^   ```", PAGE, re.DOTALL | re.MULTILINE)]


def defined(first, **names):
    """What the one block defines that begins like this, in a module that has these names already."""
    (block,) = (block for block in BLOCKS if block.startswith(first))
    scope = {"__name__": "shown", **names}
    exec(block, scope)
    return scope


def test_the_predictor_is_the_shift_matrix():
    previous = defined('"""y_i')["PreviousToken"]()
    x = np.random.default_rng(0).standard_normal((6, 3))
    assert_array_equal(previous(x), np.eye(6, k=-1) @ x)
    assert_array_equal(previous.last(x), x[-2:-1])


def test_the_controller_is_its_own_realization_and_fraction():
    import control

    law = defined("@dataclass(frozen=True, eq=False)\nclass LeakyIntegral", **vars(controllers))["LeakyIntegral"](
        0.2, 0.8
    )
    a, b, c, d = law.realization()
    num, den = law.fraction()
    x = np.random.default_rng(1).standard_normal((4, 2))
    states = [
        simulate(Loop(CausalMean(), skip=0.5, feedback=0.3, controller=same), x, 6).state
        for same in (law, LTIController(control.ss(a, b, c, d, 1)), LTIController(control.tf(num, den, 1)))
    ]
    assert_allclose(states[0], states[1], atol=1e-12)
    assert_allclose(states[0], states[2], atol=1e-12)


def test_the_preset_is_half_a_step():
    (block,) = (block for block in BLOCKS if block.startswith('"half-step"'))
    loop = eval("{" + block + "}", {**vars(presets)})["half-step"].loop
    x = np.random.default_rng(2).standard_normal((4, 2))
    assert_allclose(simulate(loop, x, 1).state[-1], (x + SoftmaxAttention(causal=False)(x)) / 2, atol=1e-14)


def test_the_section_says_a_number_of_its_material():
    from types import SimpleNamespace

    (section,) = defined('"""rms')["sections"](SimpleNamespace(trajectories={"v": [np.full((2, 3, 4), 2.0)]}))
    assert section.numbers == {"rms_at_the_end": {"v": 2.0}}


def test_the_command_prints_the_interval(capsys):
    defined('"""`ctrlattn interval`')["interval"]("pidformer-printed")
    assert capsys.readouterr().out == "pidformer-printed: stable for 0.15 < alpha < 1.824\n"
    from ctrlattn.cli import _COMMANDS

    (row,) = re.findall(r"`\(interval\.interval, (.*?)\)`", PAGE, re.DOTALL)
    assert len(_COMMANDS[0]) == 1 + row.count(", ") + 1


def test_the_part_is_the_ratio_of_the_recorded_states():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from ctrlattn import checkpoints
    from ctrlattn.checkpoints.measure.parts import measurement
    from ctrlattn.progress import silent

    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9, bos_token_id=0, eos_token_id=0)
    network = checkpoints.load(transformers.GPT2Model(config).double())
    part = defined("def stretch", **{"np": np, **vars(measurement)})["stretch"]
    seen = measurement.Measurement(network, [1, 5, 3], checkpoints.Effort(), 0, silent)
    lengths = np.linalg.norm(seen.state, axis=-1)
    assert_allclose(part(seen)[0]["stretch"].prod("sublayer"), lengths[1:] / lengths[:-1], rtol=1e-12)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:ctrlattn|tests|docs|simulations)/[\w/.]+\.\w+)`", PAGE))))
def test_every_file_exists_or_is_the_new_one(path):
    new = ("previous", "sizes", "interval", "stretch")
    assert (ROOT / path).exists() or any(word in path for word in new)


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("_ROOMS", "ctrlattn/__init__.py"), ("WORDS", "ctrlattn/config/explanation.py"),
        ("PART_NAMES", "ctrlattn/checkpoints/measure/part_names.py"), ("_COMMANDS", "ctrlattn/cli/__init__.py"),
        ("AnyPredictor", "ctrlattn/config/schema.py"), ("AnyController", "ctrlattn/config/schema.py"),
        ("NAMES", "tests/test_presets.py"), ("TABLE", "tests/test_presets.py"),
        ("KEYS", "tests/report/pages/checkpoint/test_page.py"), ("PREDICTORS", "tests/config/test_schema.py"),
        ("FLOW", "tests/test_architecture.py"), ("SUB_FLOW", "tests/test_architecture.py"),
        ("test_nan_is_handed_on_and_never_hidden", "tests/predictors/test_predictors.py"),
    ],
)  # fmt: skip
def test_the_names_that_it_leans_on_exist(word, path):
    assert f"`{word}`" in PAGE
    assert re.search(rf"^(?:def )?{word}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
