"""window -> the document that it lies in: the unit over which the errors of the scene `03_drop.py` are.

Windows are cut from documents that stand one behind the other, so that a window may lie in several. Windows that share
a document have one label.
"""

from pathlib import Path

import numpy as np

from ctrlattn.files import visible
from stage.statistics import clustered


def labels_of(owners):
    """A label for each window: windows that follow each other and share a document have the same.

    >>> labels_of([["a"], ["b", "c"], ["c"], ["d"]])
    ['a', 'b', 'b', 'd']
    """
    labels, group = [], []
    for owned in owners:
        shares = bool(set(owned) & set(group))
        labels.append(labels[-1] if shares else str(owned[0]))
        group = [*group, *owned] if shares else list(owned)
    return labels


def owners_of(lengths, names, length, count):
    """The documents of `count` windows, evenly spread over documents of these lengths in tokens."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    windows = len(owner) // length
    starts = np.linspace(0, windows - 1, count).astype(int) * length
    return [[names[k] for k in dict.fromkeys(owner[start : start + length].tolist())] for start in starts]


def works_at(texts, names, starts):
    """The names of the texts, joined one behind the other, in which these places lie."""
    ends = np.cumsum([len(text) for text in texts])
    return [names[int(k)] for k in np.searchsorted(ends, starts, side="right")]


def works_of(folder):
    """(texts, names) of the files of a folder in the order of their names."""
    files = visible(Path(folder), "*.txt")
    return [file.read_text(encoding="utf-8", errors="replace") for file in files], [file.stem for file in files]


def sentences(documents):
    """What the page says of the unit of its intervals, from the documents that are stored beside the numbers."""
    news, plays = documents["windows"]["test"], documents["windows"]["plays"]
    lie_in = {document for owned in documents["owners of test"] for document in owned}
    several = sorted({work for work in plays if plays.count(work) > 1})
    common = sorted(set(documents["plays for gains"] or ()) & set(plays))
    return (
        f"The unit of an interval is a document. The {len(news)} windows of news lie in {len(lie_in)} documents, and "
        f"{'no two of them share one' if len(set(news)) == len(news) else 'some of them share one'}. The text of plays "
        f"is the files `*_gut.txt` of the package shakespeare (42 in version 0.6); its {len(plays)} windows lie in "
        f"{len(set(plays))} plays, several of them in {', '.join(several) or 'none'}. An interval over plays is "
        "Student's over these, with what windows of one play share taken into account (cluster-robust). Windows "
        f"of {', '.join(common) or 'none'} also stand, at other places, in the calibration text that is half plays."
    )


def with_documents(numbers, windows):
    """The numbers of the scene, each increase that has its values with its interval over documents."""
    if isinstance(numbers, dict):
        return {
            key: {**row, **without_mean(clustered(row["values"], windows[key]))}
            if key in windows and isinstance(row, dict) and "values" in row
            else with_documents(row, windows)
            for key, row in numbers.items()
        }
    return [with_documents(row, windows) for row in numbers] if isinstance(numbers, list) else numbers


def without_mean(row):
    """An interval whose mean stands beside it under another name."""
    return {key: value for key, value in row.items() if key != "mean"}
