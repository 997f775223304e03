"""What `repeat` makes of a tiny network of every type: repeat_census.py [--sample COUNT | --again TYPE ... | TYPE ...]

The layers 1 and 2 of each (0 of two) run three times without a controller, and twice with one and a recall. The output
is compared with that of the network itself, in which the last layer of the span calls the layers of the span again.
Every type runs in a process of its own. Without types it writes results/families_repeated.json, of all types or of a
sample drawn with seed 0; with types it prints what it sees. An interrupted run goes on where it was. Types that are
measured again, after a change of the code, stand in the results with a record of their own run.
"""

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import families_census
from stage.page_file import write_json

RESULT = Path(__file__).parent / "results" / "families_repeated.json"
GAIN, RECALL = 0.5, 0.1  # of the second loop
LIMIT = 1e-9  # of the largest number of a token, in float64


def entry(task: str, kind: str, name: str) -> dict[str, Any]:
    """One row of the result: the outcome of a type, or that it does not run."""
    from stage.tiny_networks import row_of

    return row_of(task, kind, name, outcome)


def outcome(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Equal, with the largest error; differs; refused, with the reason; or not loaded."""
    import torch

    from ctrlattn import PID, checkpoints
    from ctrlattn.checkpoints.trace.compose import tolerance
    from ctrlattn.errors import InputError

    try:
        network = checkpoints.load(model, inputs=inputs)
    except InputError as error:
        return {"outcome": "not loaded", "reason": str(error)}
    count = len(network.layers)
    span = (1, 3) if count > 2 else (0, 1)
    worst = 0.0
    for passes, gain, recall in ((3, None, 0.0), (2, GAIN, RECALL)):
        controller = None if gain is None else PID(gain)
        try:
            longer = checkpoints.repeat(network, layers=span, passes=passes, controller=controller, recall=recall)
        except InputError as error:
            return {"outcome": "refused", "reason": str(error)}
        with torch.no_grad():
            ours = first_of(longer.model(**inputs))
        theirs = by_hand(network, inputs, span, passes, gain, recall)
        worst = max(worst, float(((ours - theirs).abs().amax(-1) / theirs.abs().amax(-1)).max()))
    limit = LIMIT if theirs.dtype == torch.float64 else tolerance(theirs.dtype)
    return {"outcome": "equal" if worst <= limit else "differs", "error": worst}


def by_hand(
    network: Any, inputs: dict[str, Any], span: tuple[int, int], passes: int, gain: float | None, recall: float
) -> Any:
    """The output of the source, whose span is run again by its last layer: h' = h + g (F(h) - h + recall (h_0 - h))."""
    import torch

    layers = network.layers[span[0] : span[1]]
    forwards = [layer.forward for layer in layers]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def remembering(i: int) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            start.append(stream(args, kwargs).clone())
            output = forwards[i](*args, **kwargs)
            if i < len(layers) - 1:
                return output
            h, y = start[0], first_of(output)
            for k in range(passes):
                if k:
                    y = h.clone()
                    for each, (a, b) in zip(forwards, calls, strict=True):
                        y = first_of(each(*((y, *a[1:]) if a else a), **(b if a else {**b, "hidden_states": y})))
                h = y if gain is None else h + gain * (y - h + recall * (start[0] - h))
            return h if isinstance(output, torch.Tensor) else type(output)((h, *output[1:]))

        return forward

    start: list[Any] = []
    try:
        for i, layer in enumerate(layers):
            layer.forward = remembering(i)
        with torch.no_grad():
            return first_of(network.model(**inputs))
    finally:
        for layer in layers:
            del layer.forward


def stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def first_of(output: Any) -> Any:
    """The first tensor that a module returns."""
    import torch

    return output if isinstance(output, torch.Tensor) else output[0]


def main(arguments: list[str]) -> None:
    from stage.tiny_networks import begun

    run, every = begun(entry)
    if arguments and arguments[0] != "--sample":
        rows = [families_census.measured(case, entry) for case in every if case[1] in arguments]
        print(json.dumps(rows, indent=1))
        if arguments[0] == "--again":
            write_json(RESULT, again(json.loads(RESULT.read_text(encoding="utf-8")), rows, run))
        return
    cases = random.Random(0).sample(every, len(every))[: int(arguments[1]) if arguments else None]
    part = RESULT.with_suffix(".part.jsonl")
    rows = sorted(families_census.measured_rows(cases, run, part, entry), key=lambda row: (row["task"], row["type"]))
    write_json(RESULT, {"run": run, "types": rows})
    part.unlink()
    print(Counter(row["outcome"] for row in rows))


def again(old: dict[str, Any], rows: list[dict[str, Any]], run: dict[str, Any]) -> dict[str, Any]:
    """The results with these rows in the places of earlier ones."""
    new = {(row["task"], row["type"]): row for row in rows}
    runs = old.get("types measured again", {}) | {row["type"]: run for row in rows}
    types = [new.get((row["task"], row["type"]), row) for row in old["types"]]
    return {"run": old["run"], "types measured again": runs, "types": types}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1:])
