"""Arms that learn their gains or limit u -> their part of docs/training.md: a trial of one seed, without any claim.

Used by training_page.py.
"""

import json
from pathlib import Path
from statistics import stdev
from textwrap import fill

from ctrlattn.files import atomic
from ctrlattn.nn.experiment.table import interval

RESULTS = Path(__file__).parent / "results" / "train_control.json"
SCORES = ("clean", "noise_0.3", "fgsm_16", "pgd_8", "token_similarity_final")
ARMS = """`-learned` begins with the published gains and lets them move, one PID for all layers; `-learned-each`
gives each layer its own. They stay in a box around the published gains, gain (1 + s tanh θ): every point of it is
stable for every real mode α of attention in a region. The region is [0, 1] where the published gains are stable on
it. The printed gains .8/.5/.05 are not: they need .15 < α < 1.82, so that modes below .15 are unstable from the
start, and in a region that began at .15 no gain could change. Their region begins .25 above that edge, and of
smaller modes nothing is promised. Weight decay pulls θ to 0, to the published gains. `-saturated` clips u to ±1
(`--limit`), about one deviation of a value before training, and its integral waits while u is clipped. `-scheduled`
scales u by 1 - k/L at layer k of L. Data, first weights and number of steps are the same for all; a PID that is
learned has three parameters more."""


def keep(folder):
    """Keep the comparison in a folder, without its curves, in the place of the one before."""
    result = json.loads((Path(folder) / "comparison.json").read_text(encoding="utf-8"))
    with atomic(RESULTS) as path:
        path.write_text(json.dumps({k: v for k, v in result.items() if k != "curves"}, indent=1) + "\n", "utf-8")


def _chance(score):
    """Deviation over the seeds of softmax drawn again minus softmax, in the comparison that was planned."""
    planned = json.loads(RESULTS.with_name("train_digits.json").read_text(encoding="utf-8"))
    return stdev(planned["differences"]["softmax-again"][score]["values"])


def lines():
    """The section: what the arms are, and one row of numbers for each."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    seeds = result["plan"]["seeds"]
    count = "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    trial = (
        f"A trial of {count} ({', '.join(map(str, seeds))}) with the sizes of `ctrlattn train digits`, run once and "
        "not chosen among others. It carries no claim: over the ten seeds above, clean accuracy of softmax drawn again "
        f"differs from softmax's with a standard deviation of {_chance('clean'):.3f}, and accuracy under FGSM at "
        f"16/255 with one of {_chance('fgsm_16'):.3f}. Gains are means over the layers; `clipped` is the share of the "
        "elements of u that stand at the limit on the first test images, mean over the layers that act."
    )
    rows = [
        "| arm | " + " | ".join(SCORES) + " | kp, ki, kd after training | clipped |",
        "|---" * (len(SCORES) + 3) + "|",
    ]
    for arm, scores in result["arms"].items():
        controller = result["controllers"].get(arm, {})
        gains = ", ".join(interval(controller[name]) for name in ("kp", "ki", "kd")) if "kp" in controller else "–"
        clipped = interval(controller["clipped"]) if "clipped" in controller else "–"
        rows.append(f"| {arm} | {' | '.join(interval(scores[name]) for name in SCORES)} | {gains} | {clipped} |")
    learned = [row["spread"] for row in result["controllers"].values() if "spread" in row]
    within = f"The largest relative change that the boxes allow is {min(learned):.0%} to {max(learned):.0%}."
    command = [f"ctrlattn train digits --seeds {len(seeds)} \\"]
    command += [f"  --configs {arm} \\" for arm in result["plan"]["arms"]]
    command[-1] = command[-1].removesuffix(" \\")
    head = ["## Learned and limited control", "", fill(" ".join(ARMS.split()), 120), "", fill(trial, 120), ""]
    return [*head, *rows, "", within, "", "```bash", *command, "```"]
