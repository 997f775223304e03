"""Section: x_i <- x_i - mean(x_0 .. x_{i-1}), 15 passes of the automaton on A B C D repeated, and its similarities."""

import numpy as np

from ctrlattn import plots, presets
from ctrlattn.loop import simulate
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import number, percent, share_with_interval

TOKENS = ["A", "B", "C", "D", "A", "B", "C", "D", "A", "B", "C", "E"]
PASSES, FEATURES, DRAWS, SEED = 15, 64, 200, 0
VARIANTS = {"plain": "prediction-error", "RMS norm": "prediction-error-rms"}


def sections(material: Material) -> list[Section]:
    """Similarity before and after, and how often a D is the nearest earlier token to E."""
    generator = np.random.default_rng(SEED)
    periodic = _embed(TOKENS, generator)
    # The control has no repetition: it looks at the same positions, where no token is a D.
    distinct = _embed([str(i) for i in range(len(TOKENS))], generator)
    after = {label: _run(name, periodic) for label, name in VARIANTS.items()}
    hits = {label: int(_probe_finds(x, "D").sum()) for label, x in after.items()}
    control = {label: int(_probe_finds(_run(name, distinct), "D").sum()) for label, name in VARIANTS.items()}
    first = {"before": _cosines(periodic[0]), **{f"after, {label}": _cosines(x[0]) for label, x in after.items()}}
    rows = [i for i, token in enumerate(TOKENS) if token == "D"]
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
                share_with_interval(hits[label], DRAWS),
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
        plots.similarity(first, TOKENS, highlight=len(TOKENS) - 1),
        f"Cosine of every two tokens, before and after {PASSES} passes, of the first draw. The framed row is E: "
        "compare its columns D.",
    )
    return [
        Section(
            key="automaton",
            title=f"After {PASSES} passes the missing D is nearest to E in {percent(hits['plain'] / DRAWS)} of draws",
            sentences=sentences,
            pictures=(picture,),
            tables=(table,),
            numbers={
                "draws": DRAWS,
                "seed": SEED,
                "passes": PASSES,
                "d_is_nearest": {label: count / DRAWS for label, count in hits.items()},
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


def _embed(tokens: list[str], generator: np.random.Generator) -> np.ndarray:
    """Gaussian embeddings, (DRAWS, tokens, FEATURES); equal tokens have the same one."""
    vocabulary = sorted(set(tokens))
    table = generator.standard_normal((DRAWS, len(vocabulary), FEATURES))
    return table[:, [vocabulary.index(token) for token in tokens]]


def _run(name: str, x: np.ndarray) -> np.ndarray:
    return simulate(presets.get(name), x, PASSES, record="last").state


def _cosines(x: np.ndarray) -> np.ndarray:
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return unit @ unit.swapaxes(-1, -2)


def _probe_finds(x: np.ndarray, wanted: str) -> np.ndarray:
    """For each draw, whether the earlier token that is most similar to the last one is a `wanted`."""
    nearest = np.argmax(_cosines(x)[:, -1, :-1], axis=-1)
    return np.array(TOKENS[:-1])[nearest] == wanted
