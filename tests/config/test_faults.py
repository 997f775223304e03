"""Every fault of a file is told at once, with its path and value."""

import pytest

from ctrlattn import InputError, config
from ctrlattn.config import schema


def test_every_fault_at_once_with_path_and_value():
    text = """
    [loop]
    preset = "neutrno"
    skp = 1.0
    order = "sequental"
    predictor = {kind = "softmax_attention", heds = 2, heads = "many"}
    controller = {kind = "pid", kp = "big", ema = 3}
    [simulation]
    layers = -1
    tokens = 0
    """
    with pytest.raises(InputError, match=r"loop\.preset") as caught:
        config.loads(text)
    lines = str(caught.value).splitlines()
    expected = {
        "loop.preset": "neutreno",
        "loop.skp": "'skip'",
        "loop.order": "'sequental'",
        "loop.predictor.heds": "'heads'",
        "loop.predictor.heads": "'many'",
        "loop.controller.kp": "'big'",
        "loop.controller.ema": "3",
        "simulation.layers": "-1",
        "simulation.tokens": "0",
    }
    assert len(lines) == len(expected)
    for path, word in expected.items():
        assert any(line.startswith(f"{path}:") and word in line for line in lines), path


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "loop: Field required"),
        ("[loop]", "a loop needs a preset or a predictor"),
        ("[loop", "not TOML"),
        ('[loop]\npredictor = "softmx"', "unknown kind 'softmx'"),
        ('[loop]\npredictor = "causal_men"', "did you mean 'causal_mean'"),
        ('[loop]\npredictor = {kind = "fixed_attention"}', "loop.predictor.matrix"),
        ('[loop]\npredictor = {kind = "fixed_attention", matrix = [[1.0], [2.0, 3.0]]}', "rows of equal length"),
        ('[loop]\npredictor = {kind = "fixed_attention", matrix = [[1.0, 2.0]]}', "an attention matrix is"),
        ('[loop]\npredictor = {kind = "fixed_attention", matrix = [[nan]]}', "must be finite"),
        ('[loop]\npredictor = {kind = "softmax_attention", causal = false}\norder = "sequential"', "not causal"),
        ('[loop]\npreset = "softmax"\nskip = inf', "loop.skip"),
        ('[loop]\npreset = "softmax"\nskip = "big"', "loop.skip: Input should be a valid number"),
        ('[loop]\npreset = "softmax"\nskip = [1.0, nan]', "loop.skip: a gain must be finite: found nan at index (1,)"),
        ('[loop]\npreset = "softmax"\nfeedback = [[1.0]]', "loop.feedback: a gain must be a number, or (d,)"),
        ('[loop]\npreset = "softmax"\nfeedback = [1.0, "x"]', "loop.feedback: an array is a nested list of numbers"),
        (
            '[loop]\npreset = "softmax"\nskip = [1.0, 0.5]\nfeedback = [1.0, 0.5, 0.2]',
            "skip and feedback must have one number for each feature, got 2 and 3",
        ),
        (
            '[loop]\npreset = "softmax"\ncontroller = {kind = "lti", A = [[1.0]], B = [], C = [], D = [[1.0]]}',
            r"loop.controller: B must be (1, 1) for a state of order 1, got (0,)",
        ),
        ('[loop]\npreset = "softmax"\nnormalize_input = true', "needs a normalizer"),
        ('[lop]\npreset = "softmax"', "did you mean 'loop'"),
    ],
)
def test_faults(text, word):
    with pytest.raises(InputError, match=r".+") as caught:
        config.loads(text)
    assert word in str(caught.value)


def test_a_key_outside_its_table_is_told_where_it_belongs():
    with pytest.raises(InputError, match=r"feedback: belongs below \[loop\]"):
        config.loads("feedback = 1.0")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("zzz = 1", "loop.zzz: unknown key: known are preset, predictor, skip"),
        ("[simulation]\ntoken = 1", "simulation.token: unknown key: did you mean 'tokens'?"),
        ("controller = {kind = 'pid', em = 1}", "loop.controller.em: unknown key: did you mean 'ema'?"),
        ("controller = {kp = 1}", "loop.controller: the table needs a kind, got {'kp': 1}"),
        ("controller = 'pd'", "loop.controller.kind: unknown kind 'pd': did you mean 'pid'?"),
        ("controller = 'x'", "loop.controller.kind: unknown kind 'x': known are pid, lti, none"),
    ],
)
def test_unknown_words_are_answered_by_those_of_the_same_table(text, line):
    with pytest.raises(InputError, match=r"unknown|kind") as caught:
        config.loads(f"[loop]\npreset = 'softmax'\n{text}")
    assert str(caught.value).startswith(line)


def test_a_mistake_of_the_package_is_no_fault_of_the_file(monkeypatch):
    def build(self):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(schema.Part, "build", build)
    with pytest.raises(ValueError, match="broadcast") as caught:
        config.loads('[loop]\npredictor = "causal_mean"')
    assert not isinstance(caught.value, InputError)
