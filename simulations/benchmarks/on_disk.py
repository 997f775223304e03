"""What a network costs that stays on disk, beside the loaded one: memory and processor time of the part feedback.

    python simulations/benchmarks/on_disk.py                # made-up weights of the size of SmolLM2-135M
    python simulations/benchmarks/on_disk.py --gguf FILE    # a .gguf file as well, whose loading is a row of its own
    python simulations/benchmarks/on_disk.py --once         # small, one run each, for CI

Every sample is a process of its own. Memory is the highest resident set above what the imports take, processor time is
that of opening the network and measuring; what the imports take is left out of both. The ids are the same on both
sides, and the largest difference of a gain is in the table.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import made_up
import numpy as np
from machine import describe
from paired import in_threads, median_ms, parser_of, write

ASKED = "<= 0.2"


def worker(arguments: list[str]) -> dict[str, object]:
    """CPU seconds and the highest resident set of one way, above the imports."""
    way, source, tokens = arguments[0], arguments[1], int(arguments[2])
    # What a first use would import.
    import dask.array  # noqa: F401
    import gguf  # noqa: F401
    import transformers.modeling_gguf_pytorch_utils
    import transformers.models.llama.modeling_llama  # noqa: F401

    from ctrlattn import checkpoints

    start_memory, start = highest(), time.process_time()
    network = getattr(checkpoints, "load" if way == "loading" else way)(source)
    gain = []
    if way != "loading":
        ids = np.random.default_rng(0).integers(network.model.config.vocab_size, size=tokens).tolist()
        gain = checkpoints.feedback_profile(network, ids, parts=["feedback"])["feedback_gain"].to_numpy().tolist()
    return {"seconds": time.process_time() - start, "mib": highest() - start_memory, "gain": gain}


def highest() -> float:
    """The highest resident set of this process so far, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def sampled(way: str, source: str, tokens: int, samples: int) -> tuple[float, float, np.ndarray]:
    """Medians of several processes: milliseconds, MiB, and the gains."""
    results = [in_threads(__file__, 1, way, source, str(tokens)) for _ in range(samples)]
    return (
        median_ms([result["seconds"] for result in results]),
        float(np.median([result["mib"] for result in results])),
        np.array(results[0]["gain"]),
    )


def row(label: str, source: str, tokens: int, samples: int) -> dict[str, object]:
    """Both ways on one network."""
    in_memory, lazy = (sampled(way, source, tokens, samples) for way in ("load", "on_disk"))
    return {
        "what": label,
        "tokens": tokens,
        "loaded, processor (ms)": in_memory[0],
        "on disk, processor (ms)": lazy[0],
        "loaded, memory (MiB)": round(in_memory[1]),
        "on disk, memory (MiB)": round(lazy[1]),
        "memory, ratio": float(f"{lazy[1] / max(in_memory[1], 1e-9):.2g}"),
        "largest difference of a gain": float(f"{np.abs(in_memory[2] - lazy[2]).max():.1g}"),
        "memory, asked": ASKED,
    }


def main() -> None:
    if "--worker" in sys.argv:
        sys.stdout.write(json.dumps(worker(sys.argv[sys.argv.index("--worker") + 1 :])) + "\n")
        return
    parser: argparse.ArgumentParser = parser_of(__doc__)
    parser.add_argument("--gguf", type=Path, help="a .gguf file of one's own")
    parser.add_argument("--samples", type=int, default=3, help="processes for each figure")
    arguments = parser.parse_args()
    small, rows = arguments.once, []
    samples = 1 if small else arguments.samples
    lengths = (8,) if small else (64, 256)
    with TemporaryDirectory() as folder:
        shape = "llama-small" if small else "llama-135m"
        source = str(made_up.write(Path(folder) / shape, shape))
        rows += [row(f"{shape}, made up, bfloat16", source, tokens, samples) for tokens in lengths]
    if arguments.gguf is not None:
        name = arguments.gguf.stem
        rows += [row(f"{name}, GGUF", str(arguments.gguf), tokens, samples) for tokens in lengths]
        seconds, memory, _ = sampled("loading", str(arguments.gguf), 0, samples)
        rows.append(
            {"what": f"{name}, GGUF, loading", "loaded, processor (ms)": seconds, "loaded, memory (MiB)": round(memory)}
        )
    write(arguments.out, "on_disk", {"samples": samples, **describe()}, rows)


if __name__ == "__main__":
    main()
