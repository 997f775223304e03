"""Losses against the network's own, and against what is known of a network that knows nothing."""

import math
import sys

import numpy as np
import pytest
import torch
import transformers

from ctrlattn import checkpoints
from ctrlattn.checkpoints import evaluate, perplexity


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32,
        initializer_range=0.3,
    )  # fmt: skip
    return checkpoints.load(transformers.LlamaForCausalLM(config).double())


def test_each_window_on_its_own_is_the_models_own_loss():
    checkpoint, ids = llama(), np.random.default_rng(0).integers(50, size=(5, 9))
    evaluation = evaluate(checkpoint, ids)
    with torch.no_grad():
        windows = [torch.as_tensor(window)[None] for window in ids]
        own = [float(checkpoint.model(input_ids=window, labels=window).loss) for window in windows]
    # Eager attention takes its softmax in float32 whatever the network is in.
    np.testing.assert_allclose(evaluation.window_losses, own, rtol=1e-6)
    assert evaluation.loss == pytest.approx(np.mean(own), rel=1e-6)
    assert evaluation.standard_error == pytest.approx(np.std(own, ddof=1) / math.sqrt(5), rel=1e-5)
    assert evaluation.perplexity == pytest.approx(math.exp(evaluation.loss))
    assert evaluation.tokens == 5 * 8


def test_batches_change_nothing(monkeypatch):
    checkpoint, ids = llama(), np.random.default_rng(0).integers(50, size=(5, 9))
    together = evaluate(checkpoint, ids).window_losses
    monkeypatch.setattr(sys.modules["ctrlattn.checkpoints.measure.evaluate"], "_LOGITS", 1)
    np.testing.assert_allclose(evaluate(checkpoint, ids).window_losses, together, rtol=1e-12)


def test_what_is_made_of_the_logits_is_of_one_window_at_a_time(monkeypatch):
    """Four copies of the logits of a pass, a quarter of a gigabyte each, were the largest part of the memory."""
    module = sys.modules["ctrlattn.checkpoints.measure.evaluate"]
    sizes, own = [], module.cross_entropy
    monkeypatch.setattr(
        module, "cross_entropy", lambda scores, *a, **k: sizes.append(scores.shape) or own(scores, *a, **k)
    )
    evaluate(llama(), np.random.default_rng(0).integers(50, size=(5, 9)))
    assert sizes == [(8, 50)] * 5


def test_one_window_has_no_standard_error():
    assert math.isnan(evaluate(llama(), [1, 2, 3]).standard_error)


@pytest.mark.parametrize(("n", "window", "stride"), [(40, 16, 8), (41, 16, 15), (16, 16, 4), (33, 8, 1)])
def test_sliding_window_predicts_each_token_once_from_what_its_window_holds(n, window, stride):
    checkpoint, ids = llama(), np.random.default_rng(2).integers(50, size=n)
    losses = np.full(n, np.nan)
    for start in [*range(0, n - window, stride), n - window]:
        logits = checkpoint.model(input_ids=torch.as_tensor(ids[start : start + window])[None]).logits[0]
        logs = torch.log_softmax(logits.detach(), -1)
        for t in range(start + 1, start + window):
            if np.isnan(losses[t]):
                losses[t] = -logs[t - start - 1, ids[t]]
    evaluation = perplexity(checkpoint, ids, window=window, stride=stride)
    assert evaluation.tokens == n - 1
    assert evaluation.loss == pytest.approx(losses[1:].mean(), rel=1e-6)


def test_a_long_text_by_windows_that_fit_the_table_of_positions():
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2, n_positions=8)
    checkpoint = checkpoints.load(transformers.GPT2LMHeadModel(config))
    ids = np.random.default_rng(0).integers(50, size=60)
    assert perplexity(checkpoint, ids, window=8, stride=4).tokens == 59
    assert checkpoints.split_text(checkpoint, ids, window=8).fit.shape == (4, 8)
    assert checkpoints.summaries(checkpoint, [ids]).attrs["tokens"] == 60
    for call in (lambda: perplexity(checkpoint, ids, window=9, stride=4), lambda: evaluate(checkpoint, [ids])):
        with pytest.raises(ValueError, match="positions for 8: give fewer"):
            call()


def test_bad_input_is_one_clear_line():
    checkpoint = llama()
    with pytest.raises(ValueError, match="shorter than one window: 10 tokens, window 16"):
        perplexity(checkpoint, list(range(10)), window=16, stride=8)
    with pytest.raises(ValueError, match=r"stride must be one of 1 ... window \- 1 = 15"):
        perplexity(checkpoint, list(range(20)), window=16, stride=16)
    with pytest.raises(ValueError, match="at least two tokens"):
        evaluate(checkpoint, [[1], [2]])
    encoder = transformers.BertModel(transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,
                                                             num_attention_heads=2, intermediate_size=8))  # fmt: skip
    with pytest.raises(ValueError, match="BertModel does not predict the next token"):
        evaluate(checkpoints.load(encoder), [1, 2, 3])
    with torch.no_grad():
        checkpoint.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="loss of window 0 is not finite"):
        evaluate(checkpoint, [1, 2, 3])
