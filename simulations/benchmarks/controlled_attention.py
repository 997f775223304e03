"""What control over depth costs: a training step of a controlled layer against the same layer without control.

    python simulations/benchmarks/controlled_attention.py            # medians of alternating runs, one and two threads
    python simulations/benchmarks/controlled_attention.py --once     # small, one run each, for CI

A step is forward and backward of one layer in the middle of a network, qkv and proj included: gradients flow to its
input, its weights, v_0 and the controller's memory, and come back from its output and from the memory it hands on.
3 heads of 64 features. "literal" is the same layer with softmax(q k^T) written out. Peak memory is that of a process of
its own, above what it holds before, for one layer (its depth state included) and for a chain of layers.
"""

import argparse
import json
import os
import resource
import shutil
import time

import numpy as np
from machine import describe
from paired import alternate, in_threads, median_ms, parser_of, write

LAWS = ("pidformer-printed", "pidformer-ema")
SIZES = ((2, 1024), (8, 1024), (2, 197), (8, 197))
LIMITS = {("eager", 1024): 1.15, ("compiled", 1024): 1.10, ("eager", 197): 1.25}
MEMORY_LIMIT, LITERAL_AT_LEAST, CHAIN = 1.3, 2, 12
SECONDS, PAIRS = 6.0, (15, 101)
# What a training step of one layer holds while the attention kernel goes backward, in tensors of batch x n x d: x, v_0,
# y and its gradient; q, k, v, what the kernel returned, and the gradients of these four. Under control the caller holds
# also the memory that came in, what has been handed on and is new, and the gradients of all that was handed on.
KERNEL, MEMORIES = 12, {"pidformer-printed": (2, 2), "pidformer-ema": (3, 2)}


def layer(law: str | None, *, literal: bool = False):
    """A DeiT-tiny attention layer under a published law, or without control."""
    import torch

    from ctrlattn.nn import ControlledAttention, configuration

    class Literal(ControlledAttention):
        def attend(self, q, k, v, *, mask, is_causal):
            return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v

    torch.manual_seed(0)
    options = configuration(law or "softmax")
    options.pop("feedback")
    return (Literal if literal else ControlledAttention)(192, 3, **options)


def training_step(module, batch: int, n: int, run=None):
    """A function of no arguments: forward and backward of a layer that follows two others."""
    import torch

    x = torch.randn(batch, n, 192, requires_grad=True)
    with torch.no_grad():
        _, state = module(x)
        _, state = module(x, state)
    leaves = [t.detach().clone().requires_grad_() for t in (state.reference, *(state.controller or ()))]
    state = state._replace(reference=leaves[0], controller=tuple(leaves[1:]) or None)
    back = [torch.randn(batch, n, 192), *(torch.randn_like(t) for t in leaves[1:])]
    inputs = [x, *leaves, *module.parameters()]

    def step():
        y, new_state = (module if run is None else run)(x, state)
        return torch.autograd.grad([y, *(new_state.controller or ())], inputs, back, allow_unused=True)

    return step


def attention_alone(batch: int, n: int):
    """Forward and backward of attention without qkv and proj, literal and as a kernel: what the two can differ by."""
    import torch

    q, k, v = (torch.randn(batch, 3, n, 64, requires_grad=True) for _ in range(3))
    back = torch.randn(batch, 3, n, 64)

    def literal():
        return torch.autograd.grad(torch.softmax(q @ k.mT * 64**-0.5, -1) @ v, [q, k, v], back)

    def kernel():
        return torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(q, k, v), [q, k, v], back)

    return literal, kernel


def times(small: bool) -> list[dict[str, object]]:
    """Every law, size and mode, in turn with the layer without control."""
    import torch

    modes = ["eager", "compiled"] if shutil.which("g++") or shutil.which("clang++") else ["eager"]
    rows = []
    for batch, n in ((2, 64),) if small else SIZES:
        for mode in modes:
            rows += against_no_control(mode, batch, n, LAWS[:1] if small else LAWS, small)
        for law in LAWS:
            ours, literal = (training_step(layer(law, literal=k), batch, n) for k in (False, True))
            label = f"{law}, literal formulation against ours, n = {n}, batch {batch}"
            rows.append(row(label, *in_turn(literal, ours, small), f">= {LITERAL_AT_LEAST}" if n == 1024 else ""))
        label = f"attention alone, literal formulation against scaled_dot_product_attention, n = {n}, batch {batch}"
        rows.append(row(label, *in_turn(*attention_alone(batch, n), small), ""))
    return [{"threads": torch.get_num_threads(), **result} for result in rows]


def against_no_control(mode: str, batch: int, n: int, laws: tuple[str, ...], small: bool) -> list[dict[str, object]]:
    """Each law beside the layer without control, which is compiled once for all of them."""
    import torch

    torch.compiler.reset()

    def prepared(law: str | None):
        module = layer(law)
        return training_step(module, batch, n, torch.compile(module) if mode == "compiled" else module)

    uncontrolled = prepared(None)
    return [
        row(
            f"{law}, {mode}, n = {n}, batch {batch}, against no control",
            *in_turn(prepared(law), uncontrolled, small),
            LIMITS.get((mode, n), ""),
        )
        for law in laws
    ]


def in_turn(first, second, small: bool) -> tuple[list[float], list[float]]:
    """Both timed in pairs, as many as fit into SECONDS, within PAIRS; the first calls warm and measure the length."""
    once = [seconds[0] for seconds in alternate(first, second, 1)]
    if small:
        return [once[0]], [once[1]]
    pairs = min(max(int(SECONDS / sum(once)), PAIRS[0]), PAIRS[1])
    return alternate(first, second, pairs)


def row(label: str, first: list[float], second: list[float], limit: object) -> dict[str, object]:
    """Median ratio of the pairs: each pair ran at the same moment, whatever else the machine did."""
    ratios = np.array(first) / np.array(second)
    quarter = [float(f"{q:.3g}") for q in np.quantile(ratios, [0.25, 0.75])]
    return {
        "what": label,
        "first (ms)": median_ms(first),
        "second (ms)": median_ms(second),
        "ratio": float(f"{np.median(ratios):.3g}"),
        "quartiles": f"{quarter[0]} to {quarter[1]}",
        "limit": limit,
    }


def peak(law: str, n: int, depth: int) -> dict[str, float]:
    """MB that a training step of `depth` layers adds to this process."""
    import torch

    name = None if law == "none" else law
    training_step(layer(name), 1, 16)()
    modules = [layer(name) for _ in range(depth)]
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if depth == 1:
        training_step(modules[0], 2, n)()
    else:
        x, state = torch.randn(2, n, 192, requires_grad=True), None
        for module in modules:
            x, state = module(x, state)
        x.sum().backward()
    return {"megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024}


def memory(small: bool) -> list[dict[str, object]]:
    """Peak against n, and the exponent of its growth."""
    sizes, laws = ((512, 1024), LAWS[:1]) if small else ((512, 1024, 2048, 4096), LAWS)
    # glibc otherwise keeps freed blocks, and holes between layers would count as theirs.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    rows = []
    for depth in (1,) if small else (1, CHAIN):
        peaks = {
            law: [in_threads(__file__, 1, "--peak", law, str(n), str(depth))["megabytes"] for n in sizes]
            for law in ("none", *laws)
        }
        for law in laws:
            exponent = np.polyfit(np.log(sizes), np.log(peaks[law]), 1)[0]
            ours, none = (peaks[name][-1] / tensor_megabytes(sizes[-1]) for name in (law, "none"))
            least = f"{least_tensors(law)} and {KERNEL}, ratio {least_tensors(law) / KERNEL:.2f}" if depth == 1 else ""
            rows.append(
                {
                    "layers": depth,
                    "law": law,
                    "n": f"{sizes[0]} to {sizes[-1]}",
                    "peak (MB)": ", ".join(f"{m:.3g}" for m in peaks[law]),
                    "without control (MB)": ", ".join(f"{m:.3g}" for m in peaks["none"]),
                    "largest ratio": float(f"{np.max(np.array(peaks[law]) / peaks['none']):.3g}"),
                    "ratio at the largest n": float(f"{peaks[law][-1] / peaks['none'][-1]:.3g}"),
                    "there, in tensors of batch x n x d": f"{ours:.1f} and {none:.1f}",
                    "least with one call of the kernel": least,
                    "exponent": round(float(exponent), 2),
                    "limit": MEMORY_LIMIT,
                }
            )
    return rows


def least_tensors(law: str) -> int:
    """What any implementation holds that calls the attention kernel once."""
    came_in, new = MEMORIES[law]
    return KERNEL + 2 * came_in + new


def tensor_megabytes(n: int) -> float:
    """Of one (2, n, 192) tensor of float32."""
    return 2 * n * 192 * 4 / 2**20


def load_average() -> str:
    """What else the machine did, over the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("times", "memory"), help="one of the two tables")
    arguments = parser.parse_args()
    if arguments.worker:
        result = peak(arguments.peak[0], *map(int, arguments.peak[1:])) if arguments.peak else times(arguments.once)
        print(json.dumps(result))
        return
    extra = ["--once"] if arguments.once else []
    machine = {**describe(), "load before": load_average(), "date": time.strftime("%Y-%m-%d")}
    if arguments.only != "memory":
        rows = [r for threads in (1, 2) for r in in_threads(__file__, threads, *extra)]
        write(arguments.out, "controlled_attention", machine, rows)
    if arguments.only != "times":
        write(arguments.out, "controlled_attention_memory", machine, memory(arguments.once))


if __name__ == "__main__":
    main()
