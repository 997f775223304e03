"""stored values -> every stored and printed interval again: what a results file says of a mean follows from its values.

python simulations/recompute_intervals.py            # how many intervals follow from the values, by file
python simulations/recompute_intervals.py --check    # exit 1 if an interval does not follow, or carries no values

Intervals are Student's over the values, Wilson's over hits, or a max-t bootstrap, as the file says; see
stage/statistics.py. The printed ones are those of the sentences and tables that a scene keeps for the gallery.
"""

import argparse
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
from stage.page_file import read_json
from stage.statistics import recomputed, stored_intervals

RESULTS = Path(__file__).parent / "results"
PRINTED = re.compile(r"\d \[([-+]?\d*\.?\d+), ([-+]?\d*\.?\d+)\]")
HALVES = re.compile(r"[-+]?\d*\.\d+ ± \d*\.\d+")
# What a scene prints of other files.
ELSEWHERE = {
    "gallery/feedback_sign.json": "feedback_sign*.json",
    "gallery/trained_loops.json": "train_loops*.json",
    "gallery/signs_in_training.json": "signs_in_training.json",
    "gallery/unstable_in_training.json": "unstable_in_training.json",
}
FACTORS = {"gallery/trained_loop.json"}  # intervals of logarithms to the base of 10, printed as factors


def close(a, b):
    a, b = (np.array([np.asarray(end, dtype=float) for end in ends]) for ends in (a, b))  # "nan" is a word in JSON
    return np.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True)


def stored(numbers):
    """(recomputed intervals, places that do not follow, places without values) of one file."""
    all_ends, wrong, absent = [], [], []
    for place, entry in stored_intervals(with_tests(numbers)):
        ends = recomputed(entry)
        if ends is None:
            absent.append(place)
            continue
        all_ends.append(ends)
        if not close(ends, (entry["low"], entry["high"])):
            wrong.append(place)
    return all_ends, wrong, absent


def with_tests(numbers):
    """A trained comparison whose planned tests carry arm - factor * the arm it is tested against, seed by seed."""
    if not (isinstance(numbers, dict) and "differences" in numbers and numbers.get("tests")):
        return numbers
    tests = []
    for test in numbers["tests"]:
        score, against = test["score"], numbers["arms"][numbers["plan"]["against"]]
        arm, reference = (
            np.array(row[score]["values"], dtype=float) for row in (numbers["arms"][test["arm"]], against)
        )
        tests.append({**test, "values": (arm - test["factor"] * reference).tolist()})
    return {**numbers, "tests": tests}


def printed(numbers, all_ends):
    """Intervals in the sentences and cells of a scene: (how many, those that no recomputed one rounds to)."""
    lines = [*numbers.get("verdict", []), *(cell for row in numbers.get("table", [[], []])[1] for cell in row)]
    pairs = [pair for line in lines for pair in PRINTED.findall(str(line))]
    halves = [text for line in lines for text in HALVES.findall(str(line))]
    low, high = (np.concatenate([np.zeros(0), *(np.ravel(ends[k]) for ends in all_ends)]) for k in (0, 1))
    strange = [f"[{a}, {b}]" for a, b in pairs if not np.any(rounds(a, low) & rounds(b, high))]
    for text in halves:
        mean, half = text.split(" ± ")
        if not np.any(rounds(mean, (low + high) / 2) & rounds(half, (high - low) / 2)):
            strange.append(text)
    return len(pairs) + len(halves), strange


def rounds(text, values):
    """Whether each of the values is printed like this with as many digits; what is not finite is not."""
    digits = len(text.partition(".")[2])
    return np.abs(float(text) - values) <= 0.5000001 * 10.0**-digits


def judged(path, of):
    """One line about a file, and what is wrong with it; of(path) are the intervals that a file holds."""
    numbers = read_json(path)
    name = path.relative_to(RESULTS).as_posix()
    all_ends, wrong, absent = of(path)
    if name in ELSEWHERE:
        all_ends = all_ends + [
            ends for path_elsewhere in RESULTS.glob(ELSEWHERE[name]) for ends in of(path_elsewhere)[0]
        ]
    if name in FACTORS:
        all_ends = [*all_ends, *(np.power(10.0, ends) for ends in all_ends)]
    count, strange = printed(numbers, all_ends) if isinstance(numbers, dict) else (0, [])
    line = (
        f"{name}: {len(all_ends)} recomputed, {len(absent)} without values; printed {count}, "
        f"{count - len(strange)} of them recomputed"
    )
    faults = [f"{name}: {place} does not follow from its values" for place in wrong]
    faults += [f"{name}: {place} carries no values" for place in absent]
    faults += [f"{name}: printed {text} is none of the recomputed" for text in strange]
    return line, faults


def main(check=False):
    """Print every file that has intervals; returns the faults."""
    faults, of = [], cache(lambda path: stored(read_json(path)))  # a file that another prints is computed once
    for path in sorted(RESULTS.rglob("*.json")):
        line, path_faults = judged(path, of)
        faults += path_faults
        if not check and not line.endswith(": 0 recomputed, 0 without values; printed 0, 0 of them recomputed"):
            print(line)
    return faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say only what does not follow; exit 1 if anything")
    problems = main(parser.parse_args().check)
    print("\n".join(problems[:40]))
    sys.exit(1 if problems else 0)
