"""Signs in training: the plan's tests follow from the runs, gains start where it says, runs are not repeated."""

import json
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

torch = pytest.importorskip("torch")

RESULTS = Path(__file__).parents[2] / "simulations" / "results" / "signs_in_training.json"
TEXT = "the cat sat on the mat; " * 300


@pytest.fixture
def m(scene, tmp_path):
    vocabulary, parts = scene.split(TEXT)
    plan = scene.read_plan("signs_of_reads")
    return scene.material(tmp_path, plan, parts, len(vocabulary), small=True)


def test_arms_of_a_seed_differ_in_their_gains_alone(scene, m):
    models = [scene.reads(arm, 3, m) for arm in ("---", "+-+", "from 0", "from +1")]
    assert [model.layers[0].sign.tolist() for model in models] == [[-1] * 3, [1, -1, 1], [0] * 3, [1] * 3]
    first = dict(models[0].named_parameters())
    for other in models[1:]:
        named = dict(other.named_parameters())
        assert named.keys() - first.keys() in (set(), {"layers.0.sign"})
        assert all(torch.equal(first[name], named[name]) for name in first)


def test_without_order_the_same_characters_stay_in_their_window(scene):
    ids = np.repeat(np.arange(8), 9)
    mixed = scene.without_order({"train": np.arange(72), "one": ids}, context=8)
    assert [sorted(piece) for piece in np.split(mixed["train"], 8)] == [list(range(9 * k, 9 * k + 9)) for k in range(8)]
    assert not np.array_equal(mixed["train"], np.arange(72))


def test_attention_without_projections_has_no_sign_but_its_gain(scene, m):
    def states(arm):
        model = scene.attention(arm, 3, m)
        block = model.layers[0]
        x = torch.randn(2, 6, m.size.dim, generator=torch.Generator().manual_seed(0))
        return x, block, block.attention(x)

    x, block, y = states("fixed -1")
    # The first token reads itself alone; an identity of values and of the output returns it.
    torch.testing.assert_close(y[:, 0], x[:, 0])
    assert not any("norm1" in name for name, _ in block.named_parameters())
    _, _, strict = states("fixed strict from 0")
    assert strict[:, 0].abs().max() == 0
    torch.testing.assert_close(strict[:, 1], x[:, 0])
    names = [name for name, _ in scene.attention("learned from 0", 3, m).named_parameters()]
    assert {"layers.0.sign", "layers.0.value.weight", "layers.0.out_proj.weight"} <= set(names)
    assert scene.attention("fixed +1", 3, m).layers[0].sign.item() == 1.0


def test_the_tests_find_a_planted_answer_and_no_other(scene):
    draws = np.random.default_rng(0).normal(0, 0.01, (9, 8))
    arms = {p: {"losses": list((p[1] == "+") * 0.3 + 2 + d)} for p, d in zip(scene.PATTERNS, draws, strict=False)}
    gains = np.stack([draws[8], -0.5 + draws[8], np.resize([0.01, -0.01], 8)], -1)[:, None]
    arms |= {name: {"gains": gains.tolist()} for name in ("from 0", "from +1")}
    tests = scene.judged(scene.read_differences(arms), scene.read_plan("signs_of_reads")["tests"], 0.05)
    assert [name for name, test in tests.items() if test["holds"]] == [n for n in tests if "context" in n.split(",")[0]]
    smallest = tests["context: best with + less worst with -"]
    assert smallest["p_sign_flip"] == 2**-8
    assert smallest["p_holm"] == 2**-5  # eight tests
    assert (
        smallest["mean"] < 0.3 < tests["context: loss of the four with + less that of the four with -"]["mean"] + 0.01
    )


def test_the_scene_writes_its_numbers_and_resumes(scene, monkeypatch, tmp_path):
    monkeypatch.setattr(scene, "load_text", lambda: TEXT)
    monkeypatch.setattr(scene, "SMALL", {**scene.SMALL, "dim": 4, "context": 4, "steps": 2, "windows": 4})
    numbers = scene.main(tmp_path, seed=1)
    assert json.loads((tmp_path / "signs_in_training.json").read_text(encoding="utf-8")) == {"run": ANY, **numbers}
    assert len(numbers["table"][1]) == 12
    assert numbers["reads"]["arms"]["---"]["versions"]["torch"] == str(torch.__version__)
    assert 0 < max(numbers["reads"]["arms"]["---"]["losses"]) < 10  # a mean over windows, none of them empty

    def refuse(*arguments, **options):
        raise AssertionError("a finished run is not repeated")

    monkeypatch.setattr(scene, "fit", refuse)
    assert scene.main(tmp_path, seed=1) == numbers
    with pytest.raises(AssertionError, match="not repeated"):
        scene.main(tmp_path, seed=2)


def test_what_is_printed_follows_from_the_stored_runs(scene):
    numbers = json.loads(RESULTS.read_text(encoding="utf-8"))
    for kind, differences in (("reads", scene.read_differences), ("attention", scene.attention_differences)):
        part = numbers[kind]
        assert part["plan"] == scene.read_plan(f"signs_of_{kind}")
        assert scene.judged(differences(part["arms"]), part["plan"]["tests"], part["plan"]["alpha"]) == part["tests"]
        assert {arm: scene.interval(row["losses"]) for arm, row in part["arms"].items()} == part["intervals"]
    assert scene.verdict(numbers) == numbers["verdict"]
