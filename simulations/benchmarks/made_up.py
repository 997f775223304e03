"""A made-up checkpoint of any size on disk: random weights in bfloat16, in files and names as transformers has them.

    python simulations/benchmarks/made_up.py DIRECTORY --shape llama-7b
    python simulations/benchmarks/made_up.py DIRECTORY --shape qwen3-moe --layers 4

The weights say nothing; their number, names, shapes and files are those of the real networks, and so is what reading
them costs. Shapes: Llama-2-7B (13.5 GB), and Qwen3-30B-A3B (128 experts a layer, of which a token takes 8; 1.3 GB a
layer). No more than one weight is in memory while they are written. Where a disk is too small for all experts,
`--experts 12` leaves numbers in the first twelve of a layer. The others are zeros, which the file holds as holes where
the file system can; they have the names and sizes of the real ones, and are read, converted and multiplied like them.
"""

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

WORDS = 200
_LLAMA = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32000,
}  # fmt: skip
_QWEN = {
    "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
}  # fmt: skip
_SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": WORDS,
}  # fmt: skip
_SMOL = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152,
}  # fmt: skip
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "llama-7b": ("llama", _LLAMA),
    "qwen3-moe": ("qwen3_moe", _QWEN),
    "llama-135m": ("llama", _SMOL),
    "llama-small": ("llama", _SMALL),
    "qwen3-moe-small": (
        "qwen3_moe",
        {**_SMALL, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
}


def write(folder: Path, shape: str, layers: int | None = None, seed: int = 0, experts: int | None = None) -> Path:
    """The checkpoint with its tokenizer of whole words, in a new directory; `experts` of a layer are not zero."""
    import tokenizers
    import torch
    import transformers

    model_type, sizes = SHAPES[shape]
    count = sizes["num_hidden_layers"] if layers is None else layers
    config: Any = transformers.AutoConfig.for_model(model_type, **{**sizes, "num_hidden_layers": count})
    config.architectures = [transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__]
    config.dtype = "bfloat16"
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    weights: dict[str, dict[str, tuple[int, ...]]] = {}  # file -> name -> shape
    for name, weight in model.named_parameters():
        words = name.split(".")
        file = f"layer-{int(words[2]):03}" if words[1] == "layers" else "rest"
        weights.setdefault(f"{file}.safetensors", {}).update(_as_stored(name, tuple(weight.shape)))
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    where = {}
    for file, shapes in weights.items():
        _save(folder / file, {name: (size, _is_drawn(name, experts)) for name, size in shapes.items()}, generator)
        where |= dict.fromkeys(shapes, file)
    total = {"total_size": sum((folder / file).stat().st_size for file in weights)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": total, "weight_map": where}))
    table = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    table.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=table, unk_token="w0").save_pretrained(folder)
    config.save_pretrained(folder)
    return folder


def text(words: int, seed: int = 0) -> str:
    """Random words of that tokenizer."""
    draw = random.Random(seed)
    return " ".join(f"w{draw.randrange(WORDS)}" for _ in range(words))


def _as_stored(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Experts stand in the files one by one, their gate and their up projection apart."""
    stem, _, last = name.rpartition(".")
    if last == "down_proj" and len(shape) == 3:
        return {f"{stem}.{i}.down_proj.weight": shape[1:] for i in range(shape[0])}
    if last == "gate_up_proj":
        each = (shape[1] // 2, shape[2])
        return {f"{stem}.{i}.{half}_proj.weight": each for i in range(shape[0]) for half in ("gate", "up")}
    return {name: shape}


def _is_drawn(name: str, experts: int | None) -> bool:
    """Whether a weight has numbers: experts beyond the first are 0."""
    _, among, place = name.partition(".experts.")
    return experts is None or not among or int(place.partition(".")[0]) < experts


def _save(path: Path, weights: dict[str, tuple[tuple[int, ...], bool]], generator: Any) -> None:
    """A safetensors file, name -> (shape, whether it has numbers), one weight in memory at a time; zeros are holes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, _) in weights.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (shape, is_drawn) in weights.items():
            if is_drawn:
                file.write(_drawn(name, shape, generator))
            else:
                file.seek(2 * math.prod(shape), 1)
        file.truncate(8 + len(text) + end)


def _drawn(name: str, shape: tuple[int, ...], generator: Any) -> Any:
    """Norms are 1, all else is normal with the variance that keeps a signal's size; as bytes."""
    import torch

    weight = torch.ones(shape, dtype=torch.bfloat16)
    if len(shape) > 1:
        scale = 1.0 if "embed" in name else shape[-1] ** -0.5
        weight.normal_(0.0, scale, generator=generator)
    return weight.view(torch.uint8).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="must not exist")
    parser.add_argument("--shape", choices=SHAPES, default="llama-7b")
    parser.add_argument("--layers", type=int, help="in place of those of the real network")
    parser.add_argument("--experts", type=int, help="of a layer that are not zero; default: all")
    arguments = parser.parse_args()
    print(write(arguments.directory, arguments.shape, arguments.layers, experts=arguments.experts))


if __name__ == "__main__":
    main()
