"""What is wrong? `python tests/oracles/campaign.py --inputs 10000 --seed 0 --json campaign.json`

Asks every public function of the toolbox about random systems, and sets each answer beside the truth: right; rounding
(wrong for these doubles, yet as near to the truth as the truths of systems that differ in their last digits); wrong;
refused (InputError or ArithmeticError); raw (any other exception, or a warning); over (the limit of processor time);
unjudged, where the oracle itself fails. The file is written as it goes, and a second call with the same file goes on
where the first one stopped. It is no part of CI, whose tests ask a small sample.
"""

import argparse
import json
import math
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import control
import numpy as np
import systems
from questions import QUESTIONS, Question

from ctrlattn.errors import InputError, InputTypeError

LIMIT = 10.0  # seconds of processor time for one call
ON_BOUNDARY = 1e-13  # the same, below which nothing is known of the side on which the pole lies
NEAR = 1e-6  # relative distance of a pole from the boundary below which a case is marginal
RIGHT, ROUNDING, WRONG, REFUSED, RAW, OVER = "right", "rounding", "wrong", "refused", "raw", "over"
UNJUDGED = "unjudged"
CLOSES = ("margins", "crossings", "gain_margin", "loop_margins", "disk_margin")  # of the closed loop
DRAWS = 16  # systems with other last digits that are asked before an answer is called wrong


class Outcome(NamedTuple):
    """One input and what came of it."""

    index: int
    function: str
    case: str
    outcome: str
    marginal: bool
    seconds: float
    detail: str


class OverLimit(Exception):
    """The call was stopped."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OverLimit inside the block once so much processor time is spent: other work does not count."""

    def stop(*_: Any) -> None:
        raise OverLimit

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def drawn(index: int, seed: int, names: list[str]) -> tuple[str, str, tuple[Any, ...]]:
    """(function, case, arguments) of an input: a function of the index and the seed alone."""
    name = names[index % len(names)]
    case, arguments = QUESTIONS[name].draw(np.random.default_rng([seed, index, list(QUESTIONS).index(name)]))
    return name, case, arguments


def outcome(index: int, seed: int, names: list[str], limit: float = LIMIT) -> Outcome:
    """Ask, and judge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name, case, arguments = drawn(index, seed, names)
        marginal = is_marginal(name, arguments)
    question, start = QUESTIONS[name], time.process_time()

    def ended(word: str, detail: str = "") -> Outcome:
        return Outcome(index, name, case, word, marginal, round(time.process_time() - start, 3), detail)

    try:
        with warnings.catch_warnings(), limited(limit):
            warnings.simplefilter("error")
            answer = question.ask(*arguments)
    except OverLimit:
        return ended(OVER)
    except Exception as error:  # the campaign tells all of them apart
        refusal = isinstance(error, InputError | InputTypeError) or type(error) is ArithmeticError
        if refusal and question.refuses(*arguments):
            return ended(RIGHT, "refused, as documented")
        return ended(REFUSED if refusal else RAW, f"{type(error).__name__}: {error}"[:300])
    answered = ended(RIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return judged(answered, question, arguments, answer)
        except Exception as error:  # a fault of the oracle is counted, not taken for one of the package
            return answered._replace(outcome=UNJUDGED, detail=f"{type(error).__name__}: {error}"[:300])


def judged(answered: Outcome, question: Question, arguments: tuple[Any, ...], answer: Any) -> Outcome:
    """The outcome of an answer: right, rounding or wrong."""
    truth = question.truth(*arguments, answer)
    wrong = differences(answer, truth, question.tolerance)
    if not wrong:
        return answered
    # Where a pole lies on the boundary as far as doubles go, an infinite norm or a margin of 0 says so.
    says_so = all(np.all(~np.isfinite(answer[key]) | (np.asarray(answer[key]) == 0)) for key in wrong)
    spread = (says_so and is_on_boundary(answered.function, arguments)) or rounding(
        question, arguments, answer, truth, wrong, np.random.default_rng(answered.index)
    )
    detail = "; ".join(f"{key}: {_short(answer[key])}, truth {_short(truth[key])}" for key in wrong)
    return answered._replace(outcome=ROUNDING if spread else WRONG, detail=detail[:500])


def differences(answer: dict[str, Any], truth: dict[str, Any], tolerance: float) -> list[str]:
    """The names under which an answer is not the truth."""
    return [key for key in answer if not _same(answer[key], truth[key], tolerance)]


def _same(answer: Any, truth: Any, tolerance: float) -> bool:
    if isinstance(answer, control.StateSpace):
        return answer is truth
    if isinstance(truth, bool | np.bool_):
        return bool(answer) == bool(truth)
    a, b = np.asarray(answer), np.asarray(truth)
    return a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=1e-300 + tolerance * 1e-3, equal_nan=True)


def rounding(
    question: Question, arguments: tuple[Any, ...], answer: Any, truth: Any, wrong: list[str], rng: np.random.Generator
) -> bool:
    """Do systems that differ in the last two digits of their doubles have truths as far apart as the answer is?"""
    others = []
    for k in range(DRAWS):
        try:
            moved = tuple(systems.moved(x, rng, _units(x, k)) for x in arguments)
            others.append(question.truth(*moved, answer))
        except (ArithmeticError, ValueError):  # the moved system has no answer, such as one that lost its stability
            return True
    return all(
        any(_covers(answer[k], truth[k], other[k]) for other in others)
        or _same_but_for_doubt(answer[k], truth[k], [other[k] for other in others], _doubtful_poles(arguments))
        for k in wrong
    )


def _units(system: Any, draw: int) -> int:
    """Four units of a coefficient; every other time 32 of an entry of a state space: what stable methods lose."""
    return 32 if isinstance(system, control.StateSpace) and draw % 2 else 4


def _doubtful_poles(arguments: tuple[Any, ...]) -> int:
    """How many open-loop poles lie on the boundary as far as doubles go: each may add a crossing, or none."""
    linear = [x for x in arguments if isinstance(x, control.StateSpace | control.TransferFunction)]
    return sum(int(np.sum(np.abs(_growth(x, closes=False)) < ON_BOUNDARY)) for x in linear)


def _same_but_for_doubt(answer: Any, truth: Any, others: list[Any], poles: int) -> bool:
    """Of two lists: every entry that all truths have is answered, and no more of the others than a truth may have."""
    if np.ndim(answer) != 1 or np.ndim(truth) != 1:
        return False

    def within(value: float, entries: Any) -> bool:
        return bool(np.any(np.abs(np.asarray(entries) - value) <= 1e-3 * abs(value)))

    certain = [value for value in truth if all(within(value, other) for other in others)]
    doubtful = sum(not within(value, certain) for value in answer)
    most = max(len(entries) - len(certain) for entries in (truth, *others))
    return all(within(value, answer) for value in certain) and doubtful <= most + poles


def _covers(answer: Any, truth: Any, other: Any) -> bool:
    if isinstance(answer, control.StateSpace):
        return other is answer
    a, b, c = (np.atleast_1d(np.asarray(x, dtype=complex)) for x in (answer, truth, other))
    if a.shape != b.shape or b.shape != c.shape:
        return b.shape != c.shape
    finite = np.isfinite(a) == np.isfinite(b)
    if not np.all(finite):
        return bool(np.any(np.isfinite(b) != np.isfinite(c)))
    ok = ~np.isfinite(a) | (np.abs(a - b) <= 10 * np.abs(c - b) + 1e-9 * np.abs(b))
    return bool(np.all(ok))


def is_marginal(name: str, arguments: tuple[Any, ...]) -> bool:
    """A pole (of the closed loop, where that is asked about) is within 1e-6 of the boundary, or rounding moves it."""
    return any(_is_near(x, name in CLOSES) for x in _linear(name, arguments))


def is_on_boundary(name: str, arguments: tuple[Any, ...]) -> bool:
    """Such a pole is within rounding of the boundary: that it lies on it is as good an answer."""
    return any(abs(_outermost(x, name in CLOSES)) < ON_BOUNDARY for x in _linear(name, arguments))


def _linear(name: str, arguments: tuple[Any, ...]) -> list[Any]:
    """The systems whose poles a question is about: the poles of a controller are no matter of a mode's stability."""
    of_modes = name in ("stability_set", "stability_interval", "sensitivity_peaks")
    return [x for x in arguments if isinstance(x, control.StateSpace | control.TransferFunction) and not of_modes]


def _is_near(system: Any, closes: bool) -> bool:
    near = (system, *(systems.moved(system, np.random.default_rng(k)) for k in (1, 2)))
    distances = [_outermost(x, closes) for x in near]
    return bool(min(np.abs(distances)) < NEAR or min(distances) < 0 < max(distances))


def _outermost(system: Any, closes: bool) -> float:
    """`_growth` of the outermost pole; 0 of a loop that is not well posed."""
    return float(np.max(_growth(system, closes), initial=-1.0))


def _growth(system: Any, closes: bool) -> np.ndarray:
    """|z| - 1 (Re s over the largest pole) of every pole."""
    g = systems.states_of(system)
    a = g.A
    if closes:
        direct = np.eye(g.ninputs) + g.D
        if np.linalg.cond(direct) > 1e12:
            return np.zeros(1)
        a = g.A - g.B @ np.linalg.solve(direct, g.C)
    poles = np.linalg.eigvals(a)
    return poles.real / max(float(np.max(np.abs(poles), initial=0.0)), 1e-300) if g.dt == 0 else np.abs(poles) - 1


def _short(x: Any) -> str:
    return np.array2string(np.asarray(x), precision=8, threshold=12, max_line_width=200) if not hasattr(x, "A") else "G"


def counts(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """How many of each, for every function and in all; refusals inside and outside of marginal cases."""
    table = {name: dict(Counter(o["outcome"] for o in outcomes if o["function"] == name)) for name in QUESTIONS}
    inside, outside = ([o for o in outcomes if o["marginal"] is side] for side in (True, False))
    refused = [sum(o["outcome"] == REFUSED for o in part) for part in (inside, outside)]
    return {
        "inputs": len(outcomes), "all": dict(Counter(o["outcome"] for o in outcomes)), "functions": table,
        "marginal inputs": len(inside), "refused inside": refused[0], "refused outside": refused[1],
        "share refused outside": refused[1] / max(len(outside), 1), "longest call": max(
            (o["seconds"] for o in outcomes), default=math.nan),
    }  # fmt: skip


def main() -> None:
    """Ask block by block, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--start", type=int, default=0, help="index of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--functions", nargs="*", default=list(QUESTIONS))
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one call")
    parser.add_argument("--block", type=int, default=100, help="inputs between two writings of the file")
    parser.add_argument("--json", type=Path, help="where outcomes are written; those that stand there are kept")
    options = parser.parse_args()
    before: list[dict[str, Any]] = []
    if options.json and options.json.exists():
        before = json.loads(options.json.read_text(encoding="utf-8"))["outcomes"]
    done = {o["index"] for o in before}
    for index in range(min(len(options.functions), options.inputs)):
        outcome(index, options.seed, options.functions, limit=600)  # what is compiled at first use is compiled here
    for index in range(options.start, options.start + options.inputs):
        if index in done:
            continue
        result = outcome(index, options.seed, options.functions, options.limit)
        before.append(result._asdict())
        if result.outcome in (WRONG, RAW, OVER, UNJUDGED):
            print(f"{result.outcome:8} {index} {result.function}({result.case}): {result.detail}", flush=True)
        if options.json and (index % options.block == options.block - 1):
            _write(options, before)
    if options.json:
        _write(options, before)
    print(json.dumps(counts(before), indent=1))
    sys.exit(any(o["outcome"] in (WRONG, RAW, OVER, UNJUDGED) for o in before))


def _write(options: argparse.Namespace, outcomes: list[dict[str, Any]]) -> None:
    facts = {"seed": options.seed, "limit": options.limit, "counts": counts(outcomes), "outcomes": outcomes}
    partial = options.json.with_suffix(".part")
    partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    partial.replace(options.json)


if __name__ == "__main__":
    main()
