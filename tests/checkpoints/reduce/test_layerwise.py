"""A text on its way through a network, layer after layer, is where the whole network has it."""

import pytest
import torch
from numpy.testing import assert_allclose

from ctrlattn import checkpoints
from ctrlattn.checkpoints.reduce.layerwise import Flow, weights_of

EAGER = 5e-5  # the attention that `tap` records has its softmax in float32, whose rounding grows over four layers


@pytest.mark.parametrize("start", [0, 2])
def test_streams_and_signals_are_those_of_tap(network, text, causal, start):
    checkpoint, ids = network(causal), torch.as_tensor(text(3))
    flow = Flow.start(checkpoint.family, checkpoint.model, ids, start)
    recorded = [checkpoints.tap(checkpoint, row) for row in ids]
    for layer in range(start, 4):
        x = torch.cat(list(flow.streams))
        for window, signals in zip(x, recorded, strict=True):
            assert_allclose(window, signals["state"][layer], atol=EAGER)
        for kind in ("attention", "mlp"):
            sublayer = checkpoint.sublayers(kind)[layer]
            u, y, read = (torch.cat(signal) for signal in zip(*flow.signals(sublayer), strict=True))
            with torch.no_grad():
                assert_allclose(u, sublayer.norm(read), atol=1e-12)
            for i, signals in enumerate(recorded):
                assert_allclose(y[i], signals[f"{kind}_out"][layer], atol=EAGER)
        if layer < 3:
            flow = flow.after(layer)


def test_matrices_are_those_of_the_attention(network, text):
    checkpoint, ids = network("llama"), torch.as_tensor(text(2))
    flow = Flow.start(checkpoint.family, checkpoint.model, ids, 1)
    sublayer = checkpoint.sublayers("attention")[1]
    (matrices,) = flow.matrices(sublayer, sublayer.module, 1)
    for row, matrix in zip(ids, matrices, strict=True):
        seen = matrix.tril()  # the future is not masked: among the tokens of the past the shares are those of attention
        assert_allclose(seen / seen.sum(-1, keepdim=True), checkpoints.tap(checkpoint, row)["attention"][1], atol=EAGER)
    assert not sublayer.module._forward_hooks


def test_weights_are_one_over_the_mean_square():
    x = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    assert weights_of(x)[:, 0].tolist() == pytest.approx([1 / 3, 0.0])
