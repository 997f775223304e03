"""Summaries over a stream of texts: equal to those of everything at once, in memory that does not grow."""

import gc
import tracemalloc
from functools import reduce

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.measure.summaries import merge, running_moments  # noqa: E402
from ctrlattn.signals import feedback_gain  # noqa: E402

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
TEXT = {"vocab_size": 40, "max_position_embeddings": 64, **SIZES}
MODELS = {
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**TEXT)),
    "gpt_neox": lambda t: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**TEXT)),
    "bert": lambda t: t.BertModel(t.BertConfig(**TEXT)),
    "vit": lambda t: t.ViTModel(t.ViTConfig(**SIZES, image_size=8, patch_size=4)),
}


def tiny(name):
    torch.manual_seed(0)
    return checkpoints.load(MODELS[name](transformers).double(), attention="sdpa")


def texts_of(checkpoint, count=4):
    rng = np.random.default_rng(0)
    if checkpoint.model.main_input_name == "pixel_values":
        return [rng.standard_normal((3, 8, 8)) for _ in range(count)]
    return [rng.integers(0, 40, size) for size in rng.integers(1, 12, count)]


@pytest.mark.parametrize("name", MODELS)
def test_summaries_are_those_of_the_tapped_signals(name):
    """A second way: everything recorded by tap, then reduced at once by numpy."""
    checkpoint = tiny(name)
    texts = texts_of(checkpoint)
    dataset = checkpoints.summaries(checkpoint, texts, window=64)
    taps = [checkpoints.tap(checkpoint, text) for text in texts]
    mid = "state" if checkpoint.sublayers()[0].parallel else "mid"
    for kind, before in {"attention": "state", "mlp": mid}.items():
        x = np.concatenate([text[before].to_numpy()[:3] for text in taps], 1)
        added = np.concatenate([text[f"{kind}_out"].to_numpy() for text in taps], 1)
        values = {
            "gain": feedback_gain(x, added),
            "state_norm": np.linalg.norm(x, axis=-1),
            "contribution_norm": np.linalg.norm(added, axis=-1),
        }
        for statistic, value in values.items():
            for suffix, reduced in {
                "mean": value.mean(1),
                "std": value.std(1),
                "min": value.min(1),
                "max": value.max(1),
            }.items():
                ours = dataset[f"{statistic}_{suffix}"].sel(kind=kind)
                # eager attention, which tap needs, takes its softmax in float32
                assert_allclose(ours, reduced, rtol=0, atol=1e-6 * np.abs(value).max())
    assert dataset.attrs["tokens"] == sum(text.sizes["token"] for text in taps)
    assert dataset.attrs["texts"] == dataset.attrs["windows"] == 4


def test_a_stream_names_its_tokens_and_windows():
    checkpoint = tiny("llama")
    windows = list(checkpoints.stream(checkpoint, [[1, 2, 3, 4, 5], [], [6, 7]], window=3))
    assert [one["text"].to_numpy().tolist() for one in windows] == [["1", "2", "3"], ["4", "5"], ["6", "7"]]
    assert [(one.attrs["text_number"], one.attrs["window_number"]) for one in windows] == [(0, 0), (0, 1), (2, 2)]
    alone = checkpoints.tap(checkpoint, [4, 5])
    gain = feedback_gain(alone["mid"].to_numpy(), alone["mlp_out"].to_numpy())
    assert_allclose(windows[1]["gain"].sel(kind="mlp"), gain, atol=1e-6)


def test_an_own_statistic():
    checkpoint = tiny("llama")
    dataset = checkpoints.summaries(
        checkpoint, [[1, 2, 3]], statistics={"feature_3": lambda x, contribution: contribution[..., 3]}
    )
    tapped = checkpoints.tap(checkpoint, [1, 2, 3])["mlp_out"][..., 3]
    assert_allclose(dataset["feature_3_mean"].sel(kind="mlp"), tapped.mean("token"), atol=1e-7)
    assert "gain_mean" not in dataset


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_merged_moments_are_those_of_all_values(offset):
    rng = np.random.default_rng(0)
    values = offset + rng.standard_normal((2, 3, 101))
    parts = np.split(values, [1, 2, 40, 90], -1)
    moments = running_moments(parts[0])
    for part in parts[1:]:
        moments = merge(moments, running_moments(part))
    assert moments.total == 101
    assert_allclose(moments.mean, values.mean(-1), rtol=1e-14, atol=1e-15)
    # A sum of squares would have lost everything at 1e8: 1e16 has no digit left for a variance of 1.
    assert_allclose(moments.std, values.std(-1), rtol=1e-7)
    assert_allclose(moments.low, values.min(-1), rtol=0)
    assert_allclose(moments.high, values.max(-1), rtol=0)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_texts():
    checkpoint = tiny("llama")
    texts = texts_of(checkpoint, 1)[0]

    def peak(count):
        kept = []

        def progress(windows, tokens):
            if windows == count:
                gc.collect()  # what is rubbish by now is not kept, whenever it would have been looked for
                kept.append(sum(type(one) is torch.Tensor for one in gc.get_objects()))

        tracemalloc.start()
        dataset = checkpoints.summaries(checkpoint, (texts for _ in range(count)), progress=progress)
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert dataset.attrs["windows"] == count
        return high, kept[0]

    peak(2)  # what is imported and cached on first use
    few, tensors = peak(6)
    many, more_tensors = peak(30)
    assert many < 1.2 * few
    assert more_tensors <= tensors + 3


def test_progress_and_hooks():
    checkpoint, seen = tiny("llama"), []
    checkpoints.summaries(checkpoint, [[1, 2, 3], [4]], window=2, progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 3), (3, 4)]
    one = checkpoints.stream(checkpoint, [[1, 2, 3], [4]])
    next(one)
    # Between two windows, and when the rest is never asked for, the model is as it was.
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in checkpoint.model.modules())


@pytest.mark.parametrize(
    ("texts", "options", "word"),
    [
        ("one text", {}, r"\[text\]"),
        ([], {}, "no token"),
        ([[], []], {}, "no token"),
        ([[1]], {"window": 0}, r"1 \.\.\. 64"),
        ([[1]], {"window": 65}, r"1 \.\.\. 64"),
        ([[1], [99]], {}, r"0 \.\.\. 39"),
        (["a"], {}, "tokenizer"),
    ],
)
def test_bad_texts(texts, options, word):
    with pytest.raises(ValueError, match=word):
        checkpoints.summaries(tiny("llama"), texts, **{"window": 8, **options})


def test_values_that_are_not_finite_name_their_place():
    checkpoint = tiny("llama")
    bad = {"log": lambda x, contribution: torch.log(x[..., 0] * 0 - 1)}
    with pytest.raises(ValueError, match="log_mean of the attention in layer 0"):
        checkpoints.summaries(checkpoint, [[1, 2]], window=4, statistics=bad)


def test_moments_of_what_is_not_finite_are_not_finite_without_a_warning():
    moments = [running_moments(np.array([1.0, number])) for number in (np.inf, np.nan, np.inf)]
    assert not np.isfinite(reduce(merge, moments).mean)
