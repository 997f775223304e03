"""Spectral and numerical radius of layers against the eigenvalues of their dense Jacobians."""

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

from ctrlattn import checkpoints
from ctrlattn.stability import numerical_radius

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 31}
IDS = [3, 1, 4, 1, 5]
MODELS = {
    "gpt2": lambda: transformers.GPT2Model(transformers.GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=31)),
    "llama": lambda: transformers.LlamaModel(transformers.LlamaConfig(**SIZES, intermediate_size=12)),
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SIZES, intermediate_size=12)),
    "gpt_neox": lambda: transformers.GPTNeoXModel(transformers.GPTNeoXConfig(**SIZES, intermediate_size=12)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_radii_are_those_of_the_dense_jacobian(name):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn_like(weight))
    network = checkpoints.load(model)
    effort = checkpoints.Effort(singular=2, lanczos=40, arnoldi=40)
    profile = checkpoints.feedback_profile(network, IDS, parts=["nonnormality"], effort=effort)
    for layer in range(2):
        J = checkpoints.layer_jacobian(network, layer, IDS) @ np.eye(40)
        assert_allclose(profile["spectral_radius"][layer], np.abs(np.linalg.eigvals(J)).max(), rtol=1e-5)
        u, s, vt = np.linalg.svd(J)
        q = np.linalg.qr(np.concatenate([vt[:2], u[:, :2].T]).T)[0]
        on_vectors, found = numerical_radius(q.T @ J @ q), float(profile["numerical_radius"][layer])
        if network.causal:
            assert_allclose(found, max(on_vectors, float(profile["spectral_radius"][layer])), rtol=1e-4)
        assert s[0] / 2 * (1 - 1e-6) <= on_vectors <= found * (1 + 1e-4)
        assert found <= numerical_radius(J) * (1 + 1e-5)
