"""loss(law) where the search has not looked: laws of `tune`, held-out documents without their order, another text.

This module measures for the scene of the search over spans what its plan asks for behind the choice. Nothing is chosen
here: which spans and which law are judged was decided by stages that read other documents.
"""

from pydoc_data.topics import topics

from stage.span_search import best_spans, joint, loops_of, shuffled, windows_by_stage
from stage.spans import Law

SHUFFLED, SECOND = "held_out, shuffled", "second text"


def help_pages():
    """Python's own help, one topic a document, in the order of their names."""
    return [" ".join(topics[name].split()) for name in sorted(topics)]


def more_windows(checkpoint, windows, plan):
    """The windows of the stages with those of `after`: held-out ones with shuffled tokens, and those of help pages."""
    counts = {"coarse": 0, "fine": 0, "close": 0, "held_out": plan["after"]["documents"]}
    second = windows_by_stage(checkpoint, help_pages(), {**plan, "documents": counts})["held_out"]
    return {
        **windows,
        SHUFFLED: shuffled({"held_out": windows["held_out"]}, plan["seed"])["held_out"],
        SECOND: second,
    }


def spectral_laws(run, fine, plan):
    """({name: law}, {span: what was said}): laws from the measured spectra of the best spans of stage 2."""
    laws, answers = {}, {}
    for a, b in best_spans(loops_of(fine), plan["tuned_spans"]):
        answer = run.tuned((a, b))
        span = f"layers {a} to {b - 1}"
        answers[span] = answer["said"]
        for name, row in zip(("least recall", "tuned"), answer["laws"], strict=False):
            laws[f"{name}, {span}"] = Law(a, b, plan["tuned_passes"], *row)
    return laws, answers


def after(run, laws):
    """What the plan asks for behind the choice of `laws`, as plain numbers; its own intervals are joint."""
    spectral, answers = spectral_laws(run, run.fine(run.coarse()), run.plan["after"])
    loop, alike, single = (laws[name] for name in ("loop", "scaled alike", "best single"))
    held_out = run.changes("held_out", spectral.values()) if spectral else {}
    shuffled_changes = run.changes(SHUFFLED, [loop])
    second = run.changes(SECOND, [loop, alike, single])
    each = {f"{name} - network": held_out[law] for name, law in spectral.items()} | {
        "shuffled: loop - network": shuffled_changes[loop],
        "second text: loop - network": second[loop],
        "second text: loop - scaled alike": second[loop] - second[alike],
        "second text: best single - network": second[single],
    }
    return {
        "laws": {name: list(law) for name, law in spectral.items()},
        "spectra": answers,
        "comparisons": joint(each),
    }
