"""Laws, comparisons and counts of the search over spans, as lines of a verdict and rows of a table.

This module says for the scene of the search over spans what its numbers mean.
"""

from stage.spans import Law
from stage.verdict import said


def words(law):
    """A law in words.

    >>> words(Law(2, 4, 2, 0.5, recall=0.25))
    'layers 2 to 3, 2 passes, P 0.5, recall 0.25'
    """
    span = f"layers {law.a} to {law.b - 1}" if law.b - law.a > 1 else f"layer {law.a}"
    if law.passes == 1:
        return f"{span} once, times {law.kp:.4g}"
    gains = [f"{name} {gain:.4g}" for name, gain in (("P", law.kp), ("I", law.ki), ("D", law.kd)) if gain]
    return ", ".join([span, f"{law.passes} passes", *gains, *([f"recall {law.recall:.4g}"] if law.recall else [])])


def verdict(result):
    rows = result["comparisons"]
    loop = rows["loop - network"]
    lines = [
        said(loop["mean"] + loop["half"] < 0, "the chosen loop lowers the loss of held-out documents"),
        said(
            max(
                rows[f"loop - {name}"]["mean"] + rows[f"loop - {name}"]["half"]
                for name in ("scaled alike", "best single")
            )
            < 0,
            "it beats its span scaled once by the same way, and the best single scaling",
        ),
    ]
    behind = result.get("after", {"laws": {}, "spectra": {}, "comparisons": {}})
    lines += [f"{name}: {words(Law(*law))}" for name, law in (result["laws"] | behind["laws"]).items()]
    lines += [
        f"{name}: {row['mean']:+.4f} ± {row['half']:.4f}, documents {row['documents']}"
        for name, row in (rows | behind["comparisons"]).items()
    ]
    lines += [f"spectrum of {span}: {spectrum}" for span, spectrum in behind["spectra"].items()]
    lines += beside_lines(result["beside"]) if "beside" in result else []
    last = result["steps"]["close"]
    chance = result["chance"]
    lines.append(
        f"the chosen loop where it was chosen: {last['chosen']:+.4f}; {chance['laws']} laws without effect show "
        f"{chance['mean']:+.4f} there by chance, one time in twenty {chance['low']:+.4f}"
    )
    for name, step in result["steps"].items():
        for kind in ("loops", "singles"):
            row = step[kind]
            lines.append(f"stage {name}, {kind} below 0: {row['below']} of {row['laws']}, least {row['mean']:+.4f}")
    return lines


def beside_lines(numbers):
    """What the search on shuffled text shows beside the one in order."""
    lines = [
        f"stage 1, {kind} below 0 of {row['laws']}: shuffled {row['below']}, in order {row['below in order']}, on both "
        f"{row['below on both']}; Spearman's correlation {row['spearman']:+.2f}"
        for kind, row in numbers["stage 1"].items()
    ]
    rows = numbers["comparisons"].items()
    return lines + [
        f"{name}: {row['mean']:+.4f} ± {row['half']:.4f}, documents {row['documents']}" for name, row in rows
    ]


def table_of(result):
    """Head and rows of the gallery: what was compared at the end."""
    rows = [
        [name, f"{r['mean']:+.4f} ± {r['half']:.4f}", str(r["documents"])] for name, r in result["comparisons"].items()
    ]
    return [["difference", "nats/token", "documents"], rows]
