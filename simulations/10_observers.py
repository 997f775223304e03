"""z = TopK(E(x - b) + c), x̂ = zD + b: what sparse observers see of the state and of the error, in whose networks.

Question: is the error a sparser signal than the state, are its features more easily named, and are the features of
two networks alike? Sparse autoencoders find the features behind a signal. Here they observe the signals of the loop:
the state of a layer, its error as the automaton writes it (the state minus the mean of the tokens before), and mid,
the state with what attention adds. All have the same examples and the same budget, with several seeds and layers.
Then features of two networks that read the same text are paired word by word, and the spaces of paired features
compared, with random pairs as the control and two seeds of one network as the ceiling. Scene 11 leads such a feature
to a set-point.

How it is judged.
Plan: no plan was fixed beforehand, the scene is exploratory.
Control: the state, on the same examples with the same budget; random pairs of features for the likeness of networks,
and two seeds of one network as its ceiling. Nothing is planted that is known to be sparser, so that there is no
positive control for the first two questions.
Power: the unit is a seed of the dictionary, of which there are 3, whose sign flips have no p below .25; no interval
is one over texts. The explained share of the error less that of the state is known to ±.0033 or better, the share on
one token to ±.023. Of 99 draws of random pairs none is as alike as the networks, p .01.

What it shows, --full on SmolLM2-135M-Instruct, layers 4, 12, 20, plays of Shakespeare. On this text the error is not
sparser: as many features explain .019 to .028 less of it than of the state, and its features are not seen to fall
more on one token (layer 20: less, by .005 to .022). Features of two networks are alike beyond chance, and less than
those of two seeds of one: SVCCA .26 with Gemma-3-270M and with MiniLM, .33 between seeds, .16 of random pairs. A
dictionary here has 1,024 features, 16 an example, and learned in 136 steps from 32,964 tokens; 3,936 were held out.

What it does not show. Anything beyond this text and these three seeds: other texts were not measured. Small
dictionaries and few tokens against published practice: what a longer training would find is not told. Intervals are
over seeds of the dictionary, on one text. Each likeness is that of one pair of dictionaries, so that the order of
networks and seeds has no interval. The share of a feature on its most frequent token is a proxy of how easily it is
named, not a judgement of meaning.

    python simulations/10_observers.py [--full --model DIR [--other DIR:LAYER]] [--text FILE] --out DIR

Without --model it observes an encoder that a package ships (all-MiniLM-L6-v2). What is in DIR/observers_runs is not
trained or measured again.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from stage.observers import (
    ABSENT,
    FULL,
    MODEL,
    SIGNALS,
    SMALL,
    TEXT,
    _budget,
    _counted,
    dictionaries,
    differences,
    likenesses,
    measured,
    recoveries,
    shipped_text,
    stored,
    stream_of,
)
from stage.observers_picture import picture
from stage.running import command, numbers_of, save
from stage.verdict import signed

from ctrlattn import checkpoints
from ctrlattn.files import output_directory
from ctrlattn.observers.study import predicts
from ctrlattn.results import json_ready


def verdict(numbers):
    """The outcome in lines."""
    lines = [_budget(numbers)]
    for d in numbers["differences"]:
        if d["score"] != "explained" and d["signal"] != "error":
            continue
        names = {"explained": "explained share", "purity": "share on one token", "unexplained_of_state": "unexplained"}
        lines.append(
            f"layer {d['layer']}, {d['signal']} less state, {names[d['score']]}: "
            f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}] over {d['n']} seeds"
        )
    for name, loss in numbers["recovered"].items():
        lines.append(
            f"loss recovered by the {name}: {float(loss['share']):.0%} of what its mean costs; the reconstruction "
            f"costs {signed(loss['cost'])} nats per token over {len(loss['cost']['values'])} windows"
        )
    for name, likeness in numbers["universality"].items():
        cca, distances = likeness["svcca"], likeness["rsa"]
        lines.append(
            f"{name}: {likeness['pairs']} pairs, correlation {likeness['correlation']:.2f} (words shuffled "
            f"{likeness['correlation_random']:.2f}), SVCCA {cca['value']:.2f} (random pairs {cca['random']:.2f}), "
            f"RSA {distances['value']:.2f} (random pairs {distances['random']:.2f})"
        )
    return [*lines, *numbers["not run"]]


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
    for layer in sorted(size.layers, key=lambda i: i != middle):
        observers = dictionaries(checkpoint, name, text, layer, size, seeds, folder, signals)
        stream = stream_of(checkpoint, text, layer, size, signals)
        path = folder / f"rows-{name}-{layer}.json"
        numbers["rows"] += stored(path, lambda s=stream, f=observers: measured(s, f, signals, size.held))
        numbers |= _counted(stream, size)
        if layer != middle:
            continue
        first = {signal: dictionary for (signal, number), dictionary in observers.items() if number == seed}
        numbers["recovered"] = recoveries(checkpoint, first, stream, folder)
        sources = other or ([] if full else [f"{source}:{size.layers[0]}"])
        network = (checkpoint, source, name, layer)
        numbers["universality"] = likenesses(network, observers, sources, text, size, folder)
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
