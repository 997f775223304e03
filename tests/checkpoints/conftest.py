"""Tiny random networks of four families, and a text for them; as fixtures, since tests import no tests."""

from copy import deepcopy
from functools import cache

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


_TEXT = {**_SIZE, **_MORE, "max_position_embeddings": 64}
_GROUPED = {**_TEXT, "num_key_value_heads": 1, "head_dim": 8}
_WINDOWS = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"] * 2}
_DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}  # fmt: skip
_EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4}
# model type -> (first word of its classes, sizes): networks of several kinds that have no row in the table of families.
TYPES = {
    "mixtral": ("Mixtral", {**_GROUPED, **_EXPERTS}),
    "olmo2": ("Olmo2", _TEXT),
    "olmo3": ("Olmo3", {**_TEXT, **_WINDOWS}),
    "phi3": ("Phi3", {**_TEXT, "num_key_value_heads": 1}),
    "gpt_oss": ("GptOss", {
        **_GROUPED, **_EXPERTS, **_WINDOWS, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    }),
    "gemma4_text": ("Gemma4", {
        **_GROUPED, **_WINDOWS, "global_head_dim": 8, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 4,
        "vocab_size_per_layer_input": 50,
    }),
    "qwen3_5_text": ("Qwen3_5", {**_GROUPED, **_DELTA}),
    "qwen3_next": ("Qwen3Next", {
        **_GROUPED, **_DELTA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    }),
    "deepseek_v3": ("DeepseekV3", {
        **_TEXT, "num_key_value_heads": 3, "q_lora_rank": 12, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
        "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 16,
    }),
    "falcon": ("Falcon", {key: value for key, value in {**_SIZE, **_MORE}.items() if key != "intermediate_size"}),
    "jamba": ("Jamba", {
        **{key: value for key, value in _GROUPED.items() if key != "head_dim"}, "attn_layer_period": 2,
        "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4,
        "num_experts_per_tok": 2, "mamba_d_state": 4, "mamba_d_conv": 3,
    }),
}  # fmt: skip


@cache
def _traced(name):
    """A tiny random checkpoint of a model type, in float64; it is traced once, and nobody gets it but in copies."""
    prefix, sizes = TYPES[name]
    config = getattr(transformers, prefix + ("TextConfig" if name.endswith("_text") else "Config"))(**sizes)
    config._experts_implementation = "eager"  # the grouped products of experts know no doubles
    torch.manual_seed(0)
    model = getattr(transformers, prefix + "ForCausalLM")(config).double().eval()
    return checkpoints.load(model)


@pytest.fixture(scope="session")
def of_type():
    """of_type(model type) -> Checkpoint, to do anything with, of a network without a row in the table of families."""
    return lambda name: deepcopy(_traced(name))


def _text(windows=6, length=12, seed=0):
    return np.random.default_rng(seed).integers(50, size=(windows, length))


@pytest.fixture(scope="session")
def network():
    """network(name, double=True) -> Checkpoint."""
    return _network


@pytest.fixture(scope="session")
def text():
    """text(windows, length, seed) -> ids."""
    return _text


_ALSO = [pytest.param(name, marks=pytest.mark.slow) for name in ("neox", "gemma3")]


@pytest.fixture(params=["llama", "gpt2", *_ALSO])
def causal(request):
    """Each of the four, by name; the quick selection takes two that differ in norms, positions and groups of heads."""
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
