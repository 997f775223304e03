"""h' = h + C(z)(F(h) - h + k_r (h_0 - h)), F trained: does accuracy fall beyond the trained passes, and is it foretold?

Question: does accuracy fall beyond the passes of training, what keeps it, and can a fall be foretold? Small networks
of one tied layer learn prefix sums with T = 10 passes and then run for 80. Arms change one thing each: the input in
every pass (recall), the outer norm, random numbers of passes, gain and recall held inside the measured stability
region.

How it is judged.
Plan: arms, tests and their directions stand in ctrlattn/nn/experiment/loop_plan.py since the first commit of the code
that trains loops. `ctrlattn train loops` writes them down before any training, and the forecasts before any pass
beyond T; results carry the digests of both. Seeds 0 to 2 had been seen when ten were run.
Control: plain again with other weights (A/A), stopping after T passes, a gain of 1/2 that nobody chose, and a rule
that always says "falls". Positive control: on prefix sums the tests find what recall does.
Power: the unit is a seed, paired with plain. Over ten seeds accuracy at 8 T less that of plain is known to ±.233 on
prefix sums and to ±.307 on addition where it is known least; where there are fewer seeds the intervals are wider, and
the table has them.

What it shows, nine arms. On prefix sums (ten seeds) plain loops solve every problem after T passes and .27 of them
after 8 T. Nine of twelve planned tests hold by Holm: loops with recall keep .99 with the inner norm and 1.00 with the
outer one, and so does Parcae's injection. The outer norm with recall also carries to other sizes, .97 at twice and .78
at 4 times the size; recall with the inner norm .41 and .06. The outer norm without recall keeps least, .09, although
its poles are nearer to 0. Random passes and gains held inside the stability region are better than plain, .80 and .61,
and still lose. Other tasks tell another story. On addition (ten seeds) plain loops keep .79, and of twelve tests only
that of the radius holds. On digits (three seeds) plain loops keep .84; recall with the outer norm, Parcae's injection
and held gains lose what they keep on prefix sums. On mazes (three seeds) plain loops keep .38 and Parcae's injection
.98, and three seeds decide nothing. The forecasts: the rule of the fixed point is right at .82 of 258
marks of prefix sums and at .62 of 269 of addition, the poles at .70 and .49, and a rule that always says "falls" at
.57 and .51. Most false alarms are loops with an inner norm: it leaves an eigenvalue of 1 along each place, which the
answer does not see. A controller that `tune` chose for the spectrum at T, switched on there, keeps 35 of 45 collapsed
loops of prefix sums and 22 of 32 of addition within a tenth of what stopping keeps; a gain of 1/2 from T on keeps 13
and 12. From the first pass on the tuned controller keeps 3 and 2: it leads elsewhere.

How it is measured. Seeds 0 to 9, of which 0 to 2 had been seen before, on digits and mazes seeds 0 to 2; 450 steps of
64 problems, forecasts at three marks of each run; a problem counts as solved where all of its answer is right. Three
rules forecast a fall: a pole outside the circle after T passes, a residual above 1/10, no stable fixed point of the
same answer in reach. Tests are Student's, paired by seed, with Holm's correction.

What it does not show. One width, small tasks, and three seeds of two of them. Marks of one run depend on each other.
Poles belong to three problems and to the state after T passes, which is no fixed point. What stopping keeps needs no
controller.

    python simulations/13_trained_loops.py [--full | --runs DIR [DIR ...]] --out DIR

--full trains nine arms with three seeds on four tasks, in DIR/trained_loops_runs, and trains nothing twice. --runs
takes what `ctrlattn train loops --task NAME --seeds N --out DIR` left, any number of them, and trains nothing. Each
comparison is also written without its curves, as train_loops_NAME.json.
"""

import sys
from pathlib import Path

from stage.running import command, save, save_numbers
from stage.trained_loops import SMALL, TASKS, by_name, finished, kept_name, table_of, verdict, without_curves
from stage.trained_loops_picture import draw

from ctrlattn.nn.experiment.loop_comparison import compare_loops
from ctrlattn.nn.experiment.loop_plan import loop_plan


def told(step, done, total):
    print(f"{step} ({done} of {total})", file=sys.stderr)


def trained(folder, seed, full):
    """What is missing is trained: all tasks at their defaults, or a small one."""
    tasks, sizes = (TASKS, {"seeds": (0, 1, 2)}) if full else (TASKS[:1], SMALL)
    sizes = {**sizes, "seeds": tuple(seed + k for k in sizes["seeds"])}
    return [compare_loops(loop_plan(task, **sizes), folder / task, told if full else lambda *_: None) for task in tasks]


def main(out, seed=0, full=False, runs=None):
    """Train what is missing or read `runs`; write trained_loops.json and .png under `out`; returns the numbers."""
    if runs is None:
        each = trained(Path(out) / "trained_loops_runs", seed, full)
    else:
        each = [finished(folder) for folder in runs]
    results = by_name(each)
    for result in results.values():
        save_numbers(out, kept_name(result), without_curves(result), result["digests"]["plan"])
    numbers = {
        "options": "--full" if runs is None else "--runs " + " ".join(f"RUN{k}" for k in range(1, len(runs) + 1)),
        "comparisons": {
            name: {key: result[key] for key in ("plan", "digests", "tests", "forecast_scores", "rescues", "passes")}
            for name, result in results.items()
        },
        "table": table_of(results),
        "verdict": verdict(results),
    }
    return save(out, "trained_loops", numbers, draw(results))


def options(parser):
    parser.add_argument("--runs", nargs="+", metavar="DIR", help="finished comparisons of `ctrlattn train loops`")
    return parser


if __name__ == "__main__":
    command(main, __doc__, full="four tasks, nine arms, three seeds", more=options)
