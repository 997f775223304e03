"""x <- unit(x + g_j read_j(x)), x <- x + g A(x) norm(x): which gains g must be negative, which does training make so?

WORDS

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

from ctrlattn.files import output_directory

SIGN = {"less": "< 0", "greater": "> 0", "two-sided": "is not 0"}


def interval_of(test):
    """Mean and interval in words."""
    return f"{test['mean']:+.3f} [{test['low']:+.3f}, {test['high']:+.3f}]"


def verdict(numbers):
    """The scene in words, from its numbers."""
    lines = []
    for kind in ("reads", "attention"):
        part = numbers[kind]
        seeds, steps = len(part["plan"]["seeds"]), part["size"]["steps"]
        lines.append(f"{kind}: {seeds} seeds, {steps} steps, plan {part['plan']['sha256'][:12]}")
        for name, test in part["tests"].items():
            p = f"p by sign flips {test['p_sign_flip']:.3g}, by Holm {test['p_holm']:.3g}"
            lines.append(f"{words_of(test)}: {name} {SIGN[test['direction']]} ({interval_of(test)}, {p})")
        for arm, row in part["intervals"].items():
            gains = part.get("gains", {}).get(arm, {})
            learned = "".join(f"; gain of {read} {interval_of(gain)}" for read, gain in gains.items())
            lines.append(
                f"{kind}, {arm}: loss {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], rate "
                f"{part['arms'][arm]['rate']:g}{learned}"
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
        [name, interval_of(test), f"{test['p_sign_flip']:.3g}", f"{test['p_holm']:.3g}", words_of(test)]
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
    return save(out, "signs_in_training", numbers, draw(numbers))


if __name__ == "__main__":
    missing = ABSENT if find_spec(PACKAGE) is None else None
    command(main, __doc__, full="both plans of simulations/configs/signs_of_*.toml", missing=missing)
