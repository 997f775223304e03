"""The prediction-error automaton against the literal loop, and how its cost grows.

    python simulations/benchmarks/sweep.py            # medians of alternating runs, one and two threads
    python simulations/benchmarks/sweep.py --once     # small, one run each, for CI

The literal loop is that of docs/origin.md, in torch: for p in range(15): for i in range(1, len(X)): X[i] =
RMSnorm(X[i] - torch.sum(X[0:i], dim=0) / i), with torch's own rms_norm. With gradients it runs on a copy that autograd
follows.
"""

import json
import time

import numpy as np
from machine import describe
from paired import alternate, in_threads, median_ms, parser_of, write

PASSES = 15
LIMITS = {("plain", "float64"): (1200, 1e-12), ("RMS", "float64"): (1000, 1e-12), ("RMS", "float32"): ("", 1e-5)}
GRADIENT_LIMIT = 8


def notes_loop(x, norm):
    """The literal loop; `norm` is a function of one token, or None."""
    x = x.clone()
    import torch

    for _ in range(PASSES):
        for i in range(1, len(x)):
            difference = x[i] - torch.sum(x[0:i], dim=0) / i
            x[i] = difference if norm is None else norm(difference)
    return x


def worker(small: bool) -> dict[str, list[dict[str, object]]]:
    """All rows for the threads of this process."""
    import torch

    n, times = (64, 1) if small else (2048, 7)
    against = [against_notes(kind, dtype, n, times) for kind, dtype in LIMITS]
    gradients = [with_gradient(kind, 32 if small else 512, times) for kind in ("plain", "RMS")]
    rows = against + gradients + [many_tokens(10_000 if small else 1_000_000, kind) for kind in ("plain", "RMS")]
    rows += [a_batch(4 if small else 64, times), streamed(100 if small else 5000)]
    return {"rows": [{"threads": torch.get_num_threads(), **row} for row in rows], "growth": growth(small)}


def loop_of(kind: str):
    """The preset and the norm that the literal loop takes."""
    import torch

    from ctrlattn import presets

    if kind == "plain":
        return presets.get("prediction-error"), None
    return presets.get("prediction-error-rms"), lambda v: torch.nn.functional.rms_norm(v, v.shape)


def signal(*shape: int, dtype: str = "float64"):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def against_notes(kind: str, dtype: str, n: int, times: int) -> dict[str, object]:
    import torch

    from ctrlattn import simulate

    (loop, norm), x = loop_of(kind), signal(n, 64, dtype=dtype)
    tensor = torch.from_numpy(x)
    ours, theirs = alternate(
        lambda: simulate(loop, x, PASSES, record="last"), lambda: notes_loop(tensor, norm), times, calls=20
    )
    expected = notes_loop(tensor, norm).numpy()
    difference = np.max(np.abs(simulate(loop, x, PASSES, record="last").state - expected)) / np.max(np.abs(expected))
    limit, tolerance = LIMITS[kind, dtype]
    if difference > tolerance:
        raise SystemExit(f"{kind} {dtype}: differs from the literal loop by {difference:.1e}, allowed {tolerance:.0e}")
    label = f"{kind}, {dtype}, n = {n}, d = 64, {PASSES} passes"
    return row(label, ours, theirs, limit, f"{difference:.0e}")


def row(label, ours, theirs, limit, difference) -> dict[str, object]:
    a, b = median_ms(ours), median_ms(theirs)
    ratio = float(f"{b / a:.3g}")
    return {"what": label, "ours (ms)": a, "other (ms)": b, "ratio": ratio, "asked": limit, "difference": difference}


def with_gradient(kind: str, n: int, times: int) -> dict[str, object]:
    """Simulation and gradient of a scalar of the last state, by our wavefront and through the literal loop."""
    import torch

    from ctrlattn import simulate

    loop, norm = loop_of(kind)
    x = torch.from_numpy(signal(n, 64)).requires_grad_()

    def gradient(run):
        return torch.autograd.grad(run(x).sin().sum(), x)[0]

    def ours():
        return gradient(lambda t: simulate(loop, t, PASSES, record="last").state)

    def theirs():
        return gradient(lambda t: notes_loop(t, norm))

    a, b = ours(), theirs()
    difference = float((a - b).abs().max() / b.abs().max())
    label = f"{kind} with its gradient, float64, n = {n}, d = 64, {PASSES} passes"
    return row(label, *alternate(ours, theirs, times), GRADIENT_LIMIT, f"{difference:.0e}")


def many_tokens(n: int, kind: str) -> dict[str, object]:
    """One long sequence; the literal loop would need n^2 additions."""
    from ctrlattn import simulate

    loop, x = loop_of(kind)[0], signal(n, 64, dtype="float32")
    simulate(loop, x[:5000], PASSES, record="last")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        simulate(loop, x, PASSES, record="last")
        seconds.append(time.perf_counter() - start)
    return {"what": f"{kind}, float32, n = {n:,}, d = 64, {PASSES} passes", "ours (ms)": median_ms(seconds)}


def a_batch(batch: int, times: int) -> dict[str, object]:
    """A batch at once against its sequences one by one."""
    from ctrlattn import simulate

    loop, x = loop_of("RMS")[0], signal(batch, 2048, 64)

    def together():
        return simulate(loop, x, PASSES, record="last").state

    def one_by_one():
        return np.stack([simulate(loop, s, PASSES, record="last").state for s in x])

    difference = np.max(np.abs(together() - one_by_one()))
    label = f"RMS, float64, {batch} sequences at once against one by one, n = 2048"
    return row(label, *alternate(together, one_by_one, times), "", f"{difference:.0e}")


def streamed(tokens: int) -> dict[str, object]:
    """One token after the other, per token."""
    from ctrlattn import stream

    x = signal(tokens + 1, 64)
    automaton = stream(loop_of("RMS")[0], PASSES)
    automaton.push(x[0])
    start = time.perf_counter()
    for token in x[1:]:
        automaton.push(token)
    return {
        "what": "RMS streamed, float64, one token, d = 64",
        "ours (ms)": median_ms([time.perf_counter() - start]) / tokens,
    }


def growth(small: bool) -> list[dict[str, object]]:
    """Fitted exponent of the cost in each size, the others held; 1 is linear."""
    from ctrlattn import simulate

    loop = loop_of("RMS")[0]
    base = {"batch": 4, "n": 1024, "d": 64, "passes": 15}
    ranges = {"n": (512, 8192), "d": (32, 512), "passes": (8, 128), "batch": (2, 32)}
    rows = []
    for size, (low, high) in ranges.items():
        values = [low, high] if small else [low * 2**k for k in range(5)]
        medians = []
        for value in values:
            case = {**base, size: value}
            x = signal(case["batch"], case["n"], case["d"])
            simulate(loop, x, case["passes"], record="last")
            seconds = []
            for _ in range(1 if small else 9):
                start = time.perf_counter()
                simulate(loop, x, case["passes"], record="last")
                seconds.append(time.perf_counter() - start)
            medians.append(median_ms(seconds))
        exponent = np.polyfit(np.log(values), np.log(medians), 1)[0]
        constants = ", ".join(f"{name} = {value}" for name, value in base.items() if name != size)
        rows.append({"cost against": size, "from": low, "to": high, "exponent": round(float(exponent), 2),
                     "ms at the ends": f"{medians[0]} to {medians[-1]}", "held": constants})  # fmt: skip
    return rows


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.once)))
        return
    extra = ["--once"] if arguments.once else []
    results = [in_threads(__file__, threads, *extra) for threads in (1, 2)]
    write(arguments.out, "sweep", describe(), [row for result in results for row in result["rows"]])
    write(arguments.out, "growth", describe(), results[0]["growth"])


if __name__ == "__main__":
    main()
