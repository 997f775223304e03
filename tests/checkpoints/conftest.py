"""Tiny random networks of four families, and a text for them; as fixtures, since tests import no tests."""

import numpy as np
import pytest
import torch
import transformers

from ctrlattn import checkpoints

_SIZE = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 32}
_MORE = {"initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SIZE, **_MORE, num_key_value_heads=1))


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=50, n_embd=24, n_layer=4, n_head=3, n_inner=32, n_positions=64, **_MORE)
    )


def neox():
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**_SIZE, **_MORE, use_parallel_residual=True))


def gemma3():
    types = ["sliding_attention", "sliding_attention", "full_attention", "full_attention"]
    more = {"head_dim": 8, "num_key_value_heads": 1, "sliding_window": 6, "layer_types": types}
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**_SIZE, **_MORE, **more))


def _network(name="llama", *, double=True):
    """A checkpoint with weights that are large enough for every sublayer to matter."""
    torch.manual_seed(0)
    model = {"llama": llama, "gpt2": gpt2, "neox": neox, "gemma3": gemma3}[name]()
    return checkpoints.load(model.double() if double else model, attention="sdpa")


def _text(windows=6, length=12, seed=0):
    return np.random.default_rng(seed).integers(50, size=(windows, length))


@pytest.fixture
def network():
    """network(name, double=True) -> Checkpoint."""
    return _network


@pytest.fixture
def text():
    """text(windows, length, seed) -> ids."""
    return _text


@pytest.fixture(params=["llama", "gpt2", "neox", "gemma3"])
def causal(request):
    """Each of the four, by name."""
    return request.param


class Adapted(torch.nn.Module):
    """base(x) + x A^T B^T, with the weight of the base under the name `weight`, as adapters have it."""

    def __init__(self, base):
        super().__init__()
        self.base_layer, self.low = base, torch.nn.Parameter(0.3 * torch.randn(4, base.in_features))
        self.high = torch.nn.Parameter(0.3 * torch.randn(base.out_features, 4))

    @property
    def weight(self):
        return self.base_layer.weight

    def forward(self, x):
        return self.base_layer(x) + x @ self.low.T @ self.high.T


@pytest.fixture
def with_adapter():
    """A linear map -> the same with an adapter that is not merged."""
    return Adapted
