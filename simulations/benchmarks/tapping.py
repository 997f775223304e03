"""What watching costs: a forward pass with summary statistics or importance, beside the plain forward pass.

    python simulations/benchmarks/tapping.py            # alternating runs, one and two threads
    python simulations/benchmarks/tapping.py --once     # small, one run each, for CI

The plain pass is the network's own, without its head, with sdpa attention and without gradients: window by window as
the summaries take them, all at once as the importance does. A tap needs the attention matrices: the plain pass beside
it computes them too (eager), once for a network that is read by its row and once traced. Both are called in turn in one
process; the ratio is that of the medians. The weights are random: a forward pass takes as long with them. Memory is the
highest resident set that the process has had by then, after summaries of so many texts of 64 tokens.
"""

import os
import resource
from dataclasses import replace

import numpy as np
from paired import alternate, command, median_ms

TAP = "tap, all signals and matrices"
ASKED = {"summaries": 1.1, "importance": 1.15}
WINDOWS, TOKENS = 4, 256
TEXTS, SHORT = (4, 16, 64), 64


def networks(small: bool) -> dict[str, object]:
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
    grouped = {"num_key_value_heads": llama["num_attention_heads"] // (4 if small else 3)}
    return {
        "SmolLM2-135M": transformers.LlamaModel(transformers.LlamaConfig(vocab_size=words, **llama, **grouped)),
        "MiniLM-L6": transformers.BertModel(transformers.BertConfig(vocab_size=words, **bert)),
    }


def worker(small: bool) -> list[dict[str, object]]:
    """Rows for each network, with the threads of this process."""
    from ctrlattn import checkpoints

    size = " in small" if small else ""
    made = {f"{name}{size}": checkpoints.load(model, attention="sdpa") for name, model in networks(small).items()}
    first = next(iter(made))
    # Before anything else has made the process larger.
    rows: list[dict[str, object]] = [{"what": f"{first}, summaries of texts of {SHORT} tokens", **peaks(made[first])}]
    for name, checkpoint in made.items():
        rows += rows_of(name, checkpoint, 1 if small else 7)
    return [{"threads": int(os.environ["OMP_NUM_THREADS"]), **row} for row in rows]


def rows_of(name: str, checkpoint: object, times: int) -> list[dict[str, object]]:
    """Summaries, importance and a whole tap beside the plain pass."""
    import torch

    from ctrlattn import checkpoints
    from ctrlattn.checkpoints.network.traced_family import Traced
    from ctrlattn.checkpoints.trace.eager import attention

    ids = np.random.default_rng(0).integers(0, 100, (WINDOWS, TOKENS))
    options = {"use_cache": False} if checkpoint.causal else {}

    def plain(*batches):
        with torch.inference_mode():
            for batch in batches:
                checkpoint.model.base_model(input_ids=torch.as_tensor(batch), **options)

    traced = replace(checkpoint, family=Traced(checkpoint.family.name, checkpoints.trace(checkpoint.model)))
    ways = {
        "summaries": (ids[:, None], lambda: checkpoints.summaries(checkpoint, ids, window=TOKENS)),
        "importance": (ids[None], lambda: checkpoints.importance(checkpoint, ids)),
        TAP: (ids[:, None], lambda: [checkpoints.tap(checkpoint, window) for window in ids]),
        f"{TAP}, traced": (ids[:, None], lambda: [checkpoints.tap(traced, window) for window in ids]),
    }
    rows = []
    for way, (batches, watched) in ways.items():
        with attention(checkpoint.model, "eager" if way.startswith(TAP) else "sdpa"):
            before, during = alternate(lambda batches=batches: plain(*batches), watched, times)
        a, b = median_ms(before), median_ms(during)
        asked = f"< {ASKED[way]}" if way in ASKED else ""
        result = {"plain (ms)": a, "watched (ms)": b, "ratio": float(f"{b / a:.3g}"), "asked": asked}
        rows.append({"what": f"{name}, {way}, {WINDOWS} x {TOKENS} tokens", **result})
    return rows


def peaks(checkpoint: object) -> dict[str, float]:
    """Highest resident set of the process so far, in MB, after summaries of more and more texts."""
    from ctrlattn import checkpoints

    megabytes = {}
    for count in TEXTS:
        rng = np.random.default_rng(0)
        checkpoints.summaries(checkpoint, (rng.integers(0, 100, SHORT) for _ in range(count)), window=SHORT)
        megabytes[f"{count} texts (MB)"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
    return megabytes


if __name__ == "__main__":
    command(__file__, __doc__, worker, threads=())
