"""loss(law) in order less loss(law) in random order: what the search over spans finds where nothing can be predicted.

This module measures for the scene of the search over spans. A search whose windows were shuffled is laid beside the
search in order, law by law and document by document.
"""

import numpy as np
from scipy.stats import spearmanr

from stage.span_search import joint
from stage.spans import Law


def beside(run, result, ordered):
    """Stage 1 of both searches, and laws of the search in order on held-out documents of both kinds.

    `run` and `result` are the search on shuffled windows, `ordered` is what the scene wrote about the search in order.
    """
    named_laws = ordered["laws"] | ordered["after"]["laws"]
    laws = {name: Law(*named_laws[name]) for name in run.plan["beside"]["laws"]}
    changes = run.changes("held_out", laws.values())
    each = {f"{name}: in order - shuffled": held_of(ordered, name) - changes[law] for name, law in laws.items()}
    each |= {f"{name}: shuffled": changes[law] for name, law in laws.items()}
    return {"stage 1": stage_1(result["stages"]["coarse"], ordered["stages"]["coarse"]), "comparisons": joint(each)}


def held_of(ordered, name):
    """Changes of a law by held-out document, in order, from the results of that search."""
    if name in ordered["held out"]:
        return np.array(ordered["held out"][name])
    return np.array(ordered["after"]["comparisons"][f"{name} - network"]["values"])


def stage_1(permuted, ordered):
    """Of loops and single scalings: how many there are, how many lie below 0 on each text and on both, their ranks.

    >>> rows = [[0, 1, 2, 0.5, 0, 0, 0, -1.0], [1, 2, 2, 0.5, 0, 0, 0, 1.0], [0, 1, 1, 1.1, 0, 0, 0, 1.0]]
    >>> stage_1(rows, rows)["loops"]
    {'laws': 2, 'below': 1, 'below in order': 1, 'below on both': 1, 'spearman': 1.0}
    """
    reference, means = ({Law(*row[:7]): float(np.mean(row[7:])) for row in rows} for rows in (ordered, permuted))
    kinds = {"loops": [law for law in means if law.passes > 1], "singles": [law for law in means if law.passes == 1]}
    return {
        kind: {
            "laws": len(laws),
            "below": sum(means[law] < 0 for law in laws),
            "below in order": sum(reference[law] < 0 for law in laws),
            "below on both": sum(means[law] < 0 and reference[law] < 0 for law in laws),
            "spearman": round(
                float(spearmanr([reference[law] for law in laws], [means[law] for law in laws]).statistic), 12
            ),
        }
        for kind, laws in kinds.items()
    }
