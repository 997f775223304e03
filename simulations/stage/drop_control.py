"""cost(S) = loss without the attention layers S - loss: random sets of eight, single layers, and what foretells them.

This module measures for the scene `03_drop.py --control` what eight attention layers that are drawn at random cost,
what each layer costs alone, and which signal of a layer says so beforehand.
"""

from collections import namedtuple
from pathlib import Path

import numpy as np
import torch

from ctrlattn.checkpoints import drop, evaluate, load
from ctrlattn.checkpoints.measure.layer_functions import layer_functions
from ctrlattn.checkpoints.network.watch import watch
from stage.drop import Runs
from stage.drop_foretold import foretold
from stage.feedback_sign import tiny_llama, window
from stage.page_file import read_json
from stage.plan_file import read_size
from stage.statistics import interval
from stage.verdict import signed

Size = namedtuple("Size", "documents tokens sets eight probed draws")

STEP = 1e-2  # of the length of a token, for the Jacobian's norm


RESULTS = Path(__file__).parents[1] / "results"


def beginnings(texts, checkpoint, size):
    """(documents, tokens): the first tokens of each document that is long enough."""
    rows = []
    for text in texts:
        if len(text) > 8 * size.tokens and len(rows) < size.documents:
            rows.append(window(checkpoint, text, size.tokens))
    return np.array(rows)


def drawn_sets(size, layers):
    """Sets of layers, drawn at random without replacement from seed 0."""
    rng = np.random.default_rng(0)
    return [sorted(rng.permutation(layers)[: size.eight].tolist()) for _ in range(size.sets)]


def costs(runs, ids, sets):
    """{name of a set: {layers, cost of each document}}, each kept in a file; paired with the whole network."""

    def losses(network):
        return evaluate(network, ids).window_losses.tolist()

    full_losses = runs.stored("control whole", lambda: {"losses": losses(runs.checkpoint)})["losses"]
    results = {}
    for name, layers in sets.items():
        result = runs.stored(f"control {name}", lambda s=layers: {"losses": losses(drop(runs.checkpoint, attention=s))})
        results[name] = {"layers": layers, "values": np.subtract(result["losses"], full_losses).round(5).tolist()}
    return results


def jacobian_norms(checkpoint, documents):
    """RMS growth |F(x + v) - F(x)|/|v| of attention for random small v, each token's as long as its share: (layers,).

    This is the Frobenius norm of the Jacobian of the contribution over sqrt(n d), in units of tokens' lengths.
    """
    squares = np.zeros(len(checkpoint.layers))
    attention = {s.layer: s for s in checkpoint.sublayers() if s.kind == "attention"}
    for i, ids in enumerate(documents):
        generator = torch.Generator().manual_seed(i)
        for layer, (f, h) in enumerate(layer_functions(checkpoint, ids)):
            length = h.norm(dim=-1, keepdim=True)
            v = torch.randn(h.shape, generator=generator) * length / h.shape[-1] ** 0.5 * STEP
            outputs = []
            with watch([attention[layer]], lambda s, x, u, F, out=outputs: out.append(F[0])), torch.no_grad():
                f(h[None]), f((h + v)[None])
            change = (outputs[1] - outputs[0]).norm(dim=-1) / (length[:, 0] * STEP)
            squares[layer] += float(change[1:].square().mean()) / len(documents)  # without the token that rests
    return np.sqrt(squares)


def stored_signals():
    """{signal: (layers,)} of SmolLM2 as scenes 03, 08 and 18 stored them."""
    gain = read_json(RESULTS / "feedback_sign_news.json")["networks"]["SmolLM2-135M"]["layers"]["trained"]["gain"]
    gain = np.array(gain["mean"])[:, 0]
    layers = read_json(RESULTS / "gallery" / "innovation.json")["layers"]["SmolLM2-135M"]
    alone, size = np.array(layers["share of the token alone"]), np.array(layers["squared size"])
    return {
        "cosine importance": read_json(RESULTS / "drop.json")["importance"]["attention"],
        "gain": gain.tolist(),
        "size of the gain": np.abs(gain).tolist(),
        "share that no map of the token has": (1 - alone).tolist(),
        "squared length": size.tolist(),
        "residual of the token's map": ((1 - alone) * size).tolist(),
    }


def published():
    """Documents of the test part and the sets that scene 03 chose: (indices, {name: layers})."""
    numbers = read_json(RESULTS / "drop.json")
    least = np.argsort(numbers["importance"]["attention"])[:8].tolist()
    return numbers["documents"]["test"], {"by cosine": sorted(least), "chosen": sorted(numbers["choice"]["order"][:8])}


def control_of(folder, full, source, news):
    """The numbers of the control, and the SHA-256 of its plan."""
    size, plan = read_size("drop_control", Size, full)
    if full:
        checkpoint = load(source, attention="sdpa")
        test, named_sets = published()
        lines = [line.strip() for line in Path(news).read_text(encoding="utf-8").split("\n") if line.strip()]
        texts, signals = [lines[k] for k in test], stored_signals()
    else:
        checkpoint, texts = tiny_llama(), [f"{k} {__doc__}" for k in range(size.documents)]
        named_sets, signals = {"by cosine": [0, 1]}, {"cosine importance": [0.1, 0.2, 0.3]}
    settings = {"source": "SmolLM2-135M" if full else "random", "plan": plan, "torch": str(torch.__version__)}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=full):
        numbers = control(Runs(folder, checkpoint, None, settings), texts, size, named_sets, signals)
    return {"settings": {**settings, **size._asdict()}, **numbers}, plan


def control(runs, texts, size, named_sets, signals):
    """Everything of the control: costs of random and named sets and of single layers, and what foretells them."""
    checkpoint = runs.checkpoint
    ids = beginnings(texts, checkpoint, size)
    depth = len(checkpoint.layers)
    random = {f"random {k}": layers for k, layers in enumerate(drawn_sets(size, depth))}
    sets = costs(runs, ids, {**named_sets, **random})
    alone = costs(runs, ids, {f"alone {i}": [i] for i in range(depth)})
    alone = {str(i): alone[f"alone {i}"] for i in range(depth)}
    probed = ids[: size.probed]
    norms = runs.stored("control norms", lambda: {"values": jacobian_norms(checkpoint, probed).tolist()})
    signals = {**signals, "Jacobian's norm": norms["values"]}
    for result in (*sets.values(), *alone.values()):
        result |= interval(result["values"])
    random_sets = [sets[name] for name in random]
    return {
        "sets": sets, "alone": alone, "signals": signals,
        "foretold": foretold(signals, alone, random_sets, size.draws),
    }  # fmt: skip


def control_lines(numbers):
    """What the control says, as Markdown lines of the page and of the verdict."""
    sets, foretold = numbers["sets"], numbers["foretold"]
    at_random = sorted(result["mean"] for name, result in sets.items() if name.startswith("random"))
    cosine = sets["by cosine"]["mean"]
    below = sum(cost < cosine for cost in at_random)
    lines = [
        f"{len(at_random)} random sets of {numbers['settings']['eight']} cost {at_random[0]:+.2f} to "
        f"{at_random[-1]:+.2f}, median {np.median(at_random):+.2f}; {below} of them cost less than those by cosine",
        *(f"bare, {name}: {signed(result)}" for name, result in sets.items() if not name.startswith("random")),
    ]
    for name, results in foretold.items():
        lines.append(
            f"{name}: Spearman with the cost of a layer {signed(results['alone'])}, of a set {signed(results['sets'])}"
        )
    return lines
