"""What watching costs: a forward pass with summary statistics or importance, beside the plain forward pass.

    python simulations/benchmarks/tapping.py            # alternating runs, one thread
    python simulations/benchmarks/tapping.py --once     # small, one run each, for CI

The plain pass is the network's own, without its head, with sdpa attention and without gradients: window by window as
the summaries take them, all at once as the importance does. A tap needs the attention matrices: the plain pass beside
it computes them too (eager), once for a network that is read by its row and once traced. All ways are called in turn in
one process, in time of its processor, which other work does not take; the ratio is the median of those of the turns.
The weights are random: a forward pass takes as long with them.

Memory is the highest resident set of a process, less that before the call, which includes what the pass itself needs:
of a tap over the bytes of what it returns, and of summaries over 4 and 16 texts in megabytes.
"""

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from paired import command, median_ms

ASKED = {"summaries": 1.1, "importance": 1.15, "tap": 1.09, "tap, traced": 1.09}
ASKED_MEMORY = 1.3
WINDOWS, TOKENS = 2, 256
LENGTHS = {256: 5, 1024: 2}  # tokens of a tap -> turns
TEXTS, SHORT = (4, 16), 64


def networks(small: bool) -> dict[str, Any]:
    """Models of the sizes of SmolLM2-135M and of all-MiniLM-L6-v2, or tiny ones."""
    import torch
    import transformers

    torch.manual_seed(0)
    llama, bert = (
        ({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},) * 2
        if small
        else (
            {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "intermediate_size": 1536},
            {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
        )
    )
    words = 100 if small else 8192
    grouped_heads = {"num_key_value_heads": llama["num_attention_heads"] // (4 if small else 3)}
    return {
        "SmolLM2-135M": transformers.LlamaModel(transformers.LlamaConfig(vocab_size=words, **llama, **grouped_heads)),
        "MiniLM-L6": transformers.BertModel(
            transformers.BertConfig(vocab_size=words, max_position_embeddings=max(LENGTHS), **bert)
        ),
    }


def worker(small: bool) -> list[dict[str, object]]:
    """Rows for each network, with the threads of this process."""
    from ctrlattn import checkpoints

    size = " in small" if small else ""
    networks_by_name = {
        f"{name}{size}": checkpoints.load(model, attention="sdpa") for name, model in networks(small).items()
    }
    first = next(iter(networks_by_name))
    # Before anything else has made the process larger.
    rows = [*tap_memory(first, networks_by_name[first]), summaries_memory(first, networks_by_name[first])]
    for name, checkpoint in networks_by_name.items():
        rows += watching(name, checkpoint, 1 if small else 3)
        for length, turns in ({16: 1} if small else LENGTHS).items():
            rows += tapping(name, checkpoint, length, turns)
    return [{"threads": int(os.environ["OMP_NUM_THREADS"]), **row} for row in rows]


def in_turn(ways: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of the processor of each way, called in turn, after one call of each that warms caches."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns + 1):
        for way, call in ways.items():
            start = time.process_time()
            call()
            if turn:
                seconds[way].append(time.process_time() - start)
    return seconds


def beside(label: str, plain_seconds: list[float], way_seconds: list[float], way: str) -> dict[str, object]:
    """One row."""
    ratio = statistics.median(b / a for a, b in zip(plain_seconds, way_seconds, strict=True))
    result = {
        "plain (ms)": median_ms(plain_seconds),
        "watched (ms)": median_ms(way_seconds),
        "ratio": float(f"{ratio:.3g}"),
    }
    return {"what": label, **result, "asked": f"< {ASKED[way]}"}


def plain_pass(checkpoint: Any, *batches: np.ndarray) -> None:
    """The network alone, without its head."""
    import torch

    options = {"use_cache": False} if checkpoint.causal else {}
    with torch.inference_mode():
        for batch in batches:
            checkpoint.model.base_model(input_ids=torch.as_tensor(batch), **options)


def watching(name: str, checkpoint: Any, turns: int) -> list[dict[str, object]]:
    """Summaries and importance beside the plain pass."""
    from ctrlattn import checkpoints

    ids = np.random.default_rng(0).integers(0, 100, (WINDOWS, TOKENS))
    ways = {
        "summaries": (ids[:, None], lambda: checkpoints.summaries(checkpoint, ids, window=TOKENS)),
        "importance": (ids[None], lambda: checkpoints.importance(checkpoint, ids)),
    }
    rows = []
    for way, (batches, call) in ways.items():
        seconds = in_turn({"plain": lambda batches=batches: plain_pass(checkpoint, *batches), way: call}, turns)
        rows.append(beside(f"{name}, {way}, {WINDOWS} x {TOKENS} tokens", seconds["plain"], seconds[way], way))
    return rows


def traced(checkpoint: Any) -> Any:
    """The same network, read by its traced structure."""
    from ctrlattn import checkpoints
    from ctrlattn.checkpoints.network.traced_family import Traced

    return replace(checkpoint, family=Traced(checkpoint.family.name, checkpoints.trace(checkpoint.model)))


def tapping(name: str, checkpoint: Any, length: int, turns: int) -> list[dict[str, object]]:
    """A whole tap, by the network's row and traced, beside the plain pass with matrices."""
    from ctrlattn import checkpoints
    from ctrlattn.checkpoints.trace.eager import attention

    ids = np.random.default_rng(0).integers(0, 100, (1, length))
    by_trace = traced(checkpoint)
    ways = {
        "plain": lambda: plain_pass(checkpoint, ids),
        "tap": lambda: checkpoints.tap(checkpoint, ids),
        "tap, traced": lambda: checkpoints.tap(by_trace, ids),
    }
    with attention(checkpoint.model, "eager"):
        seconds = in_turn(ways, turns)
    way_names = [way for way in ways if way != "plain"]
    return [beside(f"{name}, {way}, {length} tokens", seconds["plain"], seconds[way], way) for way in way_names]


def grown(call: Callable[[], int]) -> tuple[float, int]:
    """(Bytes by which the highest resident set of a process of its own exceeds that before the call, its answer)."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)

    def measured() -> None:
        page = resource.getpagesize()
        start_memory = int(Path("/proc/self/statm").read_text().split()[1]) * page
        answer = call()
        sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - start_memory, answer))

    process = fork.Process(target=measured)
    process.start()
    result: tuple[float, int] = receiver.recv()
    process.join()
    return result


def tap_memory(name: str, checkpoint: Any) -> list[dict[str, object]]:
    """What a tap of 256 tokens needs, over what it returns."""
    from ctrlattn import checkpoints

    ids = np.random.default_rng(0).integers(0, 100, TOKENS)
    rows: list[dict[str, object]] = []
    for way, network in {"tap": checkpoint, "tap, traced": traced(checkpoint)}.items():
        checkpoints.tap(network, ids[:8])  # what is loaded late is loaded now
        size, data = grown(lambda network=network: checkpoints.tap(network, ids).nbytes)
        row = {"ratio": float(f"{size / data:.3g}"), "asked": f"< {ASKED_MEMORY}"}
        rows.append({"what": f"{name}, {way}, {TOKENS} tokens, memory over data", **row})
    return rows


def summaries_memory(name: str, checkpoint: Any) -> dict[str, object]:
    """What summaries of more and more texts need."""
    from ctrlattn import checkpoints

    megabytes: dict[str, object] = {"what": f"{name}, summaries of texts of {SHORT} tokens"}
    for count in TEXTS:
        rng = np.random.default_rng(0)
        texts = [rng.integers(0, 100, SHORT) for _ in range(count)]
        size, _ = grown(lambda texts=texts: len(checkpoints.summaries(checkpoint, iter(texts), window=SHORT)))
        megabytes[f"{count} texts (MB)"] = round(size / 1e6, 1)
    return megabytes


if __name__ == "__main__":
    command(__file__, __doc__, worker, threads=(1,))
