"""comparison.json of deep networks -> their section of docs/training.md: what learns, by norm, scale and rate.

training_page.py uses it. New seeds and settings are added to the stored ones.
"""

from pathlib import Path
from textwrap import fill

from ctrlattn.nn.experiment.settings import RunSettings
from ctrlattn.provenance import provenance
from stage.page_file import read_json, write_json

RESULTS = Path(__file__).parents[1] / "results" / "train_deep.json"
SCORES, AT_LEAST = ("clean", "token_similarity_final"), 0.75


def keep(folders):
    """Add the comparisons that `ctrlattn train --out` wrote to the folders."""
    if folders:
        comparisons = merged(read_json(RESULTS)["comparisons"], folders)
        write_json(RESULTS, {"run": provenance(), "comparisons": comparisons})


def kept_of(folder):
    """The stored form of one comparison of deep networks, with one value per seed."""
    result = read_json(Path(folder) / "comparison.json")
    plan = result["plan"]
    arms = {
        arm: {**{score: scores[score]["values"] for score in SCORES}, "status": result["status"][arm]}
        for arm, scores in result["arms"].items()
    }
    return {"seeds": plan["seeds"], "settings": plan["settings"], "arms": arms}


def with_seeds(old, new):
    """Two comparisons of the same networks as one; the new one counts where both have a seed."""
    rows = [(seed, comparison, k) for comparison in (old, new) for k, seed in enumerate(comparison["seeds"])]
    last = {seed: (comparison, k) for seed, comparison, k in rows}
    arms = {
        arm: {name: [comparison["arms"][arm][name][k] for comparison, k in last.values()] for name in scores}
        for arm, scores in new["arms"].items()
    }
    return {"seeds": list(last), "settings": new["settings"], "arms": arms}


def merged(comparisons, folders):
    """The stored comparisons and those of the folders: more seeds of the same settings, or more settings."""
    for new in map(kept_of, folders):
        places = [k for k, old in enumerate(comparisons) if old["settings"] == new["settings"]]
        if places:
            comparisons = [with_seeds(old, new) if k == places[0] else old for k, old in enumerate(comparisons)]
        else:
            comparisons = [*comparisons, new]

    def order(comparison):
        settings = comparison["settings"]
        return settings["depth"], settings["norm"] != "none", settings.get("depth_scaled", False), rate_of(settings)

    return sorted(comparisons, key=order)


def cell(scores):
    """Mean accuracy over the seeds and its range, or the status of the runs where one did not learn."""
    counts = {status: scores["status"].count(status) for status in dict.fromkeys(scores["status"])}
    if set(counts) != {"learned"}:
        return ", ".join(f"{n} {status}" for status, n in counts.items())
    clean = scores["clean"]
    extremes = f" ({min(clean):.3f} to {max(clean):.3f})" if len(clean) > 1 else ""
    return f"{sum(clean) / len(clean):.3f}{extremes}"


def verdict(comparisons):
    """The outcome beside the expectation from an independent trial."""
    bare = [
        comparison
        for comparison in comparisons
        if comparison["settings"]["norm"] == "none" and not comparison["settings"].get("depth_scaled")
    ]
    ends = [status for comparison in bare for scores in comparison["arms"].values() for status in scores["status"]]
    deepest = max(comparison["settings"]["depth"] for comparison in comparisons)
    deep = [
        comparison
        for comparison in comparisons
        if comparison not in bare and comparison["settings"]["depth"] == deepest
    ]
    runs = [
        (f"{arm}, {name_of(comparison['settings'])}, seed {seed}", status, clean)
        for comparison in deep
        for arm, scores in comparison["arms"].items()
        if arm != "softmax"
        for seed, status, clean in zip(comparison["seeds"], scores["status"], scores["clean"], strict=True)
    ]
    low = [
        f"{run} ({f'{clean:.3f}' if status == 'learned' else status})"
        for run, status, clean in runs
        if status != "learned" or clean < AT_LEAST
    ]
    reach = f"{len(runs) - len(low)} of {len(runs)} reach {AT_LEAST}"
    return [
        f"- Without norm and with unscaled output weights: {len(ends) - ends.count('learned')} of {len(ends)} runs "
        "fail (expected: all).",
        f"- Depth {deepest}, controlled networks with a norm, scaled weights or both: {reach} (expected: all); "
        f"below it: {'; '.join(low) or 'none'}.",
    ]


def rate_of(settings):
    """The learning rate, which is the default where the settings have none."""
    return f"{settings.get('rate', RunSettings('', 0).rate):g}"


def name_of(settings):
    """Norm, scale and rate of a deep network in words."""
    depth_scale = "scaled" if settings.get("depth_scaled") else "not scaled"
    return f"norm {settings['norm']}, {depth_scale}, rate {rate_of(settings)}"


def lines():
    """The section: clean accuracy of deep networks, by norm and scale of the initial output weights."""
    comparisons = read_json(RESULTS)["comparisons"]
    arms = list(comparisons[0]["arms"])
    rows = [f"| depth | norm | output weights | rate | seeds | {' | '.join(arms)} |", "|---" * (5 + len(arms)) + "|"]
    for comparison in comparisons:
        settings = comparison["settings"]
        depth_scale = "scaled by 1/√(2 depth)" if settings.get("depth_scaled") else "not scaled"
        cells = [rate_of(settings), str(len(comparison["seeds"])), *map(cell, comparison["arms"].values())]
        rows.append(f"| {settings['depth']} | {settings['norm']} | {depth_scale} | {' | '.join(cells)} |")
    seeds = sorted({seed for comparison in comparisons for seed in comparison["seeds"]})
    introduction = (
        "The table gives the clean accuracy of `ctrlattn train digits --depth ... --norm ...`, as the mean over the "
        f"seeds from seed {seeds[0]} on (lowest to highest). So few seeds have no interval. The rate was chosen for "
        "softmax at depth 8 and not searched for these networks: that one fails says that it fails at this rate, and "
        "no claim about arms or depths follows. Chance is 0.1. An independent trial led to this expectation: without "
        f"norm and scaling every run fails, and with either of them controlled networks reach {AT_LEAST} at depth 48."
    )
    return ["## Deep networks", "", fill(introduction, 120), "", *rows, "", *verdict(comparisons)]
