"""What watching costs: a forward pass with summary statistics of every sublayer, beside the plain forward pass.

    python simulations/benchmarks/tapping.py            # alternating runs, one and two threads
    python simulations/benchmarks/tapping.py --once     # small, one run each, for CI

The plain pass is the network's own, without its head, with sdpa attention and without gradients. Both are called in
turn in one process; the ratio is that of the medians. The weights are random: a forward pass takes as long with them.
"""

import json
import os

import numpy as np
from machine import describe
from paired import alternate, in_threads, median_ms, parser_of, write

ASKED = 1.1
WINDOWS, TOKENS = 4, 256


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
    """A row for each network, with the threads of this process."""
    times = 1 if small else 15
    return [
        {"threads": int(os.environ["OMP_NUM_THREADS"]), **row(f"{name}{' in small' if small else ''}", model, times)}
        for name, model in networks(small).items()
    ]


def row(name: str, model: object, times: int) -> dict[str, object]:
    import torch

    from ctrlattn import checkpoints

    checkpoint = checkpoints.load(model, attention="sdpa")
    ids = np.random.default_rng(0).integers(0, 100, (WINDOWS, TOKENS))
    options = {"use_cache": False} if checkpoint.causal else {}

    def plain():
        with torch.inference_mode():
            for window in torch.as_tensor(ids):
                model.base_model(input_ids=window[None], **options)

    def watched():
        return checkpoints.summaries(checkpoint, ids, window=TOKENS)

    def recorded():
        return [checkpoints.tap(checkpoint, window) for window in ids]

    before, during = alternate(plain, watched, times)
    whole = alternate(plain, recorded, max(times // 5, 1))[1]
    a, b, c = (median_ms(found) for found in (before, during, whole))
    return {
        "what": f"{name}, {WINDOWS} x {TOKENS} tokens",
        "plain (ms)": a,
        "summaries (ms)": b,
        "ratio": float(f"{b / a:.3g}"),
        "asked": f"< {ASKED}",
        "tap, all signals and matrices (ms)": c,
    }


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.once)))
        return
    extra = ["--once"] if arguments.once else []
    found = [in_threads(__file__, threads, *extra) for threads in arguments.threads]
    write(arguments.out, "tapping", describe(), [row for rows in found for row in rows])


if __name__ == "__main__":
    main()
