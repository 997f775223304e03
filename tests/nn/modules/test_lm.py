"""The language model: decoding with a cache, generating, padding, sizes."""

import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID  # noqa: E402
from ctrlattn.nn import ControlledLM, configuration  # noqa: E402

CODE = PID(0.8, 0.5, 0.05, form="ema")
NETWORKS = ("softmax", "neutreno", "pidformer-printed", "pidformer-ema", "comparator")
IDS = torch.tensor([[0, 7, 3, 3, 10, 2, 5], [5, 5, 5, 0, 1, 4, 9]])


@pytest.mark.parametrize("name", NETWORKS)
def test_decoding_with_a_cache_is_the_full_forward(name, lm):
    model = lm(**configuration(name), kv_heads=1)
    with torch.no_grad():
        full = model(IDS)
        logits, past = model.decode(IDS[:, :4])
        pieces = [logits]
        for k in range(4, 7):
            logits, past = model.decode(IDS[:, k : k + 1], past)
            pieces.append(logits)
    npt.assert_allclose(torch.cat(pieces, 1), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generated_tokens_are_those_of_the_full_forward(temperature, lm):
    model = lm(controller=CODE, reference_gain=0.1)
    runs = []
    for cached in (True, False):
        generator = torch.Generator().manual_seed(5)
        runs.append(model.generate(IDS, 20, temperature=temperature, generator=generator, cached=cached))
    npt.assert_array_equal(*runs)
    npt.assert_array_equal(runs[0][:, :7], IDS)
    if temperature == 0:  # each token is the most likely one of a single forward over all that came before
        with torch.no_grad():
            npt.assert_array_equal(model(runs[0])[:, 6:-1].argmax(-1), runs[0][:, 7:])


def test_the_default_language_model_is_that_of_wikitext_103():
    model = ControlledLM(7)
    assert len(model.blocks) == 16
    attention, mlp = model.blocks[0].attn, model.blocks[0].mlp
    assert (attention.heads, attention.head_dim, attention.causal, attention.dropout) == (8, 16, True, 0.1)
    assert tuple(mlp.fc1.weight.shape) == (2048, 128)
    # norms; projections with qkv and proj biases; MLP
    layer = 4 * 128 + (4 * 128**2 + 4 * 128) + (2 * 128 * 2048 + 2048 + 128)
    assert sum(p.numel() for p in model.parameters()) == 16 * layer + 7 * 128 + 2 * 128


def test_padding_of_the_language_model(lm):
    model, padding = lm(controller=CODE), torch.ones(2, 7, dtype=torch.bool)
    padding[0, 4:] = False
    changed = IDS.clone()
    changed[0, 4:] = 1
    with torch.no_grad():
        a, b = model(IDS, padding=padding), model(changed, padding=padding)
    npt.assert_allclose(a[0, :4], b[0, :4], rtol=0, atol=1e-13)
