"""What load and tap make of a tiny network of every type: python simulations/families_census.py [TASK | TYPE ...]

Every type runs in a process of its own, with a limit of time. Without types it writes results/families.json, of which
families_page.py makes the page; with types it prints what it sees. A task (causal, masked, vision, composite) is
measured anew alone, and the rows of the others stay as they are. A run that was interrupted goes on where it was, if
the commit and the versions are the same.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ctrlattn.files import atomic

RESULT = Path(__file__).parent / "results" / "families.json"
Judge = Callable[[str, str, str], dict[str, Any]]
LIMIT = 600  # seconds for one type, on a machine that may have other work


def entry(task: str, kind: str, name: str) -> dict[str, Any]:
    """One row of the result: the outcome of a type, or that it does not run."""
    from stage.tiny_networks import row_of

    return row_of(task, kind, name, outcome)


def outcome(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Exact with the form of its layer, or refused with the reason."""
    import numpy as np

    from ctrlattn import checkpoints
    from ctrlattn.errors import InputError

    try:
        network = checkpoints.load(model, inputs=inputs)
        signals = checkpoints.tap(network, inputs)
    except (InputError, ArithmeticError) as error:
        return {"outcome": "refused", "reason": str(error)}
    recomposed, state = checkpoints.recompose(signals, network).to_numpy(), signals["state"].to_numpy()[1:]
    error = np.abs(recomposed - state).max(-1) / np.abs(state).max(-1).clip(1e-30)
    structure = network.structure
    kinds = sorted({kind for call in structure.calls for kind in call.kinds})
    return {
        "outcome": "exact", "layer": form(structure), "kinds": kinds, "error": float(error.max()),
        "matrix": not signals.attrs.get("no_matrix"),
    }  # fmt: skip


def form(structure: Any) -> str:
    """The form of the layers in words."""
    steps = [step for call in structure.calls for step in call.steps]
    terms_of_steps = [[term for term in step.terms if term.kind != "constant"] for step in steps]
    terms = [term for together in terms_of_steps for term in together]
    if any(step.norm for step in steps):
        words = ["post-norm"]
    else:
        words = ["pre-norm" if any(term.norm for term in terms) else "norm inside or none"]
    traits = {
        "parallel": any(len(together) > 1 for together in terms_of_steps),
        "stream scaled": any(not step.skip.is_one for step in steps),
        "contributions scaled": any(not term.coefficient.is_one for term in terms),
        f"{structure.streams} streams": structure.streams > 1,
        "factors depend on the text": any(call.by_text for call in structure.calls),
        "layers called again": len(structure.calls) > len(structure.layers),
    }
    return ", ".join([*words, *(word for word, holds in traits.items() if holds)])


def measured(case: tuple[str, str, str], judge: Judge = entry) -> dict[str, Any]:
    """`judge` in a process of its own, which a type that crashes or does not end cannot take the others with."""
    fork = multiprocessing.get_context("fork")  # the libraries are loaded once
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_answer, args=(sender, judge, case))
    process.start()
    sender.close()
    head: dict[str, Any] = {"task": case[0], "type": case[1], "outcome": "does not run"}
    try:
        row = receiver.recv() if receiver.poll(LIMIT) else {**head, "reason": f"no answer within {LIMIT} s"}
    except EOFError:
        process.join()
        row = {**head, "reason": f"its process ends with status {process.exitcode}"}
    process.kill()
    process.join()
    return row


def _answer(sender: Any, judge: Judge, case: tuple[str, str, str]) -> None:
    sender.send(judge(*case))


def whole(rows: Iterable[dict[str, Any]], run: dict[str, Any], tasks: set[str], old: dict[str, Any]) -> dict[str, Any]:
    """The results: `rows` under the record of their run; a task measured alone has its record beside the whole's."""
    if not tasks:
        return {"run": run, "types": [*rows]}
    other_rows = [row for row in old["types"] if row["task"] not in tasks]
    alone = {**old.get("tasks measured alone", {}), **dict.fromkeys(sorted(tasks), run)}
    return {"run": old["run"], "tasks measured alone": alone, "types": [*other_rows, *rows]}


def measured_rows(
    cases: list[tuple[str, str, str]], run: dict[str, Any], part: Path, judge: Judge = entry
) -> list[dict[str, Any]]:
    """The rows of all cases; each stands in `part` when it is measured, and a run of the same code goes on there."""
    finished: dict[tuple[str, str], dict[str, Any]] = {}
    if part.exists():
        first, *lines = part.read_text(encoding="utf-8").splitlines()
        if all(json.loads(first)[name] == run[name] for name in ("commit", "versions")):
            finished = {(row["task"], row["type"]): row for row in map(json.loads, lines)}
    rows = []
    with part.open("w", encoding="utf-8") as file:
        print(json.dumps(run), file=file)
        for i, case in enumerate(cases):
            rows.append(finished.get(case[:2]) or measured(case, judge))
            print(json.dumps(rows[-1]), file=file, flush=True)
            print(f"{i + 1}/{len(cases)} {case[0]} {case[1]}: {rows[-1]['outcome']}", file=sys.stderr)
    return rows


def main(arguments: list[str]) -> None:
    from stage.tiny_networks import begun

    run, every = begun(entry)
    tasks = {task for task, *_ in every} & set(arguments)
    cases = [case for case in every if not arguments or case[0] in tasks or (not tasks and case[1] in arguments)]
    if arguments and not tasks:
        print(json.dumps([measured(case) for case in cases], indent=1))
        return
    part = RESULT.with_suffix(".part.jsonl")
    rows = measured_rows(cases, run, part)
    old = json.loads(RESULT.read_text(encoding="utf-8")) if tasks else {}
    with atomic(RESULT) as path:
        path.write_text(json.dumps(whole(rows, run, tasks, old), indent=1) + "\n", encoding="utf-8")
    part.unlink()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1:])
