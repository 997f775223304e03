"""p(1) = (1 + k_r - lambda) num(1): a real eigenvalue lambda > 1 + k_r of J is beyond every stable C with C(1) > 0.

Question: can a stable controller over passes hold what grows along a real direction? Depth of a looped network is
time, so a controller over passes can damp what oscillates. It cannot hold what grows along a real direction: p(z) =
den(z)(z - 1) + (1 + k_r - lambda) num(z) is positive far out and negative at z = 1, so a pole lies beyond 1. Random
controllers of orders 0 to 4 meet real eigenvalues on both sides of 1 + k_r. The signs of p are evaluated in
fractions.

How it is judged.
Plan: it is a theorem, proved in docs/theory.md, and needs none.
Control: unstable controllers, for which the sentence without the word "stable" is false, and recall, which moves the
edge. Positive control: the same controllers below the edge, where many hold, so that a stable pair is found where
there is one.
Power: the unit is a pair of a controller and an eigenvalue. None of 11,981 above the edge is stable, and 222 are
under unstable controllers; the signs of p are exact, in fractions, for all 3,000 controllers.

What it shows, --full: of 24,000 pairs none of those above the edge is stable under a stable C, and 49 % of those
below it are. In fractions p(1) < 0 < p(R) for all 3,000 controllers. Unstable controllers hold 222 of 11,981 pairs
above the edge: C(z) = (2 - 3z)/(w (z - 2)) puts both poles of lambda = 1 + w at 0 exactly, and loses
lambda = 1 - w, whose polynomial is z^2 - 6z + 4. A loop with lambda = 1.5 runs away under gains of 1/2 and 1/20; with a
recall of 1 it rests.

How it is measured. Zeros and poles of the controllers are real or come in pairs, at random in disks; the sign of the
gain makes C(1) > 0. Closed-loop poles are those of `stability.pass_poles`. The proof is in docs/theory.md.

What it does not show. A count over random controllers proves nothing; the proof does. Nothing is said of pairs of
complex eigenvalues, of controllers that act on something else than e, or of controllers whose gains change over passes.

    python simulations/14_odd_number_limit.py [--full] --out DIR
"""

from fractions import Fraction

import numpy as np
from stage.odd_number_limit import FULL, SMALL, controllers, dead_beat, exact_signs, radii, run_of
from stage.odd_number_limit_picture import draw
from stage.running import command, save
from stage.verdict import said


def verdict(stable, unstable, exact, count, plus, minus, runs):
    above, below = stable[stable[:, 0] > 0], stable[stable[:, 0] < 0]
    beyond = unstable[unstable[:, 0] > 0]
    names = list(runs)
    return [
        said(bool(np.all(above[:, 1] > 1)), "no stable C with C(1) > 0 holds a real eigenvalue above 1 + k_r"),
        f"pairs above the edge that are stable, of {len(above)}: {int(np.sum(above[:, 1] < 1))}",
        f"pairs below the edge that are stable, of {len(below)}: {int(np.sum(below[:, 1] < 1))}",
        said(exact == count, "p(1) < 0 < p(R) in fractions, for every stable controller"),
        f"pairs above the edge that an unstable C holds, of {len(beyond)}: {int(np.sum(beyond[:, 1] < 1))}",
        said(plus == [1, 0, 0], "C = (2 - 3z)/(w (z - 2)) puts both poles of 1 + w at 0, exactly"),
        said(minus == [1, -6, 4], "and the polynomial of 1 - w is z^2 - 6z + 4, with a zero near 5.24"),
        said(all(runs[name][-1] > runs[name][0] for name in names[:2]), "without recall the error of 1.5 grows"),
        said(runs[names[2]][-1] < 1e-3 * runs[names[2]][0], "with a recall of 1 it vanishes"),
    ]


def main(out, seed=0, full=False):
    """Count, run, draw, write odd_number_limit.json and .png under `out`; returns the numbers."""
    count = FULL if full else SMALL
    laws = controllers(count, seed, stable=True)
    stable, unstable = radii(laws, seed), radii(controllers(count, seed + 10, stable=False), seed)
    plus, minus = dead_beat(Fraction(4, 5))
    runs = {
        "gain 1/2": run_of(1.5, 0.5, 0.0),
        "gain 1/20": run_of(1.5, 0.05, 0.0),
        "gain 1/2, recall 1": run_of(1.5, 0.5, 1.0),
    }
    numbers = {
        "controllers": count,
        "stable": stable.tolist(),
        "unstable": unstable.tolist(),
        "verdict": verdict(stable, unstable, exact_signs(laws, seed), count, plus, minus, runs),
    }
    return save(out, "odd_number_limit", numbers, draw(stable, unstable, runs))


if __name__ == "__main__":
    command(main, __doc__, full="3,000 controllers instead of 150")
