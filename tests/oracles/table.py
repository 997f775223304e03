"""table.json: sixty systems by their doubles, with what is true of each. `python tests/oracles/table.py` writes it.

The tests compare with the file and compute nothing at 200 digits. `spread` is how far the truths of systems lie that
differ in the last digits of their doubles, relative to the truth: nobody who reads doubles can know more.
"""

import json
import math
from pathlib import Path
from typing import Any

import control
import exact
import numpy as np
import scipy
import systems
from mpmath import mp

FILE = Path(__file__).with_name("table.json")
MARGINS = ("gain_margin", "gain_reduction", "phase_margin", "delay_margin", "modulus_margin")
NORMS = ("hinf", "h2", "hankel")
HALF_KNOWN = 1e-3  # where the last digits move a norm by more, there is nothing to compare with


def rows() -> dict[str, Any]:
    """The sixty systems: name and L, a loop under negative feedback."""
    loops: dict[str, Any] = {
        "residual integrator": control.tf([0.5], [1, -1], 1),
        "leaky integrator": control.tf([0.5], [1, -0.7], 1),
        "four memories": control.tf([2 * 0.1**4], np.poly([0.9] * 4), 1),
        "six memories": control.tf([1.2 * 0.05**6], np.poly([0.95] * 6), 1),
        "slow cluster": control.tf([1e-9], np.poly([0.999, 0.9985, 0.998]), 1),
        "python-control's published test": control.tf([25], [1, 10, 10, 10]),
        "delays": control.tf([0.4, 0.1], [1, 0, 0, 0, 0], 1),
        "zero at -1": control.tf([0.2, 0.2], [1, -1.2, 0.4], 1),
        "pole at -1": control.tf([0.3], [1, 0.8, -0.2], 1),
        "two crossings at once": control.tf([0.4, 0, -0.1], [1, 0, 0.25], 1),
        "only -1 in sight": control.tf([-0.5, 0], [1, -0.2], 1),
        "all-pass": control.tf([0.25, -0.5], [0.5, -0.25], 1),
        "small units": control.tf([1e-5, 0, -1.5e-5], [1, -0.5, 0], 1),
        "static": control.tf([0.6], [1], 1),
    }
    for plant in systems.PLANTS:
        for step, form in ((0.1, "tf"), (0.001, "dense")):
            loops[f"{plant}, sampled at {step}, {form}"] = systems.closed(systems.sampled(plant, step, form), 1)
    kinds = ("wide", "slow", "slower", "repeated", "integrator", "on the circle", "continuous", "stiff")
    for k, kind in enumerate(kinds):
        for order, form in ((4, "modal"), (7, "triangular"), (10, "dense")):
            loops[f"{kind}, order {order}, {form}"] = systems.closed(systems.siso(kind, order, form, 20 + k), 20 + k)
    # A loop that rounding alone makes stable or not is no row of a table.
    decided = {name: loop for name, loop in loops.items() if _decided(loop)}
    return dict(list(decided.items())[:60])


def _decided(loop: Any) -> bool:
    rng = np.random.default_rng(0)
    with mp.workdps(exact.DIGITS):
        answers = {exact.stable(_closed(x)) for x in (loop, *(systems.moved(loop, rng) for _ in range(3)))}
    return answers == {True}


def _closed(loop: Any) -> Any:
    line = exact.line(loop)
    return exact.plus(line.num, line.den)


def truth(loop: Any) -> dict[str, Any]:
    """Margins of the loop; norms of L where it is stable itself, else of nothing."""
    line = exact.line(loop)
    margins = exact.margins(line)
    values: dict[str, Any] = {name: getattr(margins, name) for name in MARGINS}
    with mp.workdps(exact.DIGITS):
        open_stable = exact.stable(line.den)
    if open_stable:
        values |= {"hinf": exact.hinf(line), "h2": exact.h2(loop), "hankel": exact.hankel(loop).tolist()}
    return values


def spread(loop: Any, values: dict[str, Any]) -> dict[str, float]:
    """The largest relative change of each value under changes of the last digits."""
    rng = np.random.default_rng(1)
    others = [truth(systems.moved(loop, rng)) for _ in range(3)]
    return {
        name: max(_distance(other.get(name, math.inf), value) for other in others) for name, value in values.items()
    }


def _distance(other: Any, value: Any) -> float:
    a, b = np.atleast_1d(np.asarray(other, dtype=float)), np.atleast_1d(np.asarray(value, dtype=float))
    if a.shape != b.shape or np.any(np.isfinite(a) != np.isfinite(b)):
        return math.inf
    finite = np.isfinite(b)
    size = float(np.max(np.abs(b[finite]), initial=0.0))
    return float(np.max(np.abs(a[finite] - b[finite]), initial=0.0)) / max(size, 1e-300)


def doubles(loop: Any) -> dict[str, Any]:
    """The numbers of a system: num, den or A, B, C, D, and dt."""
    if isinstance(loop, control.TransferFunction):
        return {"num": loop.num[0][0].tolist(), "den": loop.den[0][0].tolist(), "dt": loop.dt}
    return {"A": loop.A.tolist(), "B": loop.B.tolist(), "C": loop.C.tolist(), "D": loop.D.tolist(), "dt": loop.dt}


def system(numbers: dict[str, Any]) -> Any:
    """The system of such numbers."""
    if "num" in numbers:
        return control.tf(numbers["num"], numbers["den"], numbers["dt"])
    return systems.state_space(numbers["A"], numbers["B"], numbers["C"], numbers["D"], numbers["dt"])


def libraries() -> dict[str, Any]:
    """What decides the last digits of a system that went through LAPACK: versions, and kernels for this processor."""
    from threadpoolctl import threadpool_info

    blas = [item for item in threadpool_info() if item["internal_api"] == "openblas"]  # torch may bring its own
    kernels = sorted({f"openblas {item['architecture']}" for item in blas})
    return {"numpy": np.__version__, "scipy": scipy.__version__, "kernels": kernels}


def through_lapack(name: str) -> bool:
    """Whether the numbers of a row come from products, a matrix exponential or an orthogonal matrix."""
    return "sampled" in name or ", order " in name or name.endswith("dense")


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """How far two systems lie apart: the largest difference of two numbers over the largest number beside them.

    Numerator and denominator have one scale, since their ratio counts; each matrix has its own.
    """
    if a.keys() != b.keys() or a["dt"] != b["dt"]:
        return math.inf
    if "num" not in a:
        return max(_apart([a[key]], [b[key]]) for key in "ABCD")
    return _apart([a["num"], a["den"]], [b["num"], b["den"]])


def _apart(first: list[Any], second: list[Any]) -> float:
    pairs = [_aligned(np.array(x, dtype=float), np.array(y, dtype=float)) for x, y in zip(first, second, strict=True)]
    if any(x.shape != y.shape for x, y in pairs):
        return math.inf
    size = max(float(np.max(np.abs(y), initial=0.0)) for _, y in pairs)
    return max(float(np.max(np.abs(x - y), initial=0.0)) for x, y in pairs) / max(size, 1e-300)


def _aligned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polynomials of one length: a leading coefficient that rounds to zero is left out of one of them."""
    if x.ndim == y.ndim == 1:
        length = max(len(x), len(y))
        return np.pad(x, (length - len(x), 0)), np.pad(y, (length - len(y), 0))
    return x, y


def load() -> dict[str, Any]:
    """{"system", "truth", "spread"} of each row of the file, by name."""
    return json.loads(FILE.read_text(encoding="utf-8"))["rows"]


def row(loop: Any) -> dict[str, Any]:
    """What the file says of a system; JSON has no infinity, which is a word there that `float` reads."""
    values = truth(loop)
    moves = {key: float(f"{move:.1e}") for key, move in spread(loop, values).items()}
    if max(moves.get(key, 0.0) for key in NORMS) > HALF_KNOWN:
        values, moves = ({k: v for k, v in part.items() if k not in NORMS} for part in (values, moves))
    finite = ({key: "inf" if value == math.inf else value for key, value in part.items()} for part in (values, moves))
    return {"system": doubles(loop), **dict(zip(("truth", "spread"), finite, strict=True))}


def main() -> None:
    """Write the file."""
    note = "written by tests/oracles/table.py at 200 digits; the systems are under negative feedback"
    facts = {"note": note, "libraries": libraries(), "rows": {name: row(loop) for name, loop in rows().items()}}
    FILE.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
