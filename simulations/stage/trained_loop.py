"""ds_{k+1} = J_k ds_k, s = (x, memory of the controller): how a perturbation runs through a trained network.

This module measures for the scene `09_trained_loop.py` how well the Jacobians predict a push, how much the push grows
in the network and in the value chain, and which part of the network the growth comes from.
"""

import json
import sys
from collections import namedtuple
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from ctrlattn.errors import InputError
from ctrlattn.files import output_directory
from ctrlattn.linear import jacobian_operator
from ctrlattn.nn.experiment.data import load
from ctrlattn.nn.experiment.measures import attention_matrices
from ctrlattn.nn.experiment.resume import resumed
from ctrlattn.nn.experiment.settings import RunSettings
from ctrlattn.nn.experiment.training import build
from ctrlattn.nn.modules.attention import DepthState, control_values
from ctrlattn.stability import spectral_radius
from stage.statistics import interval
from stage.verdict import said

ARMS = ("softmax", "neutreno", "pidformer-printed", "pidformer-ema")

Size = namedtuple("Size", "images directions seeds settings")

SMALL = Size(images=6, directions=1, seeds=2, settings={"depth": 3, "dim": 24, "patch": 4, "epochs": 2})

FULL = Size(images=32, directions=3, seeds=5, settings={})

AMPLITUDES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

HELD = {"nothing": (), "attention weights": ("weights",), "control": ("control",), "MLP": ("mlp",)}

CHAINS = ("network", "attention of each layer", "attention of layer 1")

EXACT, CLOSE = 1e-3, 0.1  # what counts as predicted: of an infinitesimal push, of a finite one


def first(model, images):
    """(s_1, v_0): the state after block 0, x and the memory stacked as (1 + memories, images, n, d)."""
    x, state = model.blocks[0](model.embed(images), None)
    return _packed(x, state), state.reference


def step(block, reference, s, point=None, parts=()):
    """One block on its state, where the `parts` that are named are those of the operating point `point`."""
    if not parts:
        return _packed(*block(s[0], _memory(block, reference, s)))
    if block.placement != "pre" or block.parallel:
        raise InputError("parts can be held in blocks of pre-norm attention and MLP in sequence only")
    attention, v = block.attn, values(block, s[0])
    weights = attention_matrices(block, point[0] if "weights" in parts else s[0])
    u, state = control_values(attention.tracking, v, _memory(block, reference, s))
    if "control" in parts:
        u, _ = control_values(attention.tracking, values(block, point[0]), _memory(block, reference, point))
    y = (weights @ v.transpose(-2, -3)).transpose(-2, -3)
    stream = block.stream.compare(s[0], attention.proj((y if u is None else y + u).flatten(-2)))
    at = step_mixed(block, reference, point) if "mlp" in parts else stream
    return _packed(stream + block.mlp(block.norm2(at)), state)


def step_mixed(block, reference, s):
    """The stream between attention and MLP."""
    return block.stream.compare(s[0], block.attn(block.norm1(s[0]), _memory(block, reference, s))[0])


def values(block, x):
    """v of a block, (images, n, heads, D)."""
    return block.attn.repeat(block.attn.project(block.norm1(x))[2])


def _memory(block, reference, s):
    memory = tuple(m.unflatten(-1, (block.attn.heads, -1)) for m in s[1:])
    return DepthState(reference, memory or None, acting=True)


def _packed(x, state):
    return torch.stack([x, *(m.flatten(-2) for m in state.controller or ())])


def push(f, point, change):
    """J change, J the Jacobian of f at the point."""
    product = jacobian_operator(f, point) @ change.numpy().ravel()
    return torch.as_tensor(product).reshape(f(point).shape)


def run(blocks, reference, s):
    """The states s_1, s_2, ... of the network itself."""
    states = [s]
    for block in blocks:
        states.append(step(block, reference, states[-1]))
    return states


def linear_run(blocks, reference, states, change, parts=(), memory=True):
    """ds_1, ds_2, ... by the Jacobians at `states`; without memory only x is carried on."""
    changes = [change]
    for block, point in zip(blocks, states, strict=False):
        source = changes[-1] if memory else torch.cat([changes[-1][:1], torch.zeros_like(changes[-1][1:])])
        changes.append(push(lambda s, b=block, p=point: step(b, reference, s, p, parts), point, source))
    return changes


def chain(blocks, matrices, change):
    """dv of the value chain, v <- A v + u, from dv of layer 1: theory without projections, norms, residual, MLP."""
    tracking, dv = blocks[0].attn.tracking, [change]
    zero = torch.zeros_like(change)
    memory = None if tracking.controller is None else tracking.controller.init(zero)
    state = DepthState(zero, memory, acting=True)
    for a in matrices[:-1]:
        u, state = control_values(tracking, dv[-1], state)
        y = (a @ dv[-1].transpose(-2, -3)).transpose(-2, -3)
        dv.append(y if u is None else y + u)
    return dv


def size_of(change):
    """Length of a change for each image, over tokens and features."""
    return change.flatten(1).norm(dim=1)


def log_growth(changes):
    """log10 of the length over that of the first, (layers, images)."""
    return torch.stack([(size_of(c) / size_of(changes[0])).log10() for c in changes]).numpy()


def direction_of(s, generator):
    """A random direction of x as long as x, image by image; the memory is not pushed."""
    draw = torch.randn(s[0].shape, generator=generator, dtype=s.dtype)
    change = draw * (size_of(s[0]) / size_of(draw))[:, None, None]
    return torch.cat([change[None], torch.zeros_like(s[1:])])


def one_direction(blocks, reference, states, matrices, change):
    """Errors of the prediction by amplitude, and log10 growth by layer, for each image."""
    predicted = linear_run(blocks, reference, states, change)
    forgetful = linear_run(blocks, reference, states, change, memory=False)
    errors = {}
    for a in AMPLITUDES:
        deviation = run(blocks, reference, states[0] + a * change)[-1][0] - states[-1][0]
        errors[f"{a:g}"] = (size_of(deviation - a * predicted[-1][0]) / size_of(deviation)).tolist()
        if a == AMPLITUDES[0]:
            errors["without memory"] = (size_of(deviation - a * forgetful[-1][0]) / size_of(deviation)).tolist()
    value_growth = [
        push(lambda x, b=b: values(b, x), s[0], c[0]) for b, s, c in zip(blocks, states, predicted, strict=False)
    ]
    frozen = [matrices[0]] * len(matrices)
    growth = dict(
        zip(
            CHAINS,
            (value_growth, chain(blocks, matrices, value_growth[0]), chain(blocks, frozen, value_growth[0])),
            strict=True,
        )
    )
    growth["stream"] = [c[0] for c in predicted]
    growths = {
        name: log_growth([c[0] for c in linear_run(blocks, reference, states, change, parts)])[-1].tolist()
        for name, parts in HELD.items()
        if parts
    }
    growths["nothing"] = log_growth(growth["stream"])[-1].tolist()
    return errors, {name: log_growth(changes) for name, changes in growth.items()}, growths


def modes_of(model, matrices):
    """Modes of each layer's attention under the law: share outside the unit circle, median largest radius."""
    a = np.linalg.eigvals(torch.stack(matrices).numpy())
    controller = model.blocks[0].attn.controller
    radius = np.abs(a) if controller is None else spectral_radius(controller, a)
    return {"outside": float((radius > 1 + 1e-9).mean()), "radius": float(np.median(radius.max(-1)))}


def measure(model, images, size, seed):
    """Every number of one network: means over directions first, then over images."""
    model = model.double().eval().requires_grad_(False)
    states_1, reference = first(model, images)
    blocks = list(model.blocks)[1:]
    states = run(blocks, reference, states_1)
    matrices = [attention_matrices(b, s[0]) for b, s in zip(blocks, states, strict=False)]
    generator = torch.Generator().manual_seed(seed)
    changes = [direction_of(states_1, generator) for _ in range(size.directions)]
    results = [one_direction(blocks, reference, states, matrices, change) for change in changes]
    errors = {a: np.concatenate([e[a] for e, _, _ in results]) for a in results[0][0]}
    growth = {name: np.mean([g[name] for _, g, _ in results], 0) for name in results[0][1]}
    growths = {name: np.mean([h[name] for _, _, h in results], 0) for name in HELD}
    return {
        "error": {a: {"median": float(np.median(e)), "p95": float(np.quantile(e, 0.95))} for a, e in errors.items()},
        "growth": {name: g.mean(1).tolist() for name, g in growth.items()},
        "over_images": {name: interval(g[-1]) for name, g in growth.items()},
        "held": {name: float(h.mean()) for name, h in growths.items()},
        "modes": modes_of(model, matrices),
    }


def networks(size, seed, weights, out):
    """(arm, seed, RunSettings, file of trained weights) of every network; without weights they are trained first."""
    if weights is not None:
        return _found(Path(weights))
    data, runs, files = load("digits"), output_directory(out / "runs"), output_directory(out / "weights")
    rows = []
    for number in range(seed, seed + size.seeds):
        for arm in ARMS:
            settings = RunSettings(arm, number, **size.settings)
            resumed(runs, files, settings, data)
            print(f"trained {arm}, seed {number}", file=sys.stderr, flush=True)
            rows.append((arm, number, settings, files / f"digits_{arm}_{number}.safetensors"))
    return rows


def _found(folder):
    """What `ctrlattn train digits` left in a folder, of the seeds that have all four arms."""
    rows = []
    for arm in ARMS:
        for path in sorted(folder.glob(f"runs/digits_{arm}_[0-9]*.json")):
            settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
            fields = {name: settings[name] for name in RunSettings.__dataclass_fields__ if name in settings}
            rows.append((arm, fields["seed"], RunSettings(**fields), folder / "weights" / f"{path.stem}.safetensors"))
    complete = {s for _, s, _, _ in rows if sum(s == run_seed for _, run_seed, _, _ in rows) == len(ARMS)}
    if not complete:
        raise InputError(
            f"{folder}: no seed with trained digits networks of all of {', '.join(ARMS)}; "
            "make them with: ctrlattn train digits --out DIR"
        )
    return [row for row in rows if row[1] in complete]


def measured(rows, size):
    """{arm: {"trained" | "untrained": numbers of each seed}}."""
    from safetensors.torch import load_model

    data = load("digits")
    pick = np.random.default_rng(0).choice(len(data.test.targets), size.images, replace=False)
    images = data.prepare(data.test.inputs[torch.as_tensor(pick)]).double()
    results = {arm: {"trained": [], "untrained": []} for arm in ARMS}
    for arm, number, settings, file in rows:
        results[arm]["untrained"].append(measure(build(settings, data), images, size, number))
        model = build(settings, data)
        load_model(model, str(file))
        results[arm]["trained"].append(measure(model, images, size, number))
        print(f"measured {arm}, seed {number}", file=sys.stderr, flush=True)
    return results


def table(results):
    """Means and 95 % intervals over the seeds of everything that the pictures and the verdict need."""
    return {arm: {when: _over_seeds(seeds) for when, seeds in whens.items()} for arm, whens in results.items()}


def _over_seeds(seeds):
    def each(place, name, pick=lambda value: value):
        return [pick(network[place][name]) for network in seeds]

    curves = {
        name: [interval(layer) for layer in zip(*each("growth", name), strict=True)] for name in seeds[0]["growth"]
    }
    theory = [network["growth"][CHAINS[0]][-1] - network["growth"][CHAINS[2]][-1] for network in seeds]
    return {
        "error": {a: {q: float(np.mean(each("error", a, lambda e, q=q: e[q]))) for q in ("median", "p95")}
                  for a in seeds[0]["error"]},
        "growth": curves,
        "beyond_theory": interval(theory),
        "held": {name: interval(each("held", name)) for name in HELD},
        "lifted": {name: interval([network["held"][name] - network["held"]["nothing"] for network in seeds])
                   for name in HELD},
        "modes": {name: interval(each("modes", name)) for name in ("outside", "radius")},
    }  # fmt: skip


def factor(row):
    """A log10 interval in words, as a factor."""
    return f"{10 ** row['mean']:.3g} [{10 ** row['low']:.3g}, {10 ** row['high']:.3g}]"


def claims(arms):
    """Sentences that hold or do not."""
    both = [(arm, when, row) for arm, whens in arms.items() for when, row in whens.items()]
    worst = max(row["error"][f"{AMPLITUDES[0]:g}"]["p95"] for _, _, row in both)
    yield said(worst < EXACT, f"Jacobians with the memory predict a push of 1e-6: worst 95th percentile {worst:.1e}")
    for arm in ("pidformer-printed", "pidformer-ema"):  # NeuTRENO's law has no memory that it uses
        error = arms[arm]["trained"]["error"]["without memory"]["median"]
        yield said(error > CLOSE, f"{arm}: without the memory they do not, median error {error:.2f}")
    for a, b in pairwise(AMPLITUDES):
        if all(arms[arm]["trained"]["error"][f"{a:g}"]["median"] < CLOSE for arm in ARMS) and any(
            arms[arm]["trained"]["error"][f"{b:g}"]["median"] >= CLOSE for arm in ARMS
        ):
            yield f"trained networks are linear to {CLOSE:.0%} (median) up to a push of {a:g} of the stream, not {b:g}"
    for arm in ARMS:
        beyond = arms[arm]["trained"]["beyond_theory"]
        inside = beyond["low"] <= 0 <= beyond["high"]
        yield said(
            inside, f"{arm}: values grow as the theory of frozen modes says; network over theory {factor(beyond)}"
        )
    for arm in ARMS[1:]:
        lifted = arms[arm]["trained"]["lifted"]["control"]
        claim = (
            f"{arm}: the control damps the push; with the control held the stream grows {factor(lifted)} times as much"
        )
        yield said(lifted["low"] > 0, claim)
    orders = [
        sorted(ARMS, key=lambda arm, name=name: arms[arm]["trained"]["growth"][name][-1]["mean"])
        for name in (CHAINS[0], CHAINS[2])
    ]
    yield said(
        orders[0] == orders[1], f"the laws in order of growth: network {_order(orders[0])}; theory {_order(orders[1])}"
    )


def _order(names):
    return " < ".join(names)
