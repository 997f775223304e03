"""What recording every signal of `simulate` costs, beside a bare loop of the same sums that keeps nothing.

    python simulations/benchmarks/recorded.py            # n = 64 and n = 12, numpy and torch
    python simulations/benchmarks/recorded.py --once     # small, one run each, for CI

Both are called in turn in one process, 50 layers, float64, with the PID controller of the page and without one, in
processor time. The bare loop calls the same predictor and writes the law of the controller out.
"""

import os
import time

import numpy as np
from paired import alternate, command, median_ms

from ctrlattn import PID, Loop, simulate
from ctrlattn.predictors import FixedAttention, SoftmaxAttention

GAINS = {"kp": 0.3, "ki": 0.05, "kd": 0.1}


def bare(predictor, x, layers, acts):
    """The last state of x' = x - y + u, by the equations alone."""
    r, total, previous = x, 0 * x, 0 * x
    for k in range(layers):
        y = predictor(x)
        if not acts:
            x = x - y
            continue
        e = r - x
        total = total + e if k else total
        u = GAINS["kp"] * e + GAINS["ki"] * total + GAINS["kd"] * (e - previous) if k else 0 * e
        previous = e
        x = x - y + u
    return x


def worker(small: bool) -> list[dict[str, object]]:
    import torch

    rng = np.random.default_rng(0)
    rows = []
    for n, d in ((64, 64), (12, 16)):
        A = rng.random((n, n))
        start = rng.standard_normal((n, d))
        for kind in ("numpy", "torch"):
            convert = (lambda array: array) if kind == "numpy" else torch.from_numpy
            x = convert(start)
            predictors = {
                "softmax attention": SoftmaxAttention(),
                "fixed attention": FixedAttention(convert(A / A.sum(1, keepdims=True))),
            }
            for name, predictor in predictors.items():
                for acts in (False, True):
                    loop, layers = Loop(predictor, controller=PID(**GAINS) if acts else None), 3 if small else 50
                    recording_seconds, bare_seconds = alternate(
                        lambda loop=loop, layers=layers, x=x: simulate(loop, x, layers),
                        lambda p=predictor, layers=layers, acts=acts, x=x: bare(p, x, layers, acts),
                        1 if small else 40,
                        clock=time.thread_time,
                    )
                    a, b = median_ms(recording_seconds), median_ms(bare_seconds)
                    label = f"{kind}, {name}, n = {n}, d = {d}{', PID' if acts else ''}"
                    result = {"all recorded (ms)": a, "bare loop (ms)": b, "ratio": float(f"{a / b:.3g}")}
                    limit = "< 2" if n == 64 or (name, kind) == ("softmax attention", "torch") else ""
                    rows.append(
                        {"threads": int(os.environ["OMP_NUM_THREADS"]), "what": label, **result, "asked": limit}
                    )
    return rows


if __name__ == "__main__":
    command(__file__, __doc__, worker)
