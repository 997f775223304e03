"""One pass of the automaton as a matrix: L = (I + g M)^-1 in sequence, I - g M in parallel, M the strict causal mean.

Question: is what the theory states in numbers about the operator behind scene 01 found when the loop is run, and why
must eigenvalues alone not be the verdict? Each number is computed here and set beside what is stated.

How it is judged.
Plan: identities need none; no plan was fixed for the rest, whose stated values and tolerances stand in
simulations/stage/operator.py.
Control: each formula is set beside a run of the loop, the resolvent outside the disk beside that inside it, and the
parallel pass beside the sequential one. Nothing false was planted.
Power: formulas, runs and streamed passes agree to 7e-16, where more than 1e-12 would be called a disagreement.
Exponents of growth lie within .002 of what is stated (tolerance .02) and powers of n within .0742 (tolerance .1):
what departs by less than a tolerance is not seen.

What it shows. All eigenvalues are 1 and yet ||L^p|| grows without bound, since the first tokens amplify (a boundary
effect: from 32 tokens on their number does not matter). Late tokens halve a constant signal in every pass and let
waves pass: a scale-free high-pass along the tokens. M takes i^(1/m - 1) to m times itself, up to the first tokens,
and this nearly is an eigenvector where Re(1/m) > 1/2, the disk |m - 1| < 1: there the resolvent grows like n^(Re(1/m)
- 1/2), though no finite section has an eigenvalue. With an RMS norm on every token a random start of eight tokens
falls into antipodal pairs and stays neutral in the rest; in the median of 20 starts a token 0 that is held at another
length leaves its pair unequal.

What it does not show. The infinite operator itself: finite sections approach it. The growth exponent is extrapolated
from p <= 1024, and the attractor is where that start ends, with the Jacobian there; neither is a proof.

    python simulations/02_operator.py [--full] --out DIR
"""

import numpy as np
from stage.operator import measure, statements
from stage.operator_picture import draw
from stage.running import command, save


def verdict(numbers):
    """Each statement, whether it agrees, and what was found."""
    lines = []
    for text, stated, value, tolerance in statements(numbers):
        agrees = np.all(np.abs(np.subtract(value, stated)) <= tolerance)
        values = " ".join(f"{v:.5g}" for v in np.ravel(value)[:6])
        lines.append(f"{'agrees' if agrees else 'DISAGREES'}: {text}: stated {np.round(stated, 4)}, found {values}")
    return lines


def main(out, seed=0, full=False):
    """Measure, draw, write operator.json and operator.png under `out`; returns the numbers."""
    numbers = measure(seed, full)
    numbers["verdict"] = verdict(numbers)
    return save(out, "operator", numbers, draw(numbers))


if __name__ == "__main__":
    command(main, __doc__, full="256 tokens instead of 64, powers to 1024 instead of 128")
