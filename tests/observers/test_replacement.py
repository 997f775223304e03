"""A signal replaced by itself changes nothing; replaced by something else it changes what follows, and only that."""

from itertools import islice

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.observers import SIGNALS, Dictionary, observe, recover, replaced, windows  # noqa: E402


@pytest.fixture
def ids(tiny, text):
    return np.stack(list(islice(windows(tiny, text, 16), 4)))


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signal_in_its_own_place_changes_nothing(tiny, ids, signal):
    clean = checkpoints.evaluate(tiny, ids)
    seen = []
    with replaced(tiny, 1, signal, lambda x: (seen.append(x), x)[1]):
        same = checkpoints.evaluate(tiny, ids)
    assert_allclose(same.window_losses, clean.window_losses, atol=1e-6)
    # What is handed over is what an observer learns from.
    assert torch.allclose(seen[0], observe(tiny, ids, 1, (signal,))[signal], atol=1e-6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.model.modules())


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_examples_alone_are_replaced(tiny, ids, signal, monkeypatch):
    # What is put in place of a signal is no part of a layer: the sums that tap compares do not hold then.
    monkeypatch.setattr("ctrlattn.checkpoints.measure.tap.require_sums", lambda *_: None)
    with replaced(tiny, 1, signal, torch.zeros_like):
        after = checkpoints.tap(tiny, ids[0])
    before = checkpoints.tap(tiny, ids[0])
    state, new = (one["state"].to_numpy() for one in (before, after))
    y = before["attention_out"][1].to_numpy()
    assert_allclose(new[2][:5], state[2][:5], atol=1e-6)  # four that are left out, and the first, without context
    if signal == "state":
        assert_allclose(new[1][5:], 0, atol=1e-6)
        assert_allclose(after["mid"][1][5:], after["attention_out"][1][5:], atol=1e-6)
    elif signal == "prediction":
        assert_allclose(after["mid"][1][5:], state[1][5:], atol=1e-6)
    elif signal == "mid":
        assert_allclose(after["mid"][1][5:], 0, atol=1e-6)
    elif signal == "mlp":
        assert_allclose(new[2][5:], state[1][5:] + y[5:], atol=1e-6)
    else:  # the prediction stays: the mean of the kept tokens before
        kept = state[1][4:]
        mean = np.array([kept[:i].mean(0) for i in range(1, len(kept))])
        assert_allclose((after["mid"][1] - after["attention_out"][1])[5:], mean, atol=1e-5)


def test_a_network_in_float64_is_observed_in_float32(tiny, words, ids):
    model = transformers.LlamaForCausalLM(tiny.model.config).double()
    wide = checkpoints.load(model, tokenizer=words)
    x = observe(wide, ids, 1, ("state",))["state"].flatten(0, 1)
    dictionary = Dictionary(16, 4, k=1)
    dictionary.measure(x)
    assert (x.dtype, dictionary(x).dtype) == (torch.float64, torch.float32)
    assert np.isfinite(recover(wide, dictionary, ids, 1, "state").reconstructed)


def likely(tiny, ids):
    """The windows as the network would go on after five tokens: to change its signals costs loss."""
    for n in range(5, ids.shape[1]):
        with torch.no_grad():
            ids[:, n] = tiny.model(torch.tensor(ids[:, :n])).logits[:, -1].argmax(-1).numpy()
    return ids


def test_recovered_loss_of_what_is_known(tiny, ids):
    ids = likely(tiny, ids)
    exact = Dictionary(16, 32, k=None)  # D and -D: z D is x whatever x is
    with torch.no_grad():
        for rows in (exact.encoder, exact.decoder):
            rows.copy_(torch.cat([torch.eye(16), -torch.eye(16)]))
    recovered = recover(tiny, exact, ids, 1, "state")
    assert_allclose(recovered.reconstructed, recovered.clean, atol=1e-6)
    assert_allclose([recovered.share, recovered.share_of_zero], 1, atol=1e-4)
    nothing = Dictionary(16, 4, k=1)
    nothing.measure(observe(tiny, ids, 1, ("state",))["state"].flatten(0, 1))
    with torch.no_grad():
        nothing.threshold[:] = -1e6
    lost = recover(tiny, nothing, ids, 1, "state")
    assert lost.clean < lost.mean
    assert_allclose(lost.share, 0, atol=1e-4)  # it gives the mean
    assert recovered.standard_error < 1e-6


def test_losses_of_the_windows_are_those_whose_means_are_told(tiny, ids):
    dictionary = Dictionary(16, 4, k=1)
    dictionary.measure(observe(tiny, ids, 1, ("state",))["state"].flatten(0, 1))
    found = recover(tiny, dictionary, likely(tiny, ids), 1, "state")
    assert set(found.window_losses) == {"clean", "reconstructed", "mean", "zero"}
    for name, losses in found.window_losses.items():
        assert losses.shape == (len(ids),)
        assert_allclose(losses.mean(), getattr(found, name), rtol=1e-12)
    assert_allclose(found.window_losses["clean"], checkpoints.evaluate(tiny, ids).window_losses, rtol=1e-12)
    for window, loss in zip(ids, found.window_losses["reconstructed"], strict=True):  # each window as if alone
        alone = recover(tiny, dictionary, window[None], 1, "state").reconstructed
        assert_allclose(loss, alone, rtol=1e-5)
    lost = found.window_losses["reconstructed"] - found.window_losses["clean"]
    assert_allclose(found.standard_error, lost.std(ddof=1) / len(ids) ** 0.5)


def test_a_signal_that_costs_nothing_has_no_share(tiny, ids):
    with torch.no_grad():
        weight = tiny.layers[1].mlp.down_proj.weight.clone()
        tiny.layers[1].mlp.down_proj.weight.zero_()
    try:
        assert np.isnan(recover(tiny, Dictionary(16, 4, k=1), ids, 1, "mlp").share)
    finally:
        with torch.no_grad():
            tiny.layers[1].mlp.down_proj.weight.copy_(weight)
