"""Eight Lyapunov exponents of a 512-state map, by pushing 8 directions against full forward Jacobians.

    python simulations/benchmarks/lyapunov.py            # medians of alternating runs, one thread
    python simulations/benchmarks/lyapunov.py --once     # small, one run each, for CI

The maps, in torch and float64: a loop over depth, RMS-normalised attention of 32 tokens x 16 features with the minus
sign, and a recurrent tanh network. The other way forms the whole Jacobian by torch.func.jacfwd and multiplies the same
frame. Both take the same QR of the same 8 columns, and must grow alike.
"""

import numpy as np
from paired import alternate, command, median_ms

K, LIMIT, TOLERANCE = 8, 7, 1e-8


def attention_map(tokens: int, features: int):
    """One layer of x' = rms_norm(x - attention(x)) and where it starts."""
    import torch

    from ctrlattn import Loop, SoftmaxAttention, layer_map, rms_norm

    rng = np.random.default_rng(0)
    wq, wk, wv = (torch.from_numpy(rng.standard_normal((features, features)) / features**0.5) for _ in range(3))
    loop = Loop(SoftmaxAttention(wq, wk, wv), skip=1.0, feedback=-1.0, normalizer=rms_norm)
    return layer_map(loop, torch.from_numpy(rng.standard_normal((tokens, features))))


def recurrent_map(size: int):
    """x' = tanh(W x) with gain 1.5, chaotic for large sizes (Sompolinsky, Crisanti, Sommers 1988)."""
    import torch

    rng = np.random.default_rng(0)
    w = torch.from_numpy(1.5 * rng.standard_normal((size, size)) / size**0.5)
    return lambda x: torch.tanh(w @ x), torch.from_numpy(rng.standard_normal(size))


def by_full_jacobians(step, x, steps: int, frame: np.ndarray) -> np.ndarray:
    """The textbook: the whole Jacobian at each step, times the frame."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    total = np.zeros(frame.shape[1])
    for _ in range(steps):
        with sdpa_kernel(SDPBackend.MATH):
            jacobian = torch.func.jacfwd(step)(x).reshape(len(frame), len(frame)).numpy()
        frame, r = np.linalg.qr(jacobian @ frame)
        x, total = step(x), total + np.log(np.abs(np.diag(r)))
    return np.sort(total / steps)[::-1]


def against_full(label: str, step, x, steps: int, times: int) -> dict[str, object]:
    from ctrlattn import lyapunov_exponents

    size = x.numel()
    # The frame that lyapunov_exponents starts from with its default seed, before any transient.
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((size, K)))[0]

    def ours():
        return lyapunov_exponents([step] * steps, x, steps - 1, k=K, transient=1, history=True)

    def theirs():
        return by_full_jacobians(step, x, steps, frame)

    later_sums = ours()[0] * (steps - 1)  # all but the first step
    first = by_full_jacobians(step, x, 1, frame)
    full_sums = theirs() * steps
    difference = abs(float(np.sum(later_sums) + np.sum(first) - np.sum(full_sums))) / abs(float(np.sum(full_sums)))
    if difference > TOLERANCE:
        raise SystemExit(f"{label}: the sums of the exponents differ by {difference:.1e}, allowed {TOLERANCE:.0e}")
    seconds = alternate(ours, theirs, times)
    a, b = (median_ms(samples) / steps for samples in seconds)
    return {
        "what": f"{label}, {size} states, k = {K}, per step",
        "ours (ms)": float(f"{a:.3g}"),
        "full Jacobian (ms)": float(f"{b:.3g}"),
        "ratio": float(f"{b / a:.3g}"),
        "asked": LIMIT,
        "difference": f"{difference:.0e}",
    }


def worker(small: bool) -> list[dict[str, object]]:
    import warnings

    import torch

    # The first forward derivative in torch 2.13 warns of a part of itself.
    warnings.simplefilter("ignore", DeprecationWarning)
    steps, times = (3, 1) if small else (30, 7)
    tokens, size = (8, 128) if small else (32, 512)
    rows = [
        against_full("RMS-normalised attention", *attention_map(tokens, 16), steps, times),
        against_full("tanh network", *recurrent_map(size), steps, times),
    ]
    return [{"threads": torch.get_num_threads(), **row} for row in rows]


if __name__ == "__main__":
    command(__file__, __doc__, worker)
