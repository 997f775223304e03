"""Tokens with a cache are those without one, of whatever kind the cache is, after a drop and after a repeat."""

import importlib.util
import inspect

import pytest
import torch
import transformers
from transformers.cache_utils import Cache, QuantizedLayer
from transformers.generation import configuration_utils

from ctrlattn import checkpoints
from ctrlattn.errors import InputError

ROWS = ("llama", "gpt2", "neox", "gemma3")
HOW = ("first", "last", "gains", "block", "repeat")
# Caches differ by their windows, and what is left of a network by how it was changed: every way of two networks, one
# of each other network.
EACH = [
    *(("llama", how) for how in HOW), *(("gemma3", how) for how in HOW), ("olmo3", "first"), ("gpt2", "repeat"),
    ("neox", "gains"), ("mixtral", "last"), ("gpt_oss", "gains"), ("phi3", "block"),
]  # fmt: skip
WINDOWS = ("gemma3", "olmo3", "gpt_oss")  # some of their layers keep no more than six tokens


class Packed(QuantizedLayer):
    """A quantized place in a cache that packs after four tokens and loses nothing: its tokens can be compared."""

    def __init__(self):
        super().__init__(residual_length=4)

    def _quantize(self, tensor, axis):
        return tensor.clone()

    def _dequantize(self, packed):
        return packed


def caches(name, model, length):
    """{name: a maker of options of generate}: each kind of cache that this network may be given."""
    config = model.config.get_text_config()
    key = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    kinds = {
        "the usual one": dict,
        "dynamic": lambda: {key: transformers.DynamicCache(config=config)},
        "static": lambda: {key: transformers.StaticCache(config=config, max_cache_len=length)},
        "static by name": lambda: {"cache_implementation": "static"},
    }
    if name not in WINDOWS:
        kinds["quantized"] = lambda: {key: Cache(layers=[Packed() for _ in range(config.num_hidden_layers)])}
    if torch.cuda.is_available():  # offloading needs the streams of an accelerator
        kinds["offloaded"] = lambda: {"cache_implementation": "offloaded"}
    return kinds


def changed(network, how, text):
    if how == "repeat":
        return checkpoints.repeat(network, layers=(1, 3), passes=2)
    named, compensate = {
        "first": ({"attention": [0]}, None),
        "last": ({"attention": [3]}, None),
        "gains": ({"attention": [1, 2]}, text(20)),
        "block": ({"blocks": [1]}, None),
    }[how]
    return checkpoints.drop(network, **named, compensate=compensate)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), EACH)
def test_a_cache_of_any_kind_changes_no_token(network, of_type, text, name, how):
    """What is written is longer than the window of six tokens, the prompt shorter or, where there is one, longer."""
    whole = network(name) if name in ROWS else of_type(name)
    model = changed(whole, how, text).model
    for length in (3, 8) if name in WINDOWS else (3,):
        ids = torch.as_tensor(1 + text(2, length) % 49)
        options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False}
        expected = model.generate(ids, use_cache=False, **options)
        for kind, cache in caches(name, model, length + 4).items():
            assert torch.equal(model.generate(ids, **options, **cache()), expected), kind


OFFLOADED = ("offloaded", "offloaded_static", "offloaded_hybrid", "offloaded_hybrid_chunked")
LAWS = {"gains": False, "memory": True}


@pytest.mark.parametrize("how", [*LAWS, "repeat"])
def test_every_cache_that_transformers_names(network, text, how):
    """The same tokens as without a cache, or a refusal; a gain with memory has no place in a cache of fixed size."""
    whole, ids = network("llama"), torch.as_tensor(1 + text(2, 8) % 49)
    model = (
        checkpoints.repeat(whole, layers=(1, 3), passes=2)
        if how == "repeat"
        else checkpoints.drop(whole, attention=[1, 2], compensate=checkpoints.Calibration(text(20), memory=LAWS[how]))
    ).model
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
    expected = model.generate(ids, use_cache=False, **options)
    for name in configuration_utils.ALL_CACHE_IMPLEMENTATIONS:
        if name in OFFLOADED and not torch.cuda.is_available():
            continue  # torch itself says that it needs an accelerator
        if name == "quantized" and importlib.util.find_spec("optimum") is None:
            with pytest.raises(ImportError, match="optimum-quanto"):
                model.generate(ids, cache_implementation=name, **options)
        elif how == "memory" and name in ("static", "sliding_window", "hybrid_chunked", *OFFLOADED[1:]):
            with pytest.raises(InputError, match="needs a dynamic cache, got a place of type StaticLayer"):
                model.generate(ids, cache_implementation=name, **options)
        else:
            assert torch.equal(model.generate(ids, cache_implementation=name, **options), expected), name
