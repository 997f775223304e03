"""v <- A v + K (v_0 - v), |a - K| > 1 unstable: does instability on paper mean anything in training?

Question: does instability on paper mean anything in training? A mode a of attention under a proportional law is
unstable on paper where |a - K| > 1. Most modes of attention lie near 0, so that the share of unstable modes leaps
where K passes 1. Small vision transformers are trained on digits with two gains on either side, at depths 8 and 24.

How it is judged.
Plan: simulations/configs/unstable_in_training.toml was committed before its seeds were run; it is the plan of a
pilot, without tests, and was changed once, to say that the clock decides how many seeds depth 24 has.
Control: the same gain with a random sign for each feature of each head and layer. The plan calls it a control without
instability, which is wrong: it destroys the consistent sign of the feedback alone. A mode near 0 has |a - K| and |a +
K| near K, and lies outside under either sign. Positive control: the share of unstable modes must leap at the
boundary, and similarity must answer to the law; both do.
Power: the unit is a seed, 4 of them at depth 8 and 2 at depth 24. Between the law and random signs a difference
beyond ±.081 in the growth of a push, ±.061 nats in the loss and ±.114 in the cosine would have been seen at depth 8;
at depth 24 none below ±.137, ±.763 and ±.261.

What it shows, --full. At depth 8, four seeds, the share leaps by .700 [.684, .716], and all networks learn. A push of
the stream grows more beyond the boundary, by .168 [.129, .206] in log10, 1.5 times; with random signs it does so by
.142 [.063, .221]. The difference, +.026 [-.056, .107], is what the consistent sign adds. The loss rises by .055
[-.051, .162] and by .026 [-.024, .076]. The values do not grow at all, though three modes in four are unstable on
paper: -.031 [-.066, .004] over the layers (a score that is not in the plan). One of five scores, without correction,
differs at depth 8: tokens become less alike, by -.279 [-.371, -.186] against -.157 [-.196, -.119]; at depth 24 the
difference has the other sign. Depth 24 has two seeds, whose intervals are wide: a push grows by .171 [.145, .197]
more, with random signs by .171 [.060, .282].

So the share is no forecast of growth, loss or values. Whether instability or the size of u makes a push grow is not
told apart: the control is unstable on paper too. Its share in the table is that of the law at the same gain.

What it does not show. No test: four seeds have no two-sided p below 1/8, and what is not seen may be smaller than the
intervals. Gains, and not u itself, are the same in both arms, and the errors that they act on may differ. One rate of
learning, four epochs, four patches and a class token, a proportional law alone. The clock, and no result, ended depth
24 at two seeds of four.

    python simulations/16_unstable_in_training.py [--full [--finished]] --out DIR

Every run is kept in DIR/unstable_in_training_runs with the digest of its plan and not trained again. With --finished
nothing is trained: the seeds count that have all their runs.
"""

from pathlib import Path

from stage.plan_file import read_plan
from stage.running import command, save
from stage.unstable_in_training import SCORES, SMALL, measure
from stage.unstable_in_training_picture import draw
from stage.verdict import signed

from ctrlattn.files import output_directory

WORDS = {
    "outside": "share of unstable modes",
    "loss": "loss (nats)",
    "growth": "growth of a push (log10)",
    "values": "growth of the values (log10)",
    "similarity": "cosine between tokens",
}


def verdict(numbers):
    """The scene in words, from its numbers."""
    lines = [f"plan {numbers['plan']['sha256'][:12]}; beyond the boundary less within it, mean over seeds [95 %]"]
    for depth, row in numbers["depths"].items():
        for score in SCORES:
            law, random, both = (row["jumps"][name][score] for name in ("law", "random signs", "law less random signs"))
            beyond = "beyond" if both["low"] > 0 or both["high"] < 0 else "not beyond"
            lines.append(
                f"depth {depth}, {len(row['seeds'])} seeds, {WORDS[score]}: law {signed(law)}, random signs "
                f"{signed(random)}; {beyond} random signs: {signed(both)}"
            )
        status = [s for laws in row["runs"].values() for run in laws.values() for s in run["status"]]
        lines.append(f"depth {depth}: of {len(status)} runs learned: {status.count('learned')}")
    return lines


def table(numbers):
    """Head and rows of the gallery: the jump of each score at the boundary."""
    rows = [
        [f"{depth}, {WORDS[score]}", *(signed(jumps[score]) for jumps in row["jumps"].values())]
        for depth, row in numbers["depths"].items()
        for score in SCORES
    ]
    return [["depth, beyond K = 1 less within", "law", "random signs", "law less random signs"], rows]


def main(out, seed=0, full=False, finished=False):
    """Train what is missing, draw, write unstable_in_training.json and .png under `out`; returns the numbers."""
    folder = output_directory(Path(out) / "unstable_in_training_runs")
    plan = read_plan("unstable_in_training")
    plan = plan if full else {**plan, **SMALL}
    numbers = measure(folder, {**plan, "seeds": [each + seed for each in plan["seeds"]]}, stored_only=finished)
    numbers |= {"verdict": verdict(numbers), "table": table(numbers)}
    return save(out, "unstable_in_training", numbers, draw(numbers), plan=plan["sha256"])


def options(parser):
    parser.add_argument("--finished", action="store_true", help="train nothing: take the seeds that are there")
    return parser


if __name__ == "__main__":
    command(main, __doc__, full="depths 8 and 24, four gains, four seeds", more=options)
