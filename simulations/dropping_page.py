"""drop.json of scene 03 -> docs/dropping.md: curves, ablations, speed.

python simulations/03_drop.py --full --source DIR --news FILE --plays FILE --out out/drop
python simulations/dropping_page.py out/drop     # keep the numbers and the picture, write the page
python simulations/dropping_page.py --check      # exit 1 if the page is not that of the numbers kept
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from ctrlattn.files import atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dropping.md"
PICTURE = ROOT / "docs" / "images" / "dropping.png"
KEPT = ROOT / "simulations" / "results" / "drop.json"
HEAD = """# Dropping sublayers, and putting a static gain in their place

```python
import numpy as np
import transformers
from ctrlattn import checkpoints

config = transformers.GPT2Config(vocab_size=50, n_layer=4, n_embd=16, n_head=2)  # or load("path/to/checkpoint")
whole = checkpoints.load(transformers.GPT2LMHeadModel(config), attention="sdpa")
calibration, selection, test = np.random.default_rng(0).integers(0, 50, (3, 8, 16))

scores = checkpoints.importance(whole, calibration)  # attention, mlp, block over layer, and _max
bare = checkpoints.drop(whole, attention=[1, 3])  # shares the weights that are left
smaller, choice = checkpoints.compensated_drop(whole, 2, calibration, selection)
assert len(choice.layers) == 2 and scores.sizes["layer"] == 4
assert checkpoints.evaluate(smaller, test).window_losses.shape == (8,)
assert checkpoints.save(smaller, "smaller").is_dir()  # checkpoints.load("smaller") gives it back
remembering = checkpoints.Calibration(calibration, memory=True)  # gains with memory, see below
assert checkpoints.evaluate(checkpoints.drop(whole, attention=[1, 3], compensate=remembering), test).loss > 0
fewer_heads = checkpoints.drop_heads(whole, [(3, 0), (2, 1)])  # (layer, head), scored by head_importance
```

A dropped attention layer has no part in the KV cache. In its place stands nothing, or a gain: a linear map of the
normed stream that the layer read, fitted by ridge regression to what the layer gave, layer after layer on the network
as it has become by then, each token weighted by 1/|x|². No gradients, no memory of other tokens. `choose` takes the
layers greedily by a second-order expansion of the loss: slope and Fisher curvature of the errors that all gains would
make, pairs of layers included, from one forward pass of the calibration text and one forward with two backward passes
of the selection text.

A gain with memory reads more than the last token: for each head h, y = G u + b + Σ_h W_O^h Σ_k c_hk a_hk, where a_hk
are the values W_V u of the last three tokens and four averages of all values so far, forgetting at rates .5, .8, .95
and 1 a token, each token weighted by its salience, exp of a linear map of u that is fitted to the attention it gets. It
is attention whose query is always the same, a predictor with fixed weights. W_V and W_O are the layer's own; fitted are
seven numbers c a head, then G on what is left. In generation the layer keeps a state of fixed size in the cache, exact
with and without it; no module holds a state. Not for families with a norm behind their attention (Gemma 2 and 3), nor
for caches of fixed size.

"Varied" news is the same documents, every other one set in lines, and every other window of it saying its first half
again: text that only lines, paragraphs and copying from the context predict, made without text of another kind.

Saved bare, the network is exact in plain transformers (zeros where a sublayer was, at the old cost). Saved with gains
it has `model_type` "ctrlattn" and its weights in ctrlattn.safetensors, so that plain transformers refuses it.

"""
LIMITS = """
## What this does not show

One network of 135 million parameters, two texts, few windows: the errors are over windows of one kind of text. Static
gains that were fitted to news fail on plays, while the same layers with gains fitted half to plays do well on both: the
loss is one of the calibration text, not of what a gain can do, and neither setting the news in lines nor letting it
repeat itself takes the place of the other kind. A larger ridge penalty does not either: on ten windows of plays that
are not in the tables, gains in the eight layers of least cosine importance cost +0.643, +0.636 and +0.635 at penalties
.1, 1 and 10, and on ten of the selection news +0.086, +0.093 and +0.125. A memory does, in part. Calibrate on text like
that which will be read. The penalty of gains with memory, 1, and that salience is worth its map, were decided on those
twenty windows; nothing was fitted to plays but the row that says so. There, in the eight layers chosen for static
gains, penalties .1, 1 and 10 cost +0.046, +0.058 and +0.079 on news and +0.304, +0.297 and +0.287 on plays, and plain
averages without salience +0.051 and +0.378 (penalty .1). Copying from far back, the known weak spot of dropped
attention, is measured above on short texts only: the loss on ordinary text, by which layers are chosen, does not see
what is lost of it.

Tried and left out, since they did not help on the selection text: fitting to the stream of the whole network instead of
to the layer's own output (which folds what came before into each gain), and refitting the MLPs' output matrices after
it. Joint choice is greedy with pairs counted; sets of layers were not exchanged against each other. Not tried: a gain
on the residual, more calibration text, memories of queries that differ from token to token.

Matrix products ran in bfloat16 (autocast), streams, norms, losses and fits in float32; on 32 windows of 256 tokens the
loss of the whole network was 3.4465 so and 3.4456 in float32.
"""
ORDER_NOTE = """
What appears, by mean and by maximum, on both texts, is attention << blocks < MLP: taking the attention out together
with its MLP costs less than taking out the MLP alone. The published table has both orders: of Llama-2-13B eight MLPs
less cost less than eight blocks less (61.9 against 60.7 points), of Mistral-7B more (53.4 against 58.6).

Scores are those of 16 windows of 256 tokens of news. There the mean takes none of the layers with a position that turns
by more than 60 degrees (MLPs 0, 10, 11 and 29): the eight are layers side by side, and what they cost together is not
the sum of what each costs.
"""
COPY_NOTE = """A passage of 64 tokens, other text, and the passage again: loss of the passage, nats a token. What a
network says of it the second time rests on attention that finds the first.
"""


def cell(result, part):
    return f"{result[part]['increase']:+.3f} ± {2 * result[part]['standard_error']:.3f}"


def curve_lines(curves):
    rows = ["| what is dropped | how many | news | plays |", "|---|---|---|---|"]
    for name, points in curves.items():
        for count in sorted(points, key=int):
            rows.append(f"| {name} | {count} | {cell(points[count], 'test')} | {cell(points[count], 'plays')} |")
    return rows


def recovered(curves, name, part):
    """Share of the published method's loss that is won back at each number of layers both have."""
    bare, gains = curves["attention, by cosine"], curves[name]
    both = sorted((n for n in gains if n in bare), key=int)
    return {n: 1 - gains[n][part]["increase"] / bare[n][part]["increase"] for n in both}


def reached(value, bound):
    return "reached" if value <= bound else "missed"


def outcome(numbers):
    curves = numbers["curves"]
    said = []
    kinds = {"chosen + gain": "static gains", "chosen + memory": "gains with memory"}
    for name, words in kinds.items():
        for part, where in (("test", "On news"), ("plays", "On plays")):
            shares = ", ".join(f"{share:.0%} at {n}" for n, share in recovered(curves, name, part).items())
            said.append(
                f"- {where} {words} in chosen layers win back, of what as many bare drops by cosine cost: {shares}."
            )
    for count, must, stretch in (("8", 0.10, 0.075), ("15", 0.38, 0.25)):
        increases = {words: curves[name][count]["test"]["increase"] for name, words in kinds.items()}
        each = "; ".join(
            f"{words} {x:+.3f}, {must:+.3f} {reached(x, must)}, {stretch:+.3f} {reached(x, stretch)}"
            for words, x in increases.items()
        )
        said.append(f"- {count} layers on news, {must:+.3f} asked and {stretch:+.3f} as a stretch: {each}.")
    shares = {words: recovered(curves, name, "plays")["8"] for name, words in kinds.items()}
    each = ", ".join(f"{words} {reached(0.65, share)} ({share:.0%})" for words, share in shares.items())
    said.append(f"- At least 65 % recovered on plays at 8 layers, fitted to news alone: {each}.")
    return said


ORDERS = {"attention": "attention, by cosine", "mlp": "MLP, by cosine", "blocks": "blocks, by cosine"}


def ordering_lines(numbers):
    """Attention, MLP and blocks at eight, by the mean and by the maximum of importance."""
    by = {
        "mean": {kind: numbers["curves"][name]["8"] for kind, name in ORDERS.items()},
        "maximum": numbers["by maximum"],
    }
    rows = ["| eight, bare, by | attention | MLP | blocks | attention < MLP < blocks |", "|---|---|---|---|---|"]
    for name, results in by.items():
        for part, words in (("test", "news"), ("plays", "plays")):
            increases = [results[kind][part]["increase"] for kind in ORDERS]
            cells = " | ".join(cell(results[kind], part) for kind in ORDERS)
            rows.append(f"| {name}, {words} | {cells} | {'yes' if increases == sorted(increases) else 'no'} |")
    each = ", ".join(f"{mlp['layers'][0]} {mlp['test']['increase']:+.3f}" for mlp in numbers["MLP alone"])
    together = numbers["curves"]["MLP, by cosine"]["8"]["test"]["increase"]
    total = sum(mlp["test"]["increase"] for mlp in numbers["MLP alone"])
    note = (
        f"Each of the eight MLPs of least mean importance dropped alone, on news: {each}; {total:+.3f} in sum, "
        f"{together:+.3f} together."
    )
    return [*rows, "", note, ORDER_NOTE, *long_lines(numbers["long windows"])]


def long_lines(results):
    together, worst = results["together"], results["worst"]
    layer, layers = worst["layers"][0], ", ".join(map(str, together["layers"]))
    return [
        f"Scored on two windows of 2,048 tokens the eight MLPs by the mean are {layers}: "
        f"together {cell(together, 'test')} on news. Layer {layer}, which turns a position furthest, costs "
        f"{cell(worst, 'test')} alone. By the maximum it is never taken: 12 to 19 go on these windows, the short ones, "
        "and the short ones with a BOS token in front, which changes neither eight. So the maximum keeps off what must "
        'not be dropped, and is no better an order among the rest; `reduce(..., by="worst")` takes it.',
        "",
    ]


def copy_lines(copies):
    copies = {name: losses for name, losses in copies.items() if name != "seconds"}
    gaps = list(copies["whole"])
    titles = " | ".join(f"again after {gap}" for gap in gaps)
    rows = [f"| network | first | {titles} |", "|---" * (2 + len(gaps)) + "|"]
    for name, losses in copies.items():
        again = " | ".join(f"{losses[gap]['again']:.2f} ± {2 * losses[gap]['standard_error']:.2f}" for gap in gaps)
        rows.append(f"| {name} | {losses[gaps[0]]['first']:.2f} | {again} |")
    return rows


def ablation_lines(numbers):
    rows = ["| in eight layers | news | plays |", "|---|---|---|"]
    curves = numbers["curves"]
    main = {
        "gains in the chosen, as above": curves["chosen + gain"]["8"],
        "gains of rank 255 in the same": numbers["ablations"]["rank 255"],
        "gains with memory in eight chosen for them, as above": curves["chosen + memory"]["8"],
        "gains with memory in the eight of least cosine importance": curves["cosine + memory"]["8"],
        "gains in eight others, chosen and fitted on varied news": numbers["varied"],
        "gains in the eight of least cosine importance, fitted half on news, half on plays": numbers["both kinds"],
        "nothing in the chosen: dropped bare": numbers["bare at the chosen"],
    }
    for name, result in main.items():
        rows.append(f"| {name} | {cell(result, 'test')} | {cell(result, 'plays')} |")
    sizes = numbers["parameters"]
    each = ", ".join(f"{name} {n:,} ({n / sizes['attention']:.1%})" for name, n in sizes.items())
    return [*rows, "", f"Parameters of one layer: {each}.", "", *time_lines(numbers)]


def time_lines(numbers):
    static, memory = numbers["choice"]["seconds"], numbers["choice with memory"]["seconds"]
    fits = (numbers["ablations"]["rank 255"]["fit_seconds"], numbers["curves"]["chosen + memory"]["8"]["fit_seconds"])
    return [
        "On one thread of two busy cores (load 3 for static gains, 5 to 10 for those with memory) the choice of layers "
        f"took {static:.0f} s with static gains and {memory:.0f} s with memory, the fit of eight {fits[0]:.0f} and "
        f"{fits[1]:.0f} s."
    ]


def speed_lines(speed):
    rows = ["| | prefill (tokens/s) | with cache (tokens/s) | KV cache (KiB) | parameters |", "|---|---|---|---|---|"]
    for name, network in speed["networks"].items():
        cache = network["cache_bytes"] * speed["prompt"] / 1024
        rows.append(
            f"| {name} | {network['prefill']:.0f} | {network['generation']:.1f} | {cache:.0f} "
            f"| {network['parameters']:,} |"
        )
    threads = f"{speed['threads']} thread{'s' * (speed['threads'] > 1)}"
    note = f"One text of {speed['prompt']} tokens, {threads}, medians in turn; load of the machine {speed['load']:.1f}."
    return [*rows, "", note]


def page(numbers):
    settings = numbers["settings"]
    eight = sorted(numbers["choice"]["order"][:8])
    where = (
        f"{settings['source']}, windows of {settings['length']} tokens: {settings['calibration']} for calibration, "
        f"{settings['selection']} for selection, {settings['test']} of news and {settings['plays']} of plays for the "
        "numbers. Documents were split beforehand; which is where stands in simulations/results/drop.json."
    )
    parts = [
        "## Increase of the loss, nats a token, ± two standard errors over windows", "", where, "",
        f"![curves]({PICTURE.relative_to(PAGE.parent).as_posix()})", "", *outcome(numbers), "",
        *curve_lines(numbers["curves"]), "", f"The eight chosen layers: {', '.join(map(str, eight))}; for gains with "
        f"memory: {', '.join(map(str, sorted(numbers['choice with memory']['order'][:8])))}.", "",
        "## Attention, MLP, blocks: by the mean and by the maximum", "", *ordering_lines(numbers),
        "## A passage said again", "", COPY_NOTE, *copy_lines(numbers["copies"]), "",
        "## Ablations", "", *ablation_lines(numbers), "", "## Speed", "",
        *speed_lines(numbers["speed"]),
    ]  # fmt: skip
    return HEAD + "\n".join(parts) + "\n" + LIMITS


def main(folder=None, check=False):
    """Write the page, or compare it; returns whether it is that of the numbers kept."""
    if check:
        return PAGE.read_text(encoding="utf-8") == page(json.loads(KEPT.read_text(encoding="utf-8")))
    if folder is not None:
        KEPT.parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(folder) / "drop.json", KEPT)
        shutil.copyfile(Path(folder) / "drop.png", PICTURE)
    with atomic(PAGE) as path:
        path.write_text(page(json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if not main(arguments.folder, arguments.check):
        sys.exit("docs/dropping.md is out of date: run python simulations/dropping_page.py")
