"""What load and tap make of a tiny network of every type: python simulations/families_census.py [TASK | TYPE ...]

Every type runs in a process of its own, with a limit of time. Without types it writes results/families.json, of which
families_page.py makes the page; with types it prints what it sees. A task (causal, masked, vision, composite) is
measured anew alone, and the rows of the others stay as they are.
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "families.json"
LIMIT = 600  # seconds for one type, on a machine that may have other work


def entry(task: str, kind: str, name: str) -> dict[str, Any]:
    """One row of the result: exact with the form of its layer, refused with the reason, or does not run."""
    import numpy as np
    import torch
    from stage import tiny_networks

    from ctrlattn import checkpoints
    from ctrlattn.errors import InputError

    head = {"task": task, "type": kind}
    try:
        model = tiny_networks.network(task, kind, name)
        given = tiny_networks.inputs(task, kind, model)
        with torch.no_grad():
            model(**given)
    except Exception as error:  # whatever transformers raises: the type does not run here
        return {**head, "outcome": "does not run", "reason": " ".join(str(error).split()).split(". ")[0][:200]}
    try:
        network = checkpoints.load(model, inputs=given)
        signals = checkpoints.tap(network, given)
    except (InputError, ArithmeticError) as error:
        return {**head, "outcome": "refused", "reason": str(error)}
    again, state = checkpoints.recompose(signals, network).to_numpy(), signals["state"].to_numpy()[1:]
    error = np.abs(again - state).max(-1) / np.abs(state).max(-1).clip(1e-30)
    structure = network.structure
    kinds = sorted({kind for call in structure.calls for kind in call.kinds})
    return {
        **head, "outcome": "exact", "layer": form(structure), "kinds": kinds, "error": float(error.max()),
        "matrix": not signals.attrs.get("no_matrix"),
    }  # fmt: skip


def form(structure: Any) -> str:
    """The form of the layers in words."""
    steps = [step for call in structure.calls for step in call.steps]
    added = [[term for term in step.terms if term.kind != "constant"] for step in steps]
    terms = [term for together in added for term in together]
    if any(step.norm for step in steps):
        words = ["post-norm"]
    else:
        words = ["pre-norm" if any(term.norm for term in terms) else "norm inside or none"]
    told = {
        "parallel": any(len(together) > 1 for together in added),
        "stream scaled": any(not step.skip.is_one for step in steps),
        "contributions scaled": any(not term.coefficient.is_one for term in terms),
        f"{structure.streams} streams": structure.streams > 1,
        "factors depend on the text": any(call.by_text for call in structure.calls),
        "layers called again": len(structure.calls) > len(structure.layers),
    }
    return ", ".join([*words, *(word for word, holds in told.items() if holds)])


def measured(case: tuple[str, str, str]) -> dict[str, Any]:
    """`entry` in a process of its own, which a type that crashes or does not end cannot take the others with."""
    fork = multiprocessing.get_context("fork")  # the libraries are loaded once
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_answer, args=(sender, case))
    process.start()
    sender.close()
    head = {"task": case[0], "type": case[1], "outcome": "does not run"}
    try:
        row: dict[str, Any] = (
            receiver.recv() if receiver.poll(LIMIT) else {**head, "reason": f"no answer within {LIMIT} s"}
        )
    except EOFError:
        process.join()
        row = {**head, "reason": f"its process ends with status {process.exitcode}"}
    process.kill()
    process.join()
    return row


def _answer(sender: Any, case: tuple[str, str, str]) -> None:
    sender.send(entry(*case))


def main(arguments: list[str]) -> None:
    import torch
    import transformers
    from stage import tiny_networks

    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    entry("causal", "llama", "LlamaForCausalLM")  # what is loaded now, every process has
    every = list(tiny_networks.cases())
    tasks = {task for task, *_ in every} & set(arguments)
    chosen = [case for case in every if not arguments or case[0] in tasks or (not tasks and case[1] in arguments)]
    rows = []
    for i, case in enumerate(chosen):
        rows.append(measured(case))
        print(f"{i + 1}/{len(chosen)} {case[0]} {case[1]}: {rows[-1]['outcome']}", file=sys.stderr)
    if arguments and not tasks:
        print(json.dumps(rows, indent=1))
        return
    versions = {"transformers": transformers.__version__, "torch": str(torch.__version__)}
    old = json.loads(RESULT.read_text(encoding="utf-8"))["types"] if tasks else []
    rows = [row for row in old if row["task"] not in tasks] + rows
    RESULT.write_text(json.dumps({"versions": versions, "types": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1:])
