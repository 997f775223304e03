"""Section: x_i <- x_i - mean(x_0 .. x_{i-1}), 15 passes of the automaton on A B C D repeated, and its similarities."""

import numpy as np

from ctrlattn import plots, presets
from ctrlattn.loop import simulate
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import number, percent, share_with_interval
from ctrlattn.sweep.probe import TOKENS, WANTED, cosines, embeddings, hits

PASSES, FEATURES, DRAWS, SEED = 15, 64, 200, 0
VARIANTS = {"plain": "prediction-error", "RMS norm": "prediction-error-rms"}


def sections(material: Material) -> list[Section]:
    """Show the similarity before and after, and how often a D is the nearest earlier token to E."""
    generator = np.random.default_rng(SEED)
    periodic = embeddings(TOKENS, DRAWS, FEATURES, generator)
    # The control has no repetition: it looks at the same positions, where no token is a D.
    distinct = embeddings([str(i) for i in range(len(TOKENS))], DRAWS, FEATURES, generator)
    after = {label: _run(name, periodic) for label, name in VARIANTS.items()}
    counts = {label: int(hits(x).sum()) for label, x in after.items()}
    control = {label: int(hits(_run(name, distinct)).sum()) for label, name in VARIANTS.items()}
    first = {"before": cosines(periodic[0]), **{f"after, {label}": cosines(x[0]) for label, x in after.items()}}
    rows = [i for i, token in enumerate(TOKENS) if token == WANTED]
    nearest = {label: max(matrix[-1, rows]) for label, matrix in first.items()}
    chance = len(rows) / (len(TOKENS) - 1)
    sentences = (
        "Each pass subtracts from every token the mean of the tokens before it, as this pass has already updated them: "
        "a comparator with negative feedback. E, never seen before, stands where D would have come.",
        "The control has 12 different tokens without repetition and looks at the same two positions. What stands above "
        "chance there is position, not prediction.",
    )
    table = Table(
        ("automaton", "cosine of E and D, before", "after", "a D is nearest to E", "control", "chance"),
        tuple(
            (
                label,
                number(nearest["before"]),
                number(nearest[f"after, {label}"]),
                share_with_interval(counts[label], DRAWS),
                percent(control[label] / DRAWS),
                percent(chance),
            )
            for label in VARIANTS
        ),
        f"{PASSES} passes, {DRAWS} Gaussian draws of the embeddings with {FEATURES} features, seed {SEED}",
    )
    picture = Picture(
        "automaton",
        "Token similarity before and after 15 passes of the automaton, plain and RMS-normalised",
        plots.similarity(first, list(TOKENS), highlight=len(TOKENS) - 1),
        f"Cosine of every two tokens, before and after {PASSES} passes, of the first draw. The framed row is E: "
        "compare its columns D.",
    )
    return [
        Section(
            key="automaton",
            title=f"After {PASSES} passes the missing D is nearest to E in {percent(counts['plain'] / DRAWS)} of draws",
            sentences=sentences,
            pictures=(picture,),
            tables=(table,),
            numbers={
                "draws": DRAWS,
                "seed": SEED,
                "passes": PASSES,
                "d_is_nearest": {label: count / DRAWS for label, count in counts.items()},
                "control_all_distinct": {label: count / DRAWS for label, count in control.items()},
            },
            variables={
                "automaton_similarity": (
                    ("automaton_variant", "automaton_query", "automaton_key"),
                    np.stack(list(first.values())),
                    {"long_name": "cosine similarity: before, after plain, after RMS", "units": "1"},
                ),
                "automaton_variant": (("automaton_variant",), np.array(list(first)), {"long_name": "when, and norm"}),
                "automaton_query_text": (("automaton_query",), np.array(TOKENS), {"long_name": "token that asks"}),
                "automaton_key_text": (
                    ("automaton_key",),
                    np.array(TOKENS),
                    {"long_name": "token it is compared with"},
                ),
            },
        )
    ]


def _run(name: str, x: np.ndarray) -> np.ndarray:
    return simulate(presets.get(name), x, PASSES, record="last").state
