"""d_i = score of a PID law - that of NeuTRENO (P alone), or - the mean of all softmax runs of the seed: more than P?

training_page.py writes this section from the stored runs of the trained comparison. No plan asked these tests before.
"""

from itertools import product
from textwrap import fill

import numpy as np

from ctrlattn.nn.experiment.statistics import holm, paired, power, seeds_needed
from ctrlattn.nn.experiment.table import interval, published

LAWS = ("pidformer-printed", "pidformer-ema")
POOLED = ("softmax", "softmax-again", "comparator")  # the comparator trains as softmax with negated W_O
SCORES = ("clean", "noise_0.3", "fgsm_16", "pgd_8")


def differences(result, against):
    """{law and score: difference of each seed from the mean of the arms `against`}."""

    def values(arms, score):
        return np.mean([result["arms"][arm][score]["values"] for arm in arms], 0)

    return {f"{law} {score}": values([law], score) - values(against, score) for law, score in product(LAWS, SCORES)}


def rows_of(result, against):
    """Rows of the table: interval, p of the sign flips, Holm over the eight, power for the published effect of PID."""
    tests = {name: paired(d, "greater") for name, d in differences(result, against).items()}
    corrected = holm({name: test.p_sign_flip for name, test in tests.items()})
    rows = []
    for name, test in tests.items():
        effect = published(name.split()[-1])[1]
        first = {"alpha": 0.05 / len(tests)}
        chance = f"{power(test.n, effect / test.deviation):.2f}, {power(test.n, effect / test.deviation, **first):.2f}"
        seeds = seeds_needed(test.deviation, effect, **first)
        words = "above 0" if corrected[name] < 0.05 else "below 0" if test.high < 0 else "not shown"
        cells = (name, interval(test._asdict()), f"{test.p_sign_flip:.2g}", f"{corrected[name]:.2g}", f"{effect:+.4f}")
        rows.append("| " + " | ".join((*cells, chance, f"{seeds:g}", words)) + " |")
    return rows


def lines(result):
    """The section."""
    n = result["plan"]["seeds"]
    smallest = 2.0 ** -len(n)
    head = [
        "| score | difference [95 %] | p, sign flips | p, Holm over 8 | published | power: alone, first step of Holm "
        "| seeds for 80 % | |",
        "|---" * 8 + "|",
    ]
    introduction = (
        "NeuTRENO is proportional control with P 0.6. PIDformer has P 0.8, and pidformer-ema also follows 0.1 v_0: the "
        "differences are those of whole laws, without an arm of P 0.8 alone. p is one-sided, for a law above "
        f"NeuTRENO. These tests were asked after the runs of the {len(n)} seeds, and "
        f"sign flips of {len(n)} seeds have no p below {smallest:.2g}; those of five have none below 1/32, and 1/32 "
        "times four can never hold. The published effect is that of PID over softmax: whatever I and D add to P is "
        "a part of it, so that the power given is more than there is. All arms have the one rate of learning that was "
        "chosen for softmax. P, PI, PD and PID with a rate for each, on thirty other seeds, are in the next part."
    )
    pooled = (
        "The same laws against the mean of the three softmax runs of a seed (softmax, softmax-again and comparator, "
        "which trains as softmax with a negated output projection):"
    )
    return [
        "## Is PID more than P?", "", fill(introduction, 120), "", *head, *rows_of(result, ("neutreno",)), "",
        fill(pooled, 120), "", *head, *rows_of(result, POOLED),
    ]  # fmt: skip
