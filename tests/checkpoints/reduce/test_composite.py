"""Models of text and images: the decoder is read exactly, loses a sublayer, comes back from disk and goes on writing.

Vision towers alone are read and reduced in the same way, of images instead of a text.
"""

from itertools import cycle

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

from ctrlattn import checkpoints

_TEXT = {
    "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 32, "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": None, "max_position_embeddings": 64,
}  # fmt: skip
_EYE = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 16,
    "patch_size": 8, "depth": 2, "num_heads": 2, "embed_dim": 16,
}  # fmt: skip
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
# first word of the classes -> (more of the text's configuration, more of the images')
COMPOSITE = {
    "Llava": ({"model_type": "llama"}, {"model_type": "clip_vision_model"}),
    "LlavaNext": ({"model_type": "mistral"}, {"model_type": "clip_vision_model"}),
    "VipLlava": ({"model_type": "llama"}, {"model_type": "clip_vision_model"}),
    "Qwen2VL": (_ROPE, {"hidden_size": 24, "out_hidden_size": 24}),
    "Qwen2_5_VL": (_ROPE, {"out_hidden_size": 24}),
    "Qwen3VL": (_ROPE, {"out_hidden_size": 24}),
    "Gemma3": ({}, {}),
    "Mistral3": ({"model_type": "mistral"}, {"model_type": "pixtral"}),
    "Idefics3": ({"model_type": "llama"}, {}),
    "SmolVLM": ({"model_type": "llama"}, {}),
    "PaliGemma": ({"model_type": "gemma"}, {"model_type": "siglip_vision_model"}),
    "InternVL": ({"model_type": "qwen2"}, {}),
    "Aria": ({}, {}),
}


def composite(name):
    text, eye = COMPOSITE[name]
    config = getattr(transformers, f"{name}Config")(text_config={**_TEXT, **text}, vision_config={**_EYE, **eye})
    config._experts_implementation = config.text_config._experts_implementation = "eager"
    for key in ("image_token_id", "image_token_index"):
        if hasattr(config, key):
            setattr(config, key, 59)
    torch.manual_seed(0)
    return checkpoints.load(getattr(transformers, f"{name}ForConditionalGeneration")(config).double().eval())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "part"), [*zip(COMPOSITE, cycle(("attention", "mlp")), strict=False)])
def test_the_decoder_of_a_composite_model(text, tmp_path, name, part):
    """An attention goes bare and an MLP leaves a gain, each from every other type."""
    network = composite(name)
    assert len(network.layers) == 3
    assert [s.kind for s in network.sublayers()] == ["attention", "mlp"] * 3
    ids = 1 + text(2, 9)
    recorded = checkpoints.tap(network, ids[0])
    assert recorded.sizes["depth"] == 4
    sums = checkpoints.recompose(recorded, network).to_numpy()
    assert_allclose(sums, recorded.state[1:], rtol=0, atol=1e-10 * np.abs(sums).max())
    state = outputs(network, torch.as_tensor(ids[:1]))
    assert_allclose(recorded.state.to_numpy()[0], state[0], rtol=0, atol=1e-6)
    smaller = checkpoints.drop(network, **{part: [1]}, compensate=None if part == "attention" else text(20))
    back = checkpoints.load(checkpoints.save(smaller, tmp_path / part), dtype="float64")
    x = torch.as_tensor(ids)
    with torch.no_grad():
        before, after, again = (one.model(input_ids=x).logits for one in (network, smaller, back))
    assert float((before - after).abs().max()) > 1e-4
    assert_allclose(again, after, rtol=0, atol=1e-5)
    options = {"attention_mask": torch.ones_like(x), "max_new_tokens": 4, "do_sample": False}
    written = smaller.model.generate(x, **options)
    assert torch.equal(written, back.model.generate(x, use_cache=False, **options))


def outputs(network, ids):
    """The streams of the decoder as transformers collects them."""
    with torch.no_grad():
        states = network.model(input_ids=ids, output_hidden_states=True).hidden_states
    return [state[0].numpy() for state in states]


TOWERS = {
    "CLIPVisionModel": ("CLIPVisionConfig", {}),
    "SiglipVisionModel": ("SiglipVisionConfig", {}),
    "Dinov2Model": ("Dinov2Config", {"layerscale_value": 0.7}),
    "PixtralVisionModel": ("PixtralVisionConfig", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOWERS)
def test_a_vision_tower(tmp_path, name):
    config, more = TOWERS[name]
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 32}
    config = getattr(transformers, config)(**sizes, image_size=16, patch_size=4, initializer_range=0.3, **more)
    network = checkpoints.load(getattr(transformers, name)(config).double().eval())
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    recorded = checkpoints.tap(network, images[0])
    sums = checkpoints.recompose(recorded, network).to_numpy()
    assert_allclose(sums, recorded.state[1:], rtol=0, atol=1e-10 * np.abs(sums).max())
    with torch.no_grad():
        whole = network.model(images[:1]).last_hidden_state
        half = checkpoints.drop(network, attention=[1])
        smaller = checkpoints.drop(half, mlp=[0])
        back = checkpoints.load(checkpoints.save(smaller, tmp_path / "small"), dtype="float64")
        between, after = (one.model(images[:1]).last_hidden_state for one in (half, smaller))
        assert float((between - whole).abs().max()) > 1e-4
        assert float((after - between).abs().max()) > 1e-4
        assert_allclose(back.model(images[:1]).last_hidden_state, after, rtol=0, atol=1e-5)
