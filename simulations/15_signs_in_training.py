"""x <- unit(x + g_j read_j(x)), x <- x + g A(x) norm(x): which gains g must be negative, which does training make so?

Question: which gains must be negative in training, and which does training itself make so? The automaton subtracts
what each of its three reads returns: association, context, MLP. The scene of the pronoun says that only the context
must be subtracted there. All eight patterns of signs are trained, and gains that are learned, three in each layer,
from 0 and from +1. Then the ordinary small transformer, with one learned gain of attention in each layer, where W_O
W_V is held at the identity so that no weight can turn the sign.

How it is judged.
Plan: simulations/configs/signs_of_reads.toml and signs_of_attention.toml were committed before any of their seeds was
run, after one seed apart had shown an effect of the context of about .2 nats; the first was cut to what a shared
machine ends, before a seed of the test was run.
Control: gains learned on the same characters without their order, attention left out, and learned projections, where
the sign is a convention and must not come out. Positive control: attention of either sign is seen to be used. No
network in which subtracting is known to be right was trained.
Power: the unit is a seed, of which there are 8; their exact sign flips have no p below .0039, which is .031 by Holm
over eight tests. The effect of the context is known to ±.018 nats, that of the MLP to ±.023 and that of attention's
sign to ±.045. The learned gains of association and MLP are known to ±.14 alone.

What it shows, --full. Only the context must be negative. Adding it costs .207 [.188, .225] nats a character, and the
best pattern that adds it is worse than the worst that subtracts it, by .102 [.071, .134], in all eight seeds (p by
exact sign flips .0039, by Holm over eight tests .031). Where the context is subtracted, adding the association costs
.023 [.010, .035] on average (Holm .078) and adding the MLP .011 [-.012, .033], both within the margin of .1. The
averages hide an interaction, which was looked at afterwards: adding the MLP gains .043 [.031, .054] where the
association is subtracted and costs .064 [.023, .105] where it is added. The best pattern is - - + (2.193; - - - has
2.235). Learned gains are means over three layers. Training from 0 makes the gain of the context negative, but small:
-.051 [-.069, -.033], Holm .031, and none of the two others has a sign. The control could have refuted that: without
order training makes it positive, +.150 [.133, .167]. From +1 the context alone leaves its start, in all seeds, and
ends at +.057 [.036, .078]: the claim that it turns negative does not hold there. Nor does training reach what the
fixed sign has: learned from 0 the loss is 2.290, with - - - 2.235.

In a transformer with softmax attention it is otherwise. With projections fixed at the identity either sign uses the
context (loss at -1 less without attention -.062 [-.085, -.039], at +1 -.050 [-.074, -.025]) and neither is seen to be
better (-1 less +1: -.012 [-.057, .033]). Learned from 0 the gain becomes positive: +.159 [.130, .188], and +.173 [.144,
.201] where a token reads only those before it (Holm .031 each). So within these steps a gain that begins at 0 moves
above 0, and wins .002 to .003 nats by it; whether -1 or +1 is better is undecided. With learned projections, where the
sign is a convention, there is none: -.028 [-.078, .022], as the control asks.

How it is measured. Loss on held-out part two of the King James Bible; the rate of each arm is chosen among three on
part one with another seed. With the context subtracted, and in all arms of attention, the highest rate was the best:
those arms could be better still. Arms of a seed share weights and batches. Tests are exact sign flips, paired by
seed, with Holm's correction over the tests of a plan; intervals are Student's.

What it does not show. One text, width 32, three layers, 300 (reads) and 200 (attention) steps: how far a longer
training moves a gain is not known. Gains of +-1 are two points of a line. The gains that attention learned from 0 are
so small that these networks predict hardly better than without it (2.305 against 2.307): their sign is that of the
first steps. A planted network in which subtracting is right was not trained, so that the learned gains have no positive
control but the control without order, in which the sign turned.

    python simulations/15_signs_in_training.py [--full] --out DIR

Every run is kept in DIR/signs_in_training_runs with the digest of its plan and not trained again.
"""

from importlib.util import find_spec
from pathlib import Path

from stage.plan_file import read_plan
from stage.read_alone import ABSENT, PACKAGE, load_text, split
from stage.running import command, save
from stage.signs_in_training import material, measure_attention, measure_reads
from stage.signs_in_training_picture import draw
from stage.trained_loops import words_of
from stage.verdict import signed

from ctrlattn.files import output_directory
from ctrlattn.identity import digest

SIGN = {"less": "< 0", "greater": "> 0", "two-sided": "is not 0"}


def verdict(numbers):
    """The scene in words, from its numbers."""
    lines = []
    for kind in ("reads", "attention"):
        part = numbers[kind]
        seeds, steps = len(part["plan"]["seeds"]), part["size"]["steps"]
        lines.append(f"{kind}: {seeds} seeds, {steps} steps, plan {part['plan']['sha256'][:12]}")
        for name, test in part["tests"].items():
            p = f"p by sign flips {test['p_sign_flip']:.3g}, by Holm {test['p_holm']:.3g}"
            lines.append(f"{words_of(test)}: {name} {SIGN[test['direction']]} ({signed(test)}, {p})")
        for arm, row in part["intervals"].items():
            gains = part.get("gains", {}).get(arm, {})
            gain_words = "".join(f"; gain of {read} {signed(gain)}" for read, gain in gains.items())
            lines.append(
                f"{kind}, {arm}: loss {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], rate "
                f"{part['arms'][arm]['rate']:g}{gain_words}"
            )
    margin = numbers["reads"]["plan"]["margin"]
    for read in ("association", "MLP"):
        test = numbers["reads"]["tests"][f"{read}, context -: loss with + less with -"]
        within = -margin < test["low"] and test["high"] < margin
        lines.append(f"{'holds' if within else 'undecided'}: {read}, context -: its sign is worth less than {margin:g}")
    return lines


def table(numbers):
    """Head and rows of the gallery: the tests of both plans but their controls without attention."""
    rows = [
        [name, signed(test), f"{test['p_sign_flip']:.3g}", f"{test['p_holm']:.3g}", words_of(test)]
        for kind in ("reads", "attention")
        for name, test in numbers[kind]["tests"].items()
        if "without attention" not in name
    ]
    return [["what, over seeds", "mean [95 %]", "p, sign flips", "p, Holm", ""], rows]


def main(out, seed=0, full=False):
    """Train what is missing, draw, write signs_in_training.json and .png under `out`; returns the numbers."""
    folder = output_directory(Path(out) / "signs_in_training_runs")
    vocabulary, parts = split(load_text())

    def of(name):
        return material(folder, read_plan(name), parts, len(vocabulary), small=not full, seed=seed)

    numbers = {"reads": measure_reads(of("signs_of_reads")), "attention": measure_attention(of("signs_of_attention"))}
    numbers |= {"verdict": verdict(numbers), "table": table(numbers)}
    plans = digest(*(numbers[kind]["plan"]["sha256"] for kind in ("reads", "attention")))
    return save(out, "signs_in_training", numbers, draw(numbers), plan=plans)


if __name__ == "__main__":
    missing = ABSENT if find_spec(PACKAGE) is None else None
    command(main, __doc__, full="both plans of simulations/configs/signs_of_*.toml", missing=missing)
