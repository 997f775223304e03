"""drop.json of scene 03 -> docs/dropping.md: curves, ablations, speed.

python simulations/03_drop.py --full --source DIR --news FILE --plays FILE --out out/drop
python simulations/03_drop.py --full --control --source DIR --news FILE --out out/drop
python simulations/dropping_page.py out/drop     # store the numbers and the picture, write the page
python simulations/dropping_page.py --check      # exit 1 if the page does not follow from the stored numbers
"""

import argparse
import shutil
import sys
from pathlib import Path
from textwrap import fill

from stage import drop_tables as tables
from stage import questions
from stage.drop_documents import sentences
from stage.page_file import read_json, write_or_check

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dropping.md"
PICTURE = ROOT / "docs" / "images" / "dropping.png"
RESULTS = ROOT / "simulations" / "results" / "drop.json"
CONTROL = RESULTS.with_name("drop_control.json")
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

A dropped attention layer has no part in the KV cache. A static gain may take its place: a linear map G u + b of the
normed stream u that the layer reads. It is fitted by ridge regression to the output of the layer, without gradients,
and sees no other token. Gains are fitted layer by layer, with all earlier gains in the network, and a token of the
stream x has the weight 1/|x|². `choose` picks the layers greedily by a second-order expansion of the loss. The
expansion has the slope and the Fisher curvature of the errors that all gains would make, pairs of layers included. It
takes one forward pass over the calibration text, and one forward and two backward passes over the selection text. Of
the stream of a long calibration text 256 MB are held in memory; the rest is in a temporary file of the system.

A gain with memory also reads earlier tokens: y = G u + b + Σ_h W_O^h Σ_k c_hk a_hk. For each head h, the memories a_hk
are the values W_V u of the last three tokens and four averages of all values so far. The averages decay by the factors
.5, .8, .95 and 1 per token and weight each token by its salience. The salience is exp of a linear map of u, fitted to
the attention that the token receives. Such a gain is attention whose query is always the same: a predictor with fixed
weights. W_V and W_O are those of the layer. The fit determines seven numbers c per head, and then G and b on the
remaining error. In generation the layer keeps a state of fixed size in the cache; outputs with and without the cache
agree, and no module holds a state. Families with a norm behind their attention (Gemma 2 and 3) and caches of fixed size
are not supported.

"Varied" news consists of the same documents in another form. Every other document is set in lines, and every other
window of it repeats its first half. Lines, paragraphs and copying from the context then help to predict the text,
although no text of another kind is used.

A network that is saved bare is exact in plain transformers: it has zeros where a sublayer was, at the old cost. A
network that is saved with gains has the `model_type` "ctrlattn" and its weights in ctrlattn.safetensors, so that plain
transformers refuses it. Weights keep the dtype that they had on disk where that loses nothing, and gains are those of
the fit (float32). `ctrlattn drop` loads what it wrote and compares the logits of one window. The largest difference is
printed and stands on the page. Where it exceeds 1e-5 of the largest logit, the command fails and the directory does not
load. The page also gives the size of the weights before and after.

"""
LIMITS = """
## What this does not show

There is one network of 135 million parameters, two texts, and few windows; intervals are over documents of one kind of
text, and over no other networks. Eight windows of plays are few. Static gains that were fitted to news fail on plays.
The same layers with gains fitted half to plays do well on both. The loss on plays is therefore due to the calibration
text, and not to what a gain can represent: calibrate on text like that which will be read.

Three other remedies were tried. News that is set in lines or repeats itself does not replace the other kind of text. A
larger ridge penalty does not help either: in the eight layers of least cosine importance, penalties of .1, 1 and 10
cost +0.643, +0.636 and +0.635 on ten windows of plays that are not in the tables, and +0.086, +0.093 and +0.125 on ten
of the selection news. A memory helps in part. The penalty 1 of gains with memory, and the use of salience, were decided
on those twenty windows. On them, in the eight layers chosen for static gains, penalties of .1, 1 and 10 cost +0.046,
+0.058 and +0.079 on news and +0.304, +0.297 and +0.287 on plays; plain averages without salience cost +0.051 and +0.378
(penalty .1). No gain was fitted to plays except in the row that says so.

Copying from far back is the known weak spot of dropped attention. It is measured above on short texts only, and the
loss on ordinary text, by which layers are chosen, does not see it.

Two variants did not help on the selection text and were left out: fitting to the stream of the whole network instead of
the layer's own output (each gain then corrects for earlier gains as well), and refitting the output matrices of the
MLPs afterwards. The joint choice is greedy with pairs counted; layers were not exchanged afterwards. A gain on the
residual, more calibration text, and memories with a query per token were not tried.

Matrix products ran in bfloat16 (autocast), and streams, norms, losses and fits in float32. On 32 windows of 256 tokens
the loss of the whole network was 3.4465 in this way and 3.4456 in float32.
"""


def page(numbers):
    settings = numbers["settings"]
    static, memory = (
        ", ".join(map(str, sorted(numbers[name]["order"][:8]))) for name in ("choice", "choice with memory")
    )
    where = (
        f"The network is {settings['source']}. Windows have {settings['length']} tokens: {settings['calibration']} are "
        f"for calibration, {settings['selection']} for selection, and {settings['test']} of news and "
        f"{settings['plays']} of plays for the numbers below. The documents were split beforehand; "
        f"simulations/results/drop.json lists the parts. {sentences(numbers['documents'])}"
    )
    control = read_json(CONTROL)
    parts = [
        *questions.of_dropping(numbers, control),
        "## Increase of the loss in nats per token, ± half of a 95 % interval over documents", "", fill(where, 120), "",
        f"![curves]({PICTURE.relative_to(PAGE.parent).as_posix()})", "", *tables.outcome(numbers), "",
        *tables.curve_lines(numbers["curves"]), "",
        f"The eight chosen layers are {static} for static gains, and {memory} for gains with memory.", "",
        "## Attention, MLP, blocks: by the mean and by the maximum", "", *tables.ordering_lines(numbers),
        "## A repeated passage", "", tables.COPY_NOTE, *tables.copy_lines(numbers["copies"]), "",
        "## Eight layers at random", "", *tables.random_lines(control), "",
        "## Ablations", "", *tables.ablation_lines(numbers), "", "## Speed", "",
        *tables.speed_lines(numbers["speed"]),
    ]  # fmt: skip
    return HEAD + "\n".join(parts) + "\n" + LIMITS


def main(folder=None, check=False):
    """Write the page, or compare it; returns whether it follows from the stored numbers."""
    if folder is not None:
        RESULTS.parent.mkdir(exist_ok=True)
        for name, place in (("drop.json", RESULTS), ("drop.png", PICTURE), ("drop_control.json", CONTROL)):
            if (Path(folder) / name).exists():
                shutil.copyfile(Path(folder) / name, place)
    return write_or_check(PAGE, page(read_json(RESULTS)), check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="output of scene 03")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    arguments = parser.parse_args()
    if not main(None if arguments.check else arguments.folder, arguments.check):
        sys.exit("docs/dropping.md is out of date: run python simulations/dropping_page.py")
