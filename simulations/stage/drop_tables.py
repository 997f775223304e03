"""numbers of drop.json -> Markdown lines: the tables and sentences of docs/dropping.md, one function per section."""

from itertools import product

import numpy as np
from scipy.stats import t as student

from stage.drop_foretold import foretold_without, sets_without
from stage.statistics import clustered, interval
from stage.verdict import signed

ORDER_NOTE = """
By mean and by maximum, on both texts, the order is attention << blocks < MLP: dropping an MLP together with its
attention costs less than dropping the MLP alone. The published table has both orders. Without eight MLPs,
Llama-2-13B keeps more than without eight blocks (61.9 against 60.7 points), and Mistral-7B keeps less (53.4 against
58.6).

The scores are those of 16 windows of 256 tokens of news. On these windows the order by the mean avoids the layers that
turn some position by more than 60 degrees (MLPs 0, 10, 11 and 29). Its eight MLPs are mostly neighbours, and their
joint cost is not the sum of their single costs.
"""
COPY_NOTE = """A text has a passage of 64 tokens, other tokens, and the passage again. The table gives the loss of the
passage in nats per token. The second time it can be predicted by attention that finds the first.
"""


WINDOWS = {"test": 16, "plays": 8, "copies": 8}  # of the stored run, over which the errors are


def half(error, part):
    """Half of Student's 95 % interval from a standard error over the windows of a part."""
    return float(student.ppf(0.975, WINDOWS[part] - 1)) * error


def cell(result, part):
    """Mean and half of the interval: over documents where the values are kept, else over windows (marked by *)."""
    row = result[part]
    if "low" in row:
        return f"{row['increase']:+.3f} ± {(row['high'] - row['low']) / 2:.3f}"
    return f"{row['increase']:+.3f} ± {half(row['standard_error'], part):.3f}{'*' * (part == 'plays')}"


def curve_lines(curves):
    rows = ["| what is dropped | how many | news | plays |", "|---|---|---|---|"]
    for name, points in curves.items():
        for count in sorted(points, key=int):
            rows.append(f"| {name} | {count} | {cell(points[count], 'test')} | {cell(points[count], 'plays')} |")
    return rows


def recovered(curves, name, part):
    """{number of layers: share of the published method's increase of the loss that gains win back}."""
    bare, gains = curves["attention, by cosine"], curves[name]
    both = sorted((n for n in gains if n in bare), key=int)
    return {n: 1 - gains[n][part]["increase"] / bare[n][part]["increase"] for n in both}


def reached(value, limit):
    return "reached" if value <= limit else "missed"


def outcome(numbers):
    curves = numbers["curves"]
    lines = []
    kinds = {"chosen + gain": "static gains", "chosen + memory": "gains with memory"}
    for name, words in kinds.items():
        for part, where in (("test", "On news"), ("plays", "On plays")):
            shares = ", ".join(f"{share:.0%} at {n}" for n, share in recovered(curves, name, part).items())
            lines.append(
                f"- {where}, {words} in chosen layers win back this share of the cost of as many bare drops by cosine: "
                f"{shares}."
            )
    for count, must, stretch in (("8", 0.10, 0.075), ("15", 0.38, 0.25)):
        increases = {words: curves[name][count]["test"]["increase"] for name, words in kinds.items()}
        each = "; ".join(
            f"{words} {x:+.3f}, {must:+.3f} {reached(x, must)}, {stretch:+.3f} {reached(x, stretch)}"
            for words, x in increases.items()
        )
        lines.append(f"- {count} layers on news, goal {must:+.3f} and stretch goal {stretch:+.3f}: {each}.")
    shares = {words: recovered(curves, name, "plays")["8"] for name, words in kinds.items()}
    each = ", ".join(f"{words} {reached(0.65, share)} ({share:.0%})" for words, share in shares.items())
    lines.append(f"- Goal of at least 65 % won back on plays at 8 layers, with gains fitted to news alone: {each}.")
    return [*lines, *controls(curves)]


def controls(curves):
    """What the shares above do not say: what the choice of layers adds to the gains, and half against eight."""
    by_choice, by_cosine, eight = curves["chosen + gain"], curves["cosine + gain"], curves["attention, by cosine"]["8"]
    pairs = "; ".join(
        f"{count} on {where} {cell(by_choice[count], part)} chosen, {cell(by_cosine[count], part)} by cosine"
        for count in ("8", "15")
        for part, where in (("test", "news"), ("plays", "plays"))
    )
    half = "; ".join(
        f"{words} {cell(curves[name]['15'], 'test')}, {beyond(curves[name]['15'], eight, 'test')}"
        for name, words in (("chosen + gain", "static gains"), ("chosen + memory", "gains with memory"))
    )
    return [
        f"- The choice of layers by itself: the same static gains cost at {pairs}.{paired(by_choice, by_cosine)}",
        f"- Half of the layers with gains against eight without, {cell(eight, 'test')} on news: {half}.",
    ]


def paired(a, b):
    """Increase of a less that of b, window by window with the interval over documents, where both kept values."""
    phrases = []
    for count, (part, where) in product(("8", "15"), (("test", "news"), ("plays", "plays"))):
        first, second = a[count][part], b[count][part]
        if "documents" in first and "documents" in second:
            ends = clustered(np.subtract(first["values"], second["values"]), first["documents"])
            phrases.append(f"{count} on {where} {signed(ends)}")
    return f" Chosen less cosine, paired by window: {', '.join(phrases)}." if phrases else ""


def beyond(less, more, part):
    """Whether one increase lies below another at 95 %: paired by window where values are kept, else unpaired."""
    if "documents" in less[part] and "documents" in more[part]:
        apart = clustered(np.subtract(less[part]["values"], more[part]["values"]), less[part]["documents"])["high"] < 0
        return "less beyond the interval" if apart else "not less beyond the interval"
    error = (less[part]["standard_error"] ** 2 + more[part]["standard_error"] ** 2) ** 0.5
    apart = more[part]["increase"] - less[part]["increase"] > half(error, part)
    return "less beyond the interval" if apart else "not less beyond the interval"


ORDERS = {"attention": "attention, by cosine", "mlp": "MLP, by cosine", "blocks": "blocks, by cosine"}


def ordering_lines(numbers):
    """Eight attention layers, MLPs or blocks, by the mean and by the maximum of importance."""
    by = {
        "mean": {kind: numbers["curves"][name]["8"] for kind, name in ORDERS.items()},
        "maximum": numbers["by maximum"],
    }
    rows = ["| eight dropped bare, by | attention | MLP | blocks | attention < MLP < blocks |", "|---|---|---|---|---|"]
    for name, results in by.items():
        for part, words in (("test", "news"), ("plays", "plays")):
            increases = [results[kind][part]["increase"] for kind in ORDERS]
            cells = " | ".join(cell(results[kind], part) for kind in ORDERS)
            rows.append(f"| {name}, {words} | {cells} | {'yes' if increases == sorted(increases) else 'no'} |")
    each = ", ".join(f"{mlp['layers'][0]} {mlp['test']['increase']:+.3f}" for mlp in numbers["MLP alone"])
    together = numbers["curves"]["MLP, by cosine"]["8"]["test"]["increase"]
    total = sum(mlp["test"]["increase"] for mlp in numbers["MLP alone"])
    note = (
        f"The eight MLPs of least mean importance cost on news, each dropped alone: {each}. Their sum is {total:+.3f}; "
        f"dropped together they cost {together:+.3f}."
    )
    return [*rows, "", note, ORDER_NOTE, *long_lines(numbers["long windows"])]


def long_lines(results):
    together, worst = results["together"], results["worst"]
    layer, layers = worst["layers"][0], ", ".join(map(str, together["layers"]))
    return [
        f"With scores of two windows of 2,048 tokens, the eight MLPs of least mean are {layers}. Together they cost "
        f"{cell(together, 'test')} on news. Layer {layer}, which turns a position furthest, costs "
        f"{cell(worst, 'test')} alone. By the maximum it is never dropped: the eight are 12 to 19 on these windows, on "
        "the short ones, and on the short ones with a BOS token in front, which does not change the eight by the mean "
        "either. The maximum thus protects the layers that must not be dropped, but orders the others no better. "
        '`reduce(..., by="worst")` uses it.',
        "",
    ]


def copy_lines(copies):
    copies = {name: losses for name, losses in copies.items() if name != "seconds"}
    gaps = list(copies["whole"])
    titles = " | ".join(f"second time, after {gap} tokens" for gap in gaps)
    rows = [f"| network | first time | {titles} |", "|---" * (2 + len(gaps)) + "|"]
    for name, losses in copies.items():
        cells = " | ".join(
            f"{losses[gap]['again']:.2f} ± {half(losses[gap]['standard_error'], 'copies'):.2f}" for gap in gaps
        )
        rows.append(f"| {name} | {losses[gaps[0]]['first']:.2f} | {cells} |")
    return rows


def ablation_lines(numbers):
    rows = ["| in eight layers | news | plays |", "|---|---|---|"]
    curves = numbers["curves"]
    main = {
        "gains in the chosen layers, as above": curves["chosen + gain"]["8"],
        "gains of rank 255 in the same layers": numbers["ablations"]["rank 255"],
        "gains with memory in the layers chosen for them, as above": curves["chosen + memory"]["8"],
        "gains with memory in the layers of least cosine importance": curves["cosine + memory"]["8"],
        "gains in eight other layers, chosen and fitted on varied news": numbers["varied"],
        "gains in the layers of least cosine importance, fitted half on news, half on plays": numbers["both kinds"],
        "no gains in the chosen layers, which are dropped bare": numbers["bare at the chosen"],
    }
    for name, result in main.items():
        rows.append(f"| {name} | {cell(result, 'test')} | {cell(result, 'plays')} |")
    sizes = numbers["parameters"]
    each = ", ".join(f"{name} {n:,} ({n / sizes['attention']:.1%})" for name, n in sizes.items())
    return [*rows, "", f"One layer has these numbers of parameters: {each}.", "", *time_lines(numbers)]


def time_lines(numbers):
    static, memory = numbers["choice"]["seconds"], numbers["choice with memory"]["seconds"]
    fits = (numbers["ablations"]["rank 255"]["fit_seconds"], numbers["curves"]["chosen + memory"]["8"]["fit_seconds"])
    return [
        f"The choice of layers took {static:.0f} s for static gains and {memory:.0f} s for gains with memory, and the "
        f"fit of eight gains {fits[0]:.0f} and {fits[1]:.0f} s. These times are those of one thread on two busy cores, "
        "with a load of 3 for static gains and of 5 to 10 for gains with memory."
    ]


def speed_lines(speed):
    rows = ["| | prefill (tokens/s) | with cache (tokens/s) | KV cache (KiB) | parameters |", "|---|---|---|---|---|"]
    for name, network in speed["networks"].items():
        cache = network["cache_bytes"] * speed["prompt"] / 1024
        rows.append(
            f"| {name} | {network['prefill']:.0f} | {network['generation']:.1f} | {cache:.0f} "
            f"| {network['parameters']:,} |"
        )
    threads = f"{speed['threads']} thread{'s' * (speed['threads'] > 1)}"
    note = (
        f"The networks were measured in turn on one text of {speed['prompt']} tokens with {threads}; the rates are "
        f"medians. The load of the machine was {speed['load']:.1f}."
    )
    return [*rows, "", note]


RANDOM_NOTE = """The plan (simulations/configs/drop_control.json) was written before any set was chosen at random, and
cut from 10 documents of 128 tokens to 8 of 96 before any was run. {documents} documents of news, {tokens} tokens each,
are a smaller text than above: rows of these tables are to be compared with each other. The unit of an interval in the
first table is a document (Student, 95 %). In the second it is a layer or a set (bootstrap, 95 %).
"""
FORETOLD_NOTE = """The residual is the share of a layer's contribution that no linear map of the token alone has, times
the contribution's squared length over the stream's (both from scene 18). A set is foretold by the sum over its layers.
The residual and the size of the gain are not in the plan: they came after the costs and two signals had been seen.
Intervals are for one signal at a time. Layers 0 and 1 cost far more than the rest, and half of the sets hold one of
them: what is left without them stands in the last two columns, over 28 layers and {rest} sets.
The goals above (.100, .075, .380, .250 nats and 65 %) are this project's own and no publication's.
"""


COSTLY = (0, 1)  # layers that cost far more than the rest, as was seen in the results


def random_lines(control):
    """Random sets of eight beside those that were chosen, and what foretells a cost."""
    sets = control["sets"]
    at_random = [result for name, result in sets.items() if name.startswith("random")]
    order = sorted(at_random, key=lambda result: result["mean"])
    extremes = {
        "by cosine": sets["by cosine"], "chosen for static gains, bare": sets["chosen"],
        "random, the least of them": order[0], "random, below the median": order[(len(order) - 1) // 2],
        "random, above the median": order[len(order) // 2], "random, the most": order[-1],
    }  # fmt: skip
    rows = ["| eight dropped bare | layers | cost in nats per token |", "|---|---|---|"]
    rows += [f"| {name} | {', '.join(map(str, r['layers']))} | {signed(r)} |" for name, r in extremes.items()]
    alone = sorted(control["alone"].items(), key=lambda item: -item[1]["mean"])[:5]
    most = ", ".join(f"{layer} {signed(result)}" for layer, result in alone)
    return [
        RANDOM_NOTE.format(**control["settings"]), *rows, "", _of_random_sets(control, order), "",
        f"The layers that cost most alone: {most}.", "", "Spearman's rank correlation of a signal with the cost:", "",
        *_foretold_rows(control), "", FORETOLD_NOTE.format(rest=len(sets_without(control, COSTLY))),
    ]  # fmt: skip


def _of_random_sets(control, order):
    """The random sets, in order of their costs, beside the eight by cosine, and what the costly layers do to them."""
    cosine = control["sets"]["by cosine"]
    below = sum(result["mean"] < cosine["mean"] for result in order)
    middle = np.median([result["mean"] for result in order])
    beyond = interval(np.subtract(order[0]["values"], cosine["values"]))
    means = [result["mean"] for result in sets_without(control, COSTLY)]
    costly = [result["mean"] for result in order if set(COSTLY) & set(result["layers"])]
    return (
        f"Of {len(order)} random sets of eight, {below} cost less than the eight by cosine; the median is "
        f"{middle:+.3f}. The least of them costs {signed(beyond)} more than these, paired by document. The "
        f"{len(costly)} sets that hold layer 0 or 1 cost at least {costly[0]:+.3f}, the others at most "
        f"{max(means):+.3f}."
    )


def _foretold_rows(control):
    rows = [
        "| signal of a layer | its cost alone | cost of a random set | alone, without 0, 1 | sets, without |",
        "|---|---|---|---|---|",
    ]
    without = foretold_without(control, COSTLY)
    for name, results in control["foretold"].items():
        pairs = [*results.values(), *without[name].values()]
        rows.append(f"| {name} | {' | '.join(map(signed, pairs))} |")
    return rows
