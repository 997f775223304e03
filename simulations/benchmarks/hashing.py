"""What it costs to know a network by its content: every weight hashed, beside the command that does so.

    python simulations/benchmarks/hashing.py            # the size of SmolLM2-135M, one thread
    python simulations/benchmarks/hashing.py --once     # small, one run each, for CI

A command hashes the weights once, after it has loaded them. Its processor time and that of a hash are taken in turn in
one process. The weights are random, and the text is made of random words: both take as long with them. The share is
largest for the shortest work, which is why the cheapest part of the profile has a row of its own.
"""

import json
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import describe
from paired import alternate, in_threads, median_ms, parser_of, write

ASKED = "< 3"  # percent of the command


def source(folder: Path, small: bool) -> Path:
    """A network with its tokenizer on disk, as a command takes it."""
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    layers, width, heads, inner, words = (2, 32, 4, 48, 200) if small else (30, 576, 9, 1536, 49152)
    config = transformers.LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // (4 if small else 3),
        intermediate_size=inner,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    table = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    table.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=table, unk_token="w0").save_pretrained(folder)
    return folder


def commands(small: bool) -> dict[str, list[str]]:
    """Options of the commands by the words of their rows."""
    read, calibrated, window = (16, 240, 12) if small else (256, 1280, 128)
    size = "in small" if small else "SmolLM2-135M"
    reduced = ["--attention", "1" if small else "2", "--tokens", str(calibrated), "--window", str(window)]
    return {
        f"analyze, {size}, all parts, {read} tokens": ["analyze", "--tokens", str(read)],
        f"analyze, {size}, feedback alone, {read} tokens": [
            "analyze", "--tokens", str(read), "--parts", "feedback",
        ],
        f"drop of attention, {size}, {calibrated} tokens": ["drop", *reduced],
    }  # fmt: skip


def worker(small: bool) -> list[dict[str, object]]:
    """One row for each command, with the threads of this process."""
    from ctrlattn import checkpoints
    from ctrlattn.cli import app
    from ctrlattn.identity import of_network

    rows = []
    with TemporaryDirectory() as stage:
        network = source(Path(stage) / "network", small)
        text = Path(stage) / "text.txt"
        draw = random.Random(0)
        text.write_text(" ".join(f"w{draw.randrange(200)}" for _ in range(4000)), encoding="utf-8")
        model = checkpoints.load(network).model
        for name, options in commands(small).items():
            given = [options[0], str(network), "--text", str(text), *options[1:]]
            count = iter(range(1000))

            def command(given=given, count=count, options=options) -> None:  # a folder of its own: nothing is resumed
                folder = Path(stage) / f"{options[0]}-{len(rows)}-{next(count)}"
                app([*given, "--out", str(folder)], standalone_mode=False)

            hashing, whole = alternate(lambda: of_network(model), command, 1, calls=5, clock=time.process_time)
            a, b = median_ms(hashing), median_ms(whole)
            result = {"hashing (ms)": a, "command (ms)": b, "share (%)": float(f"{100 * a / b:.2g}")}
            rows.append({"what": name, **result, "asked": "" if small else ASKED})
    return rows


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    if arguments.worker:
        sys.stdout.write(json.dumps(worker(arguments.once)) + "\n")
        return
    rows = in_threads(__file__, 1, *(["--once"] if arguments.once else []))
    write(arguments.out, "hashing", describe(), rows)


if __name__ == "__main__":
    main()
