"""Margins, disk margins, H-infinity and H2 norms and Hankel values, their checks included, against python-control.

    python simulations/benchmarks/toolbox.py            # alternating runs
    python simulations/benchmarks/toolbox.py --once     # small, one run each, for CI

Every pair is timed in turn in one process on the same random stable loop, in processor time, and each row says how far
the two answers lie apart. Where slycot is installed, python-control uses it for norms and MIMO disk margins. It has no
Hankel values in discrete time: those are compared with the textbook's, the root of the eigenvalues of the product of
scipy's gramians, unchecked.

"Checks alone" times what no answer can go without: the eigenvalue problems of its checks, or the products of its
residuals, as bare calls of LAPACK on matrices of the same size. "Ceiling" is the ratio that would be left if all else
took no time.
"""

import importlib.util
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import control
import numpy as np
from paired import alternate, command, median_ms
from scipy.linalg import solve_discrete_lyapunov
from scipy.linalg.blas import dgemm
from scipy.linalg.lapack import dgeev, dgesdd, dggev, zgeev

from ctrlattn import disk_margin, h2_norm, hankel_singular_values, hinf_norm, margins

ASKED = {"margins": 3, "disk margin": 3, "H-infinity norm": 1, "H2 norm": 1, "Hankel values": 1}
FREQUENCIES = 200  # of python-control's disk margins, which are the least over a grid that its user gives


def worker(small: bool) -> list[dict[str, object]]:
    """All rows; the libraries use one thread."""
    sizes, times = ((5, 12), 1) if small else ((5, 20, 60, 100), 15)
    slycot = importlib.util.find_spec("slycot") is not None
    return [row for n in sizes for channels in (1, 2) for row in compared(n, channels, times, slycot)]


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
        counterpart = f"{control_name}, {FREQUENCIES} frequencies"
        pairs.append(
            ("disk margin", lambda: disk_margin(g).margin, lambda: control.disk_margins(g, grid)[0], counterpart)
        )
    pairs.append(("H-infinity norm", lambda: hinf_norm(g), lambda: control.norm(g, "inf"), control_name))
    pairs.append(("H2 norm", lambda: h2_norm(g), lambda: control.norm(g, 2), control_name))
    pairs.append(("Hankel values", lambda: hankel_singular_values(g)[0], lambda: textbook(g), "gramians of scipy"))
    return [
        row(quantity, n, channels, ours, theirs, counterpart, times) for quantity, ours, theirs, counterpart in pairs
    ]


def textbook(g: control.StateSpace) -> float:
    """sqrt(eig(P Q)), the largest."""
    p = solve_discrete_lyapunov(g.A, g.B @ g.B.T)
    q = solve_discrete_lyapunov(g.A.T, g.C.T @ g.C)
    return float(np.sqrt(np.abs(np.linalg.eigvals(p @ q)).max()))


def checks(quantity: str, n: int, channels: int) -> Callable[[], None]:
    """The eigenvalue problems of the checks of one answer, on random matrices of their size.

    All but H2 norms and Hankel values: the poles. Margins: loops scaled up, scaled down and turned, up to 50 states.
    Disk margins: one pencil up to 50 states and a Hamiltonian matrix beyond; attacks from inside, up to 50 states, of
    which two and a Hamiltonian matrix are left of a single channel with more than 10 states. H-infinity norm: a
    Hamiltonian matrix, and up to 12 states a pencil. H2 norms and Hankel values: three products for each of two
    residuals, and the singular values of a product of factors.
    """
    rng = np.random.default_rng(n)
    a, double, pencil_a, pencil_b = (
        np.asfortranarray(rng.standard_normal((k, k))) for k in (n, 2 * n, 2 * n + channels, 2 * n + channels)
    )
    complex_a = np.asfortranarray(a + 1j * a.T)
    attacks = min(10_000 // (n * n + 1), 16) if n <= 50 else 0
    by_level = channels == 1 and 10 < n <= 50

    def bare() -> None:
        if quantity in ("H2 norm", "Hankel values"):
            for _ in range(6):
                dgemm(1.0, a, a)
            if quantity == "Hankel values":
                dgesdd(a, compute_uv=0)
            return
        dgeev(a, compute_vl=0, compute_vr=0)
        if quantity == "margins" and n <= 50:
            for matrix, solve in ((a, dgeev), (a, dgeev), (complex_a, zgeev)):
                solve(matrix, compute_vl=0, compute_vr=0)
        if quantity == "H-infinity norm" or (quantity == "disk margin" and (by_level or n > 50)):
            dgeev(double, compute_vl=0, compute_vr=0)
        if (quantity == "H-infinity norm" and n <= 12) or (quantity == "disk margin" and n <= 50):
            dggev(pencil_a, pencil_b, compute_vl=0, compute_vr=0)
        if quantity == "disk margin":
            for _ in range(2 if by_level else attacks):
                zgeev(complex_a, compute_vl=0, compute_vr=0)

    return bare


def row(
    quantity: str, n: int, channels: int, ours: Any, theirs: Any, counterpart: str, times: int
) -> dict[str, object]:
    difference = abs(ours() - theirs()) / abs(ours())
    a, b = (median_ms(seconds) for seconds in alternate(ours, theirs, times, clock=time.thread_time))
    floor = median_ms(alternate(checks(quantity, n, channels), lambda: None, times, clock=time.thread_time)[0])
    return {
        "what": f"{quantity}, n = {n}, {channels} x {channels}", "ours (ms)": a, "other (ms)": b,
        "ratio": float(f"{b / a:.3g}"), "asked": ASKED[quantity], "checks alone (ms)": floor,
        "ceiling": float(f"{b / floor:.3g}"), "difference": f"{difference:.0e}", "other": counterpart,
    }  # fmt: skip


if __name__ == "__main__":
    command(__file__, __doc__, worker)
