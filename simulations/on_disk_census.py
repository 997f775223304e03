"""What `on_disk` makes of a tiny network of every type: on_disk_census.py [TASK | TYPE ...]

Each network of `stage.tiny_networks` is saved as safetensors in float32, and read twice: as a whole, and layer by
layer. Every signal that `tap` records is compared bit by bit. Every type runs in a process of its own. Without types it
writes results/families_on_disk.json; with types it prints what it sees. An interrupted run goes on where it was.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import families_census
from stage.page_file import write_json

RESULT = Path(__file__).parent / "results" / "families_on_disk.json"


def entry(task: str, kind: str, name: str) -> dict[str, Any]:
    """One row of the result: the outcome of a type, or that it does not run."""
    from stage.tiny_networks import row_of

    return row_of(task, kind, name, outcome)


def outcome(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Equal; differs, with the largest error; refused, with the reason; or not loaded."""
    from ctrlattn import checkpoints
    from ctrlattn.errors import InputError

    inputs = {name: value.float() if is_pixels(value) else value for name, value in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        model.float().save_pretrained(folder)
        try:
            network = checkpoints.load(folder, inputs=inputs)
            expected, repetition = (checkpoints.tap(network, inputs) for _ in range(2))
        except (InputError, ArithmeticError) as error:
            return {"outcome": "not loaded", "reason": told(error, folder)}
        if largest_difference(repetition, expected):
            return {"outcome": "not loaded", "reason": "it gives other numbers each time"}
        try:
            signals = checkpoints.tap(checkpoints.on_disk(folder, inputs=inputs), inputs)
        except (InputError, ArithmeticError) as error:
            return {"outcome": "refused", "reason": told(error, folder)}
    error = largest_difference(signals, expected)
    return {"outcome": "differs" if error else "equal", "error": error}


def is_pixels(value: Any) -> bool:
    """Whether an argument of a network is a tensor of floating-point numbers."""
    import torch

    return isinstance(value, torch.Tensor) and value.is_floating_point()


def told(error: Exception, folder: str) -> str:
    """What an error says, whatever the directory was called."""
    return str(error).replace(folder, "SOURCE")


def largest_difference(signals: Any, expected: Any) -> float:
    """The largest difference of a number from what is expected, relative to the largest of its kind; 0 for equal bits.

    Infinite where one has signals that the other lacks.
    """
    import numpy as np

    if set(signals.data_vars) != set(expected.data_vars):
        return np.inf
    worst = 0.0
    for name in expected.data_vars:
        a, b = (dataset[name].to_numpy() for dataset in (signals, expected))
        if not np.array_equal(a, b, equal_nan=b.dtype.kind == "f"):
            worst = max(worst, float(np.nanmax(np.abs(a - b)) / np.nanmax(np.abs(b))))
    return worst


def main(arguments: list[str]) -> None:
    from stage.tiny_networks import begun

    run, every = begun(entry)
    if arguments:
        rows = [families_census.measured(case, entry) for case in every if case[0] in arguments or case[1] in arguments]
        print(json.dumps(rows, indent=1))
        return
    part = RESULT.with_suffix(".part.jsonl")
    rows = families_census.measured_rows(every, run, part, entry)
    write_json(RESULT, {"run": run, "types": rows})
    part.unlink()
    print(Counter(row["outcome"] for row in rows))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1:])
