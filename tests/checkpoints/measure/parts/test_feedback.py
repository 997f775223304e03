"""The feedback of sublayers stays in its ranges, and says where a fit has nothing to fit."""

import numpy as np
import pytest
import torch
import transformers

from ctrlattn import checkpoints

IDS = [1, 5, 3, 9, 2, 5, 5, 7]


def network(dtype, change):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=23, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        initializer_range=0.2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    change(model.get_input_embeddings().weight.data)
    return checkpoints.load(model.to(dtype))


CHANGES = {
    "as it is": lambda weight: None,
    "huge": lambda weight: weight.mul_(3e4 / weight.abs().max()),
    "massive": lambda weight: weight[:, 3].fill_(2e4),
    "subnormal": lambda weight: weight.mul_(3e-7 / weight.abs().max()),
    "equal": lambda weight: weight.copy_(weight[0].clone()),
    "zero": lambda weight: weight.zero_(),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", CHANGES)
def test_figures_stay_in_their_ranges_or_say_why_they_are_nan(name, dtype):
    few = checkpoints.Effort(probes=2, singular=2, lanczos=4)
    parts = ["feedback", "diversity", "gain"]
    profile = checkpoints.feedback_profile(network(dtype, CHANGES[name]), IDS, parts=parts, effort=few)
    ranges = {"share": (0, 1), "cosine": (-1, 1), "alignment": (0, 1), "rank": (0, 16), "ratio": (0, np.inf)}
    for variable, values in profile.data_vars.items():
        numbers = values.to_numpy()
        if numbers.dtype.kind != "f":
            continue
        assert not np.isinf(numbers).any(), variable
        assert not np.isnan(numbers).any() or values.attrs.get("comment"), variable
        low, high = next((limits for word, limits in ranges.items() if word in variable), (-np.inf, np.inf))
        there = numbers[~np.isnan(numbers)]
        assert np.all((low <= there) & (there <= high)), (variable, there)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_equal_tokens_have_no_fit_and_no_rank_about_their_mean(dtype):
    profile = checkpoints.feedback_profile(network(dtype, CHANGES["equal"]), IDS, parts=["feedback", "diversity"])
    assert np.isnan(profile["predictor_gain"]).all()
    told = profile["predicted_share"].attrs["comment"]
    assert "the attention of layer 0 has no fit" in told
    assert "the mlp of layer 1 has no fit" in told
    assert np.all(profile["effective_rank_centred"] == 0)
    other = checkpoints.feedback_profile(network(dtype, CHANGES["as it is"]), IDS, parts=["feedback"])
    assert np.isfinite(other["predictor_gain"]).all()
    assert "comment" not in other["predictor_gain"].attrs
