"""x + F(norm(x)) -> x, or x + G norm(x) + b: sublayers taken out of a real network, bare or with a static gain.

Question: what does it cost to take a sublayer out of a real network, and how much of that does a static gain win
back? The text is split by document before anything is fitted: calibration (gains), selection (choice of the layers),
test (losses that are reported, looked at once a configuration). Plays are text of another kind; gains are fitted to
them in one row alone, which says so. Compared are attention, MLP and block drops by cosine importance (the published
method; by its mean over tokens and by its maximum), attention drops with gains in the same layers, with gains in the
layers that `choose` takes from one pass, and with gains that keep a fading memory of the values. Increases of the
loss are paired, window by window, with the whole network. A passage said twice, at two distances, shows what is left
of copying from the context.

How it is judged.
Plan: none was committed for gains and curves; layers are chosen on selection text, and every configuration is tested
once. The random sets of layers and the signals that may foretell a cost have one,
simulations/configs/drop_control.json, which was cut before any set was run.
Control: the same gains in layers that `choose` did not take, the same layers bare, text of another kind, and eight
layers at random (--control). Positive control: gains that were fitted half to plays win most back on plays, so that a
gain can be seen there.
Power: the unit is a document, of news 16 windows without a common one, of plays 8 windows in 7 works. The cost of
eight layers is known to ±.044 bare and ±.025 with gains on news, to ±.071 and ±.083 on plays; of 15 layers with gains
to ±.054 and ±.188.

What it shows, --full, on SmolLM2-135M. On news a gain wins back most of what a bare drop costs; half of all attention
layers with static gains cost as much as eight without, within the errors. The choice of layers adds nothing to the
gains by itself: in layers of least cosine importance they do as well on news, and cost less on plays at 15 layers (at
eight not beyond the errors). On plays gains that were fitted to news win back next to nothing, and news set in lines
or repeating itself does not help; with half of the calibration from plays most is won back on both. What a gain knows
is its text. Gains with memory know the layer's own values too: fitted to news they win back more than half on plays,
and half of all attention costs less on news than eight layers without. At eight by the mean score, MLP drops cost
more than drops of the whole blocks.

What it does not show. One small network, one thread of news and one of plays, windows of 256 tokens.

    python simulations/03_drop.py [--full --source DIR --news FILE --plays FILE] [--control] --out DIR

Without --full a tiny random network and a random text show that everything runs, and nothing else. Every configuration
is kept in DIR/drop_runs; one that is there with the same settings is not repeated.
"""

from pathlib import Path

import numpy as np
import torch
from stage.drop import FULL, SMALL, Runs, measure, owners_of_test, plays, split, tiny
from stage.drop_control import control_lines, control_of
from stage.drop_documents import labels_of, with_documents
from stage.drop_picture import draw
from stage.drop_tables import cell
from stage.running import command, save, save_numbers

from ctrlattn.checkpoints import (
    load,
)
from ctrlattn.errors import InputError
from ctrlattn.files import output_directory


def verdict(numbers):
    """The scene in words, from its numbers."""
    lines = [f"{numbers['settings']['source']}: increase of the loss in nats per token, 95 % over documents"]
    for name, points in numbers["curves"].items():
        for count in sorted(points, key=int):
            lines.append(f"{name:22} {count:>3}: {cell(points[count], 'test')}; plays {cell(points[count], 'plays')}")
    results = {name: numbers[name] for name in ("varied", "both kinds", "bare at the chosen")}
    results |= {f"{kind} by maximum, bare": result for kind, result in numbers["by maximum"].items()}
    for name, result in {**numbers["ablations"], **results}.items():
        test, plays_test = (result[part]["increase"] for part in ("test", "plays"))
        lines.append(f"eight layers, {name}: {test:+.3f}, plays {plays_test:+.3f}")
    if numbers["settings"]["source"] == "random":
        lines.append("a random network on random text: nothing follows from these numbers")
    return lines


def control_main(out, full, source, news):
    """Random sets of layers as control: write drop_control.json into `out`."""
    if full and None in (source, news):
        raise InputError("--full --control needs --source and --news: a checkpoint and a text")
    numbers, plan = control_of(output_directory(Path(out) / "drop_runs"), full, source, news)
    numbers["verdict"] = control_lines(numbers)
    return save_numbers(out, "drop_control", numbers, plan)


def main(out, seed=0, full=False, source=None, news=None, plays_file=None, control=False):
    """Run the scene and write drop.json and drop.png into `out`."""
    if control:
        return control_main(out, full, source, news)
    if full and None in (source, news, plays_file):
        raise InputError("--full needs --source, --news and --plays: a checkpoint and two texts")
    folder = output_directory(Path(out) / "drop_runs")
    if full:
        checkpoint = load(source, attention="sdpa")
        texts, documents = split(news, checkpoint.tokenizer, FULL, seed)
        texts["plays"], plays_windows, works = plays(plays_file, checkpoint.tokenizer, FULL, seed)
        texts["both kinds"] = np.concatenate([texts["calibration"][::2], plays_windows])
        owners = owners_of_test(news, checkpoint.tokenizer, FULL, seed)
    else:
        checkpoint, texts, documents = tiny(seed)
        works, owners = (None, None), [[k] for k in range(SMALL.test)]
    name = Path(checkpoint.source).name if full else "random"
    settings = {"source": name, "seed": seed, **(FULL if full else SMALL)._asdict(), "torch": str(torch.__version__)}
    # Products in bfloat16, streams, norms, losses and fits in float32: three times as fast where the processor can.
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=full):
        numbers = measure(Runs(folder, checkpoint, texts, settings))
    # A place of a file without documents is one of its own.
    windows = {"test": labels_of(owners), "plays": works[0] or [str(k) for k in range(len(texts["plays"]))]}
    numbers = with_documents(numbers, windows)
    numbers |= {"settings": settings, "documents": {**documents, "windows": windows, "owners of test": owners}}
    numbers["documents"]["plays for gains"] = works[1]
    numbers["verdict"] = verdict(numbers)
    return save(out, "drop", numbers, draw(numbers))


def options(parser):
    parser.add_argument("--source", help="directory of a checkpoint")
    parser.add_argument("--control", action="store_true", help="random sets of layers; writes drop_control.json")
    parser.add_argument("--news", help="text with one document a line")
    parser.add_argument("--plays", dest="plays_file", help="text of another kind, or a folder of such texts")
    return parser


if __name__ == "__main__":
    command(main, __doc__, "a real checkpoint on two real texts; about 15 minutes on two free cores", options)
