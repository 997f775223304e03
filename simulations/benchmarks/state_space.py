"""Frequency response and pseudospectra against python-control and against an SVD a point.

    python simulations/benchmarks/state_space.py            # alternating runs, one and two threads
    python simulations/benchmarks/state_space.py --once     # small, one run each, for CI

Both sides are timed in turn in one process. Each row says how far the two answers lie apart and stops the run where
that is more than allowed. Where slycot is installed python-control is timed with it too, and asked for no ratio: slycot
is GPL and no dependency, so that a row with it is taken from an environment of its own.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
from paired import alternate, command, median_ms

LIMITS = {"general": 14, "defective": 14, "upper triangular": 40, "lower triangular": 40}


def worker(small: bool) -> list[dict[str, object]]:
    """All rows for the threads of this process."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    n, frequencies, times = (80, 20, 1) if small else (1000, 200, 1)
    rows = [row for kind in LIMITS for row in against_python_control(kind, n, frequencies, times)]
    size, points, times = (48, 8, 1) if small else (256, 100, 1)
    rows += [against_svd(kind, size, points, times) for kind in matrices(2)]
    rows += [kreiss(24 if small else 100)]
    return [{"threads": threads, **row} for row in rows]


def against_python_control(kind: str, n: int, frequencies: int, times: int) -> list[dict[str, object]]:
    """An 8 x 8 discrete system of n states: ours against the method of python-control's own system."""
    import control

    from ctrlattn import frequency_response

    rng = np.random.default_rng(0)
    dense = 0.9 * rng.standard_normal((n, n)) / np.sqrt(n)
    turn = np.linalg.qr(dense)[0]
    a = {
        "general": dense,
        "defective": turn @ (0.5 * np.eye(n) + 0.3 * np.eye(n, k=1)) @ turn.T,  # one Jordan block, turned
        "upper triangular": np.triu(dense),
        "lower triangular": np.tril(dense),
    }[kind]
    system = control.ss(a, rng.standard_normal((n, 8)), rng.standard_normal((8, n)), np.zeros((8, 8)), 1)
    omega = np.linspace(0.01, 3.1, frequencies)
    label = f"frequency response, {kind} A, n = {n}, 8 x 8, {frequencies} frequencies"

    def against(backend: str, limit: int | str, times: int) -> dict[str, object]:
        expected, actual = system.frequency_response(omega).complex, frequency_response(system, omega).complex
        difference = np.abs(actual - expected).max() / np.abs(expected).max()
        require(difference <= 1e-10, kind, difference)
        ours, theirs = alternate(
            lambda: frequency_response(system, omega), lambda: system.frequency_response(omega), times
        )
        return row(label, ours, theirs, f"python-control {backend}", limit, difference)

    with without_slycot():
        rows = [against("without slycot", LIMITS[kind], times)]
    if importlib.util.find_spec("slycot"):
        rows.append(against(f"with slycot {version('slycot')}", "", 5 * times))
    return rows


@contextmanager
def without_slycot() -> Iterator[None]:
    """python-control looks for slycot at each call, and does without it where it finds none."""
    module = sys.modules.get("slycot")
    sys.modules["slycot"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["slycot"]
        if module is not None:
            sys.modules["slycot"] = module


def matrices(n: int) -> dict[str, np.ndarray]:
    """Non-normal, normal and defective ones, since the number of Lanczos steps depends on the matrix."""
    from ctrlattn import CausalMean, Loop, pass_operator

    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return {
        "random": rng.standard_normal((n, n)) / np.sqrt(n),
        "Grcar": (np.triu(np.tril(np.ones((n, n)), 3)) - np.eye(n, k=-1)) / 2,
        "one pass of the automaton": pass_operator(Loop(CausalMean(), order="sequential"), n),
        "Jordan block": 0.5 * np.eye(n) + np.eye(n, k=1),
        "symmetric, equidistant spectrum": q @ np.diag(np.linspace(-1, 1, n)) @ q.T,
    }


def against_svd(kind: str, n: int, points: int, times: int) -> dict[str, object]:
    """sigma_min on a grid; the SVDs are timed on every tenth row of it and scaled."""
    from ctrlattn import pseudospectrum
    from ctrlattn.stability.nonnormal.pseudospectrum import by_svd

    a = matrices(n)[kind]
    # Not symmetric about the real axis: no point is another one's mirror image, which would cost nothing.
    im = np.linspace(-1.9, 2.1, points)
    grid = np.linspace(-2, 2, points)[None, :] + 1j * im[:, None]
    some = grid[:: max(points // 10, 1)]
    expected, actual = by_svd(a, some.ravel()), pseudospectrum(a, grid)[:: max(points // 10, 1)].ravel()
    difference = np.max(np.abs(actual - expected) / np.maximum(expected, 1e-12 * np.linalg.norm(a, 2)))
    require(difference <= 1e-3, kind, difference)
    ours, theirs = alternate(lambda: pseudospectrum(a, grid), lambda: by_svd(a, some.ravel()), times)
    full_seconds = [seconds * grid.size / some.size for seconds in theirs]
    label = f"pseudospectrum {points} x {points}, n = {n}, {kind}"
    return row(label, ours, full_seconds, f"an SVD a point ({some.size} of them, scaled)", 10, difference)


def kreiss(n: int) -> dict[str, object]:
    """One Kreiss constant; nobody else has it to compare with."""
    from ctrlattn import kreiss_constant

    a = 0.6 * np.random.default_rng(0).standard_normal((n, n)) / np.sqrt(n)
    kreiss_constant(a[:8, :8])
    start = time.perf_counter()
    value = kreiss_constant(a)
    return {
        "what": f"Kreiss constant, random, n = {n}: {value:.6f}",
        "ours (ms)": median_ms([time.perf_counter() - start]),
    }


def require(holds: bool, kind: str, difference: float) -> None:
    if not holds:
        raise SystemExit(f"{kind}: the two answers lie {difference:.1e} apart")


def row(label, ours, theirs, counterpart, limit, difference) -> dict[str, object]:
    a, b = median_ms(ours), median_ms(theirs)
    return {"what": label, "ours (ms)": a, "other (ms)": b, "ratio": float(f"{b / a:.3g}"), "asked": limit,
            "difference": f"{difference:.0e}", "other": counterpart}  # fmt: skip


if __name__ == "__main__":
    command(__file__, __doc__, worker, threads=())
