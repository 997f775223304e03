"""What a repeated span costs: time of a network with looped layers, beside the source and what its layers foretell.

    python simulations/benchmarks/repeated.py            # the size of SmolLM2-135M
    python simulations/benchmarks/repeated.py --once     # small, one run each, for CI

A network of n layers whose span of s layers runs K times does the work of n + (K - 1) s layers: that ratio is asked of
the times, within 5 %. Both networks are called in turn in one process, without their head, with random weights. The
times are those of the processor, since other work on the machine counts in wall time; the ratio is that of the medians.
"""

import time
from collections.abc import Callable

import numpy as np
from paired import command, median_ms

SPAN, PASSES, TOKENS, NEW = (10, 14), 4, 256, 8
SMALL_SPAN = (1, 2)


def worker(small: bool) -> list[dict[str, object]]:
    """Rows for prefill and cached generation, naive and controlled."""
    import torch
    import transformers

    from ctrlattn import PID, checkpoints

    torch.manual_seed(0)
    size = (
        {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
        if small
        else {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "intermediate_size": 1536}
    )
    config = transformers.LlamaConfig(vocab_size=8192, num_key_value_heads=4 if small else 3, **size)
    source = checkpoints.load(transformers.LlamaModel(config), attention="sdpa")
    span, tokens = (SMALL_SPAN, 16) if small else (SPAN, TOKENS)
    ids = torch.as_tensor(np.random.default_rng(0).integers(0, 8192, (1, tokens)))
    rows = []
    for law, options in {"naive": {}, "PID, recall": {"controller": PID(0.25, 0.02), "recall": 0.5}}.items():
        longer = checkpoints.repeat(source, layers=span, passes=PASSES, **options)
        work = len(longer.layers) / len(source.layers)
        for label, call in {"prefill": prefill, "generation": generation}.items():
            networks = (source.model, longer.model)
            source_seconds, repeated_seconds = in_turn(
                *(lambda m=m, call=call: call(m, ids) for m in networks), 1 if small else 11
            )
            a, b = median_ms(source_seconds), median_ms(repeated_seconds)
            rows.append(
                {
                    "what": f"{label}, {law}, {tokens} tokens, layers {span[0]} to {span[1] - 1}, {PASSES} passes",
                    "source (ms)": a,
                    "repeated (ms)": b,
                    "ratio": float(f"{b / a:.3g}"),
                    "foretold": float(f"{work:.3g}"),
                    "off (%)": float(f"{100 * (b / a / work - 1):.2g}"),
                    "asked": "within 5 %",
                }
            )
    return rows


def prefill(model, ids) -> None:
    import torch

    with torch.inference_mode():
        model(input_ids=ids, use_cache=False)


def generation(model, ids) -> None:
    """A few tokens, one at a time, behind a short text."""
    import torch

    with torch.inference_mode():
        output = model(input_ids=ids[:, :8], use_cache=True)
        for i in range(NEW):
            output = model(input_ids=ids[:, i : i + 1], use_cache=True, past_key_values=output.past_key_values)


def in_turn(first: Callable[[], None], second: Callable[[], None], times: int) -> tuple[list[float], list[float]]:
    """Seconds of the processor that each takes, called in turn after one call of each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(times + 1):
        for call, samples in ((first, seconds[0]), (second, seconds[1])):
            start = time.process_time()
            call()
            if turn:
                samples.append(time.process_time() - start)
    return seconds


if __name__ == "__main__":
    command(__file__, __doc__, worker)
