"""A reduction: its text is cut without overlap, it takes out what was chosen, its losses are those of `evaluate`."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.reduce.reduction import least_important  # noqa: E402

TEXT = list(np.random.default_rng(0).integers(0, 20, 240))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = transformers.LlamaConfig(**sizes, intermediate_size=24, num_key_value_heads=1)
    return checkpoints.load(transformers.LlamaForCausalLM(config).double())


@pytest.fixture(scope="module")
def text(network):
    return checkpoints.split_text(network, TEXT, window=8)


def test_the_windows_are_the_text_in_its_order_without_overlap(network, text):
    assert torch.cat([part.flatten() for part in text]).tolist() == TEXT
    assert [len(part) for part in text] == [18, 6, 6]
    other = checkpoints.split_text(network, TEXT, window=8, judge=[3] * 17)
    assert [len(part) for part in other] == [22, 8, 2]
    assert set(other.judge.flatten().tolist()) == {3}


@pytest.mark.parametrize("compensate", [True, False])
def test_the_losses_are_those_of_the_networks(network, text, compensate):
    reduction = checkpoints.reduce(network, text, layers={"attention": (2, 1)}, compensate=compensate)
    assert reduction.gone == {"attention": (1, 2), "mlp": (), "mixer": (), "blocks": ()}
    assert reduction.choice is None
    by_hand = checkpoints.drop(network, attention=[1, 2], compensate=text.fit if compensate else None)
    assert_allclose(reduction.losses["reduced"].window_losses, checkpoints.evaluate(by_hand, text.judge).window_losses)
    assert_allclose(reduction.losses["intact"].loss, checkpoints.evaluate(network, text.judge).loss)
    least = least_important(reduction.scores, {"attention": 2})
    bare = checkpoints.drop(network, attention=least["attention"])
    assert_allclose(reduction.losses["published"].loss, checkpoints.evaluate(bare, text.judge).loss)


def test_a_choice_by_loss_is_that_of_choose(network, text):
    reduction = checkpoints.reduce(network, text, count={"mlp": 2}, seed=3)
    wanted = checkpoints.choose(network, 2, text.fit, text.choose, kind="mlp", seed=3)
    assert reduction.gone["mlp"] == wanted.layers
    assert reduction.choice.order == wanted.order


def test_the_least_important_go(network, text):
    reduction = checkpoints.reduce(network, text, count={"attention": 1, "blocks": 1}, by="importance")
    scores = reduction.scores
    assert reduction.gone["attention"] == (int(scores["attention"].argmin("layer")),)
    assert reduction.gone["blocks"] == (int(scores["block"].argmin("layer")),)


def test_the_least_at_their_worst_position_go(network, text):
    reduction = checkpoints.reduce(network, text, count={"mlp": 2, "blocks": 1}, by="worst")
    order = np.argsort(reduction.scores["mlp_max"].to_numpy())
    assert reduction.gone["mlp"] == tuple(sorted(order[:2]))
    assert reduction.gone["blocks"] == (int(reduction.scores["block_max"].argmin("layer")),)


def test_gains_remember_where_asked(network, text):
    reduction = checkpoints.reduce(network, text, count={"attention": 2}, memory=True)
    remembering = checkpoints.Calibration(text.fit, memory=True)
    by_hand = checkpoints.drop(network, attention=reduction.gone["attention"], compensate=remembering)
    judged = checkpoints.evaluate(by_hand, text.judge)
    assert_allclose(reduction.losses["reduced"].window_losses, judged.window_losses)
    assert reduction.choice.layers == checkpoints.choose(network, 2, remembering, text.choose).layers


def test_the_cache_shrinks_by_what_is_gone(network, text):
    smaller = checkpoints.drop(network, attention=[0, 3])
    costs = checkpoints.cost({"whole": network, "smaller": smaller}, text.judge[:2], new_tokens=2, repeat=1)
    assert costs["whole"].cache_bytes == 4 * 2 * 8 * 8  # layers, keys and values, one head of 8, float64
    assert costs["smaller"].cache_bytes == costs["whole"].cache_bytes / 2
    gone = sum(p.numel() for i in (0, 3) for p in network.layers[i].self_attn.parameters())
    assert costs["whole"].parameters - costs["smaller"].parameters == gone
    assert min(spent.prefill for spent in costs.values()) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, t: checkpoints.split_text(n, TEXT[:30], window=8), "30 tokens, 3 windows of 8: at least 5"),
        (lambda n, t: checkpoints.split_text(n, TEXT, window=1), "at least two tokens, got 1"),
        (lambda n, t: checkpoints.split_text(n, [TEXT, TEXT], window=8), "one text at a time"),
        (lambda n, t: checkpoints.reduce(n, t), "how many sublayers"),
        (lambda n, t: checkpoints.reduce(n, t, count={"attention": 0}), "nothing to drop"),
        (lambda n, t: checkpoints.reduce(n, t, count={"atention": 1}), "unknown part 'atention'"),
        (lambda n, t: checkpoints.reduce(n, t, count={"blocks": 1}), "choose by importance"),
        (lambda n, t: checkpoints.reduce(n, t, count={"attention": 1}, compensate=False), "choose by importance"),
        (lambda n, t: checkpoints.reduce(n, t, count={"mlp": 9}, by="importance"), "there are 4 layers"),
        (lambda n, t: checkpoints.reduce(n, t, count={"attention": 4}), "all 4 attention layers would be gone"),
        (lambda n, t: checkpoints.reduce(n, t, layers={"attention": (7,)}), "7"),
        (
            lambda n, t: checkpoints.reduce(n, t, count={"mlp": 1}, by="luck"),
            "'loss', 'importance' or 'worst', got 'luck'",
        ),
        (
            lambda n, t: checkpoints.reduce(n, t, layers={"mlp": (1,)}, memory=True, compensate=False),
            "a memory needs gains",
        ),
        (lambda n, t: checkpoints.cost({"a": n}, t.judge, repeat=0), "at least 1"),
    ],
)
def test_what_cannot_be_done_is_said(network, text, call, message):
    with pytest.raises(ValueError, match=message.replace("...", r"\.\.\.")):
        call(network, text)
