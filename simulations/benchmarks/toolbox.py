"""Margins, disk margins, H-infinity norms and Hankel values, their checks included, against python-control.

    python simulations/benchmarks/toolbox.py            # alternating runs
    python simulations/benchmarks/toolbox.py --once     # small, one run each, for CI

Every pair is timed in turn in one process on the same random stable loop, and each row says how far the two answers
lie apart. Where slycot is installed, python-control uses it for MIMO disk margins. It has no Hankel values in discrete
time: those are compared with the textbook's, the root of the eigenvalues of the product of scipy's gramians, unchecked.
"""

import importlib.util
import json
from importlib.metadata import version
from typing import Any

import control
import numpy as np
from machine import describe
from paired import alternate, in_threads, median_ms, parser_of, write
from scipy.linalg import solve_discrete_lyapunov

from ctrlattn import disk_margin, hankel_singular_values, hinf_norm, margins

ASKED = {"margins": 3, "disk margin": 3, "H-infinity norm": 1, "Hankel values": 1}
FREQUENCIES = 200  # of python-control's disk margins, which are the least over a grid that its user gives


def worker(small: bool) -> dict[str, list[dict[str, object]]]:
    """All rows; the libraries use one thread."""
    sizes, times = ((5, 12), 1) if small else ((5, 20, 100), 15)
    slycot = importlib.util.find_spec("slycot") is not None
    rows = [row for n in sizes for channels in (1, 2) for row in compared(n, channels, times, slycot)]
    return {"rows": rows}


def loop(n: int, channels: int) -> control.StateSpace:
    """Poles inside a circle of .9, and a gain that its closed loop survives."""
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n))
    a *= 0.9 / np.abs(np.linalg.eigvals(a)).max()
    b, c = rng.standard_normal((n, channels)), rng.standard_normal((channels, n))
    g = control.ss(a, b, c, np.zeros((channels, channels)), 1)
    return control.ss(a, b, 0.5 * c / hinf_norm(g), np.zeros((channels, channels)), 1)


def compared(n: int, channels: int, times: int, slycot: bool) -> list[dict[str, object]]:
    g = loop(n, channels)
    grid = np.geomspace(1e-3, np.pi, FREQUENCIES)
    control_name = f"python-control {version('control')}" + (f", slycot {version('slycot')}" if slycot else "")
    pairs: list[tuple[str, Any, Any, str]] = []
    if channels == 1:
        pairs.append(
            ("margins", lambda: margins(g).modulus_margin, lambda: control.stability_margins(g)[2], control_name)
        )
    if channels == 1 or slycot:
        other = f"{control_name}, {FREQUENCIES} frequencies"
        pairs.append(("disk margin", lambda: disk_margin(g).margin, lambda: control.disk_margins(g, grid)[0], other))
    pairs.append(("H-infinity norm", lambda: hinf_norm(g), lambda: control.norm(g, "inf"), control_name))
    pairs.append(("Hankel values", lambda: hankel_singular_values(g)[0], lambda: textbook(g), "gramians of scipy"))
    return [row(what, n, channels, ours, theirs, other, times) for what, ours, theirs, other in pairs]


def textbook(g: control.StateSpace) -> float:
    """sqrt(eig(P Q)), the largest."""
    p = solve_discrete_lyapunov(g.A, g.B @ g.B.T)
    q = solve_discrete_lyapunov(g.A.T, g.C.T @ g.C)
    return float(np.sqrt(np.abs(np.linalg.eigvals(p @ q)).max()))


def row(what: str, n: int, channels: int, ours: Any, theirs: Any, other: str, times: int) -> dict[str, object]:
    difference = abs(ours() - theirs()) / abs(ours())
    a, b = (median_ms(seconds) for seconds in alternate(ours, theirs, times))
    return {
        "what": f"{what}, n = {n}, {channels} x {channels}", "ours (ms)": a, "other (ms)": b,
        "ratio": float(f"{b / a:.3g}"), "asked": ASKED[what], "difference": f"{difference:.0e}", "other": other,
    }  # fmt: skip


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.once)))
        return
    extra = ["--once"] if arguments.once else []
    write(arguments.out, "toolbox", describe(), in_threads(__file__, 1, *extra)["rows"])


if __name__ == "__main__":
    main()
