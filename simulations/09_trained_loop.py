"""ds_{k+1} = J_k ds_k, s = (x, memory of the controller): how a perturbation runs through a trained network.

Question: does the theory of the value chain tell how a perturbation runs through a trained network, and which part
makes it grow? The theory, v <- A v + u with one attention A and neither residual connection nor projections, says
which modes a law damps. A trained network projects again in every layer, normalises, adds to a stream and has MLPs.
Here ViTs trained on digits are linearised layer by layer, the controller's memory in the state. After block 0 the
stream is pushed in a random direction (v_0 is not): the product of the Jacobians against what the network does, for
pushes of 1e-6 to 1 times the stream, and against the value chain, with the attention of each layer and with that of
layer 1 in all of them, which is what the modes of the theory are. Then a part of the network is held at its operating
point - weights of attention, control, MLP - to see which one the growth comes from.

How it is judged.
Plan: no plan was fixed beforehand, the scene is exploratory; the plan of the trained comparison, whose networks these
are, asks other questions.
Control: the same networks before training, Jacobians without the memory, and each part of the network held in turn.
Positive control: the Jacobians are set beside the network itself, which they predict to 2.7e-06 (worst 95th
percentile), so that a growth is not missed by the method.
Power: the unit is a seed, of which there are 10; images and directions are averaged first. Where network and theory
are compared least exactly, their ratio lies in [1.26, 3.06]: a factor of 1.6 either way would have been seen.

What it shows, --full, on the ten seeds of the trained comparison. The Jacobians are right and need the memory; a push
of a hundredth of the stream is still linear, a tenth is not. The value chain is not the network. With the printed law
85 % of the modes lie outside its region, and the chain grows 8.0 times in six layers; in the network the values shrink
to .70. With softmax, NeuTRENO and the code law the chain shrinks and the network hardly does. The order of the laws is
another one, before training as after it. In the stream the control does not damp: held at its operating point it lets
the stream grow less under every law (printed: .42 times as much). There the control is the largest amplifier, in the
other networks the MLPs are. Training raises the growth of the stream, which is 3 to 5 in seven layers, by a quarter to
a half.

What it does not show. One data set, one size, pushes of all tokens at once and of the stream alone; growth on average
over directions, not the worst one. A share of modes outside of a stability region says nothing about seven layers.

    python simulations/09_trained_loop.py [--full] [--weights DIR] --out DIR

DIR is what `ctrlattn train digits --out DIR` wrote; without it the networks are trained first, by the same rules.
"""

from pathlib import Path

from stage.running import command, save
from stage.trained_loop import ARMS, CHAINS, FULL, HELD, SMALL, claims, factor, measured, networks, table
from stage.trained_loop_picture import draw


def verdict(numbers):
    """The scene in words, from its numbers."""
    arms, seeds = numbers["arms"], numbers["seeds"]
    layers = len(arms[ARMS[0]]["trained"]["growth"]["stream"]) - 1
    lines = [*claims(arms)]
    if numbers["images"] < FULL.images:
        lines.append("a small run: it shows that the scene runs, nothing about trained networks")
    lines.append(
        f"{len(seeds)} seeds, {numbers['images']} images, {numbers['directions']} directions each; factors over "
        f"{layers} layers (values: {layers - 1}), mean [95 % over seeds] of the logarithm"
    )
    for arm, whens in arms.items():
        for when, row in whens.items():
            lines.append(
                f"{arm}, {when}: values grow {factor(row['growth'][CHAINS[0]][-1])}, the chain with each layer's "
                f"attention {factor(row['growth'][CHAINS[1]][-1])}, with that of layer 1 "
                f"{factor(row['growth'][CHAINS[2]][-1])}; stream {factor(row['growth']['stream'][-1])}"
            )
    for arm, whens in arms.items():
        row = whens["trained"]
        parts = ", ".join(f"{name} x {factor(row['lifted'][name])}" for name, is_held in HELD.items() if is_held)
        lines.append(f"{arm}, trained: the stream's growth changes, where this is held: {parts}")
        modes = whens["trained"]["modes"]
        lines.append(
            f"{arm}, trained: {modes['outside']['mean']:.3f} of the modes lie outside the law's region, largest "
            f"radius {modes['radius']['mean']:.3f} (median over images, heads, layers)"
        )
    return lines


def main(out, seed=0, full=False, weights=None):
    """Train what is missing, measure, write trained_loop.json and trained_loop.png under `out`; returns the numbers."""
    size = FULL if full else SMALL
    rows = networks(size, seed, weights, Path(out) / "trained_loop_runs")
    results = measured(rows, size)
    numbers = {
        "seeds": sorted({number for _, number, _, _ in rows}),
        "images": size.images,
        "directions": size.directions,
        "arms": table(results),
        "networks": results,
    }
    numbers["verdict"] = verdict(numbers)
    return save(out, "trained_loop", numbers, draw(numbers["arms"]))


def _options(parser):
    parser.add_argument("--weights", metavar="DIR", help="what `ctrlattn train digits --out DIR` wrote")
    return parser


if __name__ == "__main__":
    command(
        main, __doc__, full="32 images, 3 directions; depth 8, 20 epochs, 5 seeds where none are given", more=_options
    )
