"""What it costs to know a network by its content: every byte of its weights hashed while the command loads it.

    python simulations/benchmarks/hashing.py                  # the size of SmolLM2-135M, one thread
    python simulations/benchmarks/hashing.py --source PATH    # a network of one's own as well
    python simulations/benchmarks/hashing.py --once           # small, one run each, for CI

Every sample is a process of its own, as a user starts it. The hash is taken in a thread beside the loading: its
processor time is that of this thread, and what a user waits for it is the time until the digest is there once the
network is. The weights are random, and the text is made of random words: both take as long with them. SmolLM2 is
published in bfloat16. A file of float32 has twice the bytes, and the share is the largest there.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import describe
from paired import in_threads, median_ms, parser_of, write

ASKED = "< 3"  # percent of the command
SAMPLES = 3


def source(folder: Path, small: bool, dtype: str, layers: int | None = None) -> Path:
    """A network with its tokenizer on disk, as a command takes it; `layers` in place of all."""
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    every, width, heads, hidden_width, words = (2, 32, 4, 48, 200) if small else (30, 576, 9, 1536, 49152)
    config = transformers.LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers or every,
        num_attention_heads=heads,
        num_key_value_heads=heads // (4 if small else 3),
        intermediate_size=hidden_width,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    table = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    table.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=table, unk_token="w0").save_pretrained(folder)
    return folder


def random_text(path: Path, words: int) -> Path:
    """A file of random words that the tokenizer of `source` knows."""
    draw = random.Random(0)
    path.write_text(" ".join(f"w{draw.randrange(200)}" for _ in range(words)), encoding="utf-8")
    return path


def commands(small: bool) -> dict[str, list[str]]:
    """Options of the commands by the words of their rows."""
    analyzed, calibrated, window = (16, 240, 12) if small else (256, 1280, 128)
    drop_options = ["--attention", "1" if small else "2", "--tokens", str(calibrated), "--window", str(window)]
    return {
        f"analyze, feedback alone, {analyzed} tokens": ["analyze", "--tokens", str(analyzed), "--parts", "feedback"],
        f"drop of attention, {calibrated} tokens": ["drop", *drop_options],
    }


def worker(arguments: list[str]) -> dict[str, float]:
    """Seconds of one command in this process, from its start: all of it, of the hash alone, and of waiting for it."""
    from ctrlattn import identity
    from ctrlattn.cli import app

    seconds = {"hashing": 0.0, "waiting": 0.0}

    def timed(call, key, clock):
        def measured(*args, **kwargs):
            start = clock()
            try:
                return call(*args, **kwargs)
            finally:
                seconds[key] += clock() - start

        return measured

    identity.of_files = timed(identity.of_files, "hashing", time.thread_time)
    identity.FilesDigest.digest = timed(identity.FilesDigest.digest, "waiting", time.perf_counter)
    start = time.perf_counter()
    app(arguments, standalone_mode=False)
    return {**seconds, "processor": time.process_time(), "elapsed": time.perf_counter() - start}


def row(label: str, network: str, options: list[str], small: bool, stage: Path) -> dict[str, object]:
    """Medians of a command on a network; a folder of its own each time, so that nothing is resumed."""
    text = stage / "text.txt"
    samples = []
    for index in range(1 if small else SAMPLES + 1):  # the first one reads the files into memory
        out = stage / f"out-{options[0]}-{Path(network).name}-{index}"
        command = [options[0], network, "--text", str(text), *options[1:], "--out", str(out)]
        samples.append(in_threads(__file__, 1, *command))
    warm = samples if small else samples[1:]
    medians = {key: median_ms([sample[key] for sample in warm]) for key in samples[0]}
    return {
        "what": label,
        "hashing, processor (ms)": medians["hashing"],
        "command, processor (ms)": medians["processor"],
        "share (%)": float(f"{100 * medians['hashing'] / medians['processor']:.2g}"),
        "waiting for it (ms)": medians["waiting"],
        "command, elapsed (ms)": medians["elapsed"],
        "asked": "" if small else ASKED,
    }


def main() -> None:
    if "--worker" in sys.argv:
        sys.stdout.write(json.dumps(worker(sys.argv[sys.argv.index("--worker") + 1 :])) + "\n")
        return
    parser: argparse.ArgumentParser = parser_of(__doc__)
    parser.add_argument("--source", action="append", default=[], help="a network of one's own (repeatable)")
    arguments = parser.parse_args()
    small, rows = arguments.once, []
    with TemporaryDirectory() as folder:
        stage = Path(folder)
        random_text(stage / "text.txt", 4000)
        size = "in small" if small else "the size of SmolLM2-135M"
        for dtype in ("bfloat16", "float32"):
            network = str(source(stage / dtype, small, dtype))
            for label, options in list(commands(small).items())[: 2 if dtype == "bfloat16" else 1]:
                rows.append(row(f"{label}: {size}, {dtype}", network, options, small, stage))
        label, options = next(iter(commands(small).items()))
        for network_folder in arguments.source:
            name = "/".join(Path(network_folder).absolute().parts[-2:])
            rows.append(row(f"{label}: {name}", network_folder, options, small, stage))
    write(arguments.out, "hashing", describe(), rows)


if __name__ == "__main__":
    main()
