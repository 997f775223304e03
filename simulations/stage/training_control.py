"""Arms that learn their gains or limit u -> their part of docs/training.md: a trial of one seed, without any claim.

training_page.py uses it.
"""

from pathlib import Path
from statistics import stdev
from textwrap import fill

from ctrlattn.nn.experiment.table import interval
from stage.page_file import read_json, without_curves, write_json

RESULTS = Path(__file__).parents[1] / "results" / "train_control.json"
SCORES = ("clean", "noise_0.3", "fgsm_16", "pgd_8", "token_similarity_final")
ARMS = """`-learned` starts with the published gains and learns one PID for all layers; `-learned-each` learns one PID
per layer. The gains stay in a box around the published gains, gain (1 + s tanh θ). Every point of the box is stable for
every real mode α of attention in a region. The region is [0, 1] where the published gains are stable on it. The printed
gains .8/.5/.05 are stable for .15 < α < 1.82 alone, so that modes below .15 are unstable from the start. In a region
that began at .15 no gain could change. Their region therefore begins .25 above that edge, and nothing is guaranteed for
smaller modes. Weight decay pulls θ to 0, which means to the published gains. `-saturated` clips u to ±1 (`--limit`),
which is about one deviation of a value before training, and its integral stops while u is clipped. `-scheduled` scales
u by 1 - k/L at layer k of L. Data, initial weights and number of steps are the same for all arms; a learned PID has
three parameters more."""


def keep(folder):
    """Store the comparison in a folder, in the place of the one before."""
    write_json(RESULTS, without_curves(read_json(Path(folder) / "comparison.json")))


def _chance(score):
    """Deviation over the seeds of softmax-again minus softmax, in the comparison that was planned."""
    planned = read_json(RESULTS.with_name("train_digits.json"))
    return stdev(planned["differences"]["softmax-again"][score]["values"])


def lines():
    """The section: what the arms are, and one row of numbers for each."""
    result = read_json(RESULTS)
    seeds = result["plan"]["seeds"]
    count = "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    trial = (
        f"This is a trial of {count} ({', '.join(map(str, seeds))}) with the sizes of `ctrlattn train digits`. It was "
        "run once and not selected among others. It supports no claim: over the ten seeds above, clean accuracy of "
        f"softmax-again differs from that of softmax with a standard deviation of {_chance('clean'):.3f}, and accuracy "
        f"under FGSM at 16/255 with one of {_chance('fgsm_16'):.3f}. Gains are means over the layers. `clipped` is the "
        "share of the elements of u that are at the limit on the first test images, averaged over the layers with "
        "control."
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
