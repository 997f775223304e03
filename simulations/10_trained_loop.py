"""ds_{k+1} = J_k ds_k, s = (x, memory of the controller): how a perturbation runs through a trained network.

The theory of the value chain, v <- A v + u with one attention A and neither residual connection nor projections, says
which modes a law damps. A trained network projects again in every layer, normalises, adds to a stream and has MLPs.
Here ViTs trained on digits are linearised layer by layer, the controller's memory in the state. After block 0 the
stream is pushed in a random direction (v_0 is not): the product of the Jacobians against what the network does, for
pushes of 1e-6 to 1 times the stream, and against the value chain, with the attention of each layer and with that of
layer 1 in all of them, which is what the modes of the theory are. Then a part of the network is held at its operating
point - weights of attention, control, MLP - to see which one the growth comes from. Control conditions: the same
networks before training, and Jacobians without the memory.

What it shows, --full, on the ten seeds of the trained comparison. The Jacobians are right and need the memory; a push
of a hundredth of the stream is still linear, a tenth is not. The value chain is not the network. With the printed law
85 % of the modes lie outside its region, and the chain grows 8.5 times in six layers; in the network the values shrink
to .69. With softmax, NeuTRENO and the code law the chain shrinks and the network hardly does. The order of the laws is
another one, before training as after it. In the stream the control does not damp: held at its operating point it lets
the stream grow less under every law (printed: .42 times as much). There the control is the largest amplifier, in the
other networks the MLPs are. Training raises the growth of the stream, which is 3 to 5 in seven layers, by a quarter to
a half.

What it does not show. One data set, one size, pushes of all tokens at once and of the stream alone; growth on average
over directions, not the worst one. A share of modes outside of a stability region says nothing about seven layers.

    python simulations/10_trained_loop.py [--full] [--weights DIR] --out DIR

DIR is what `ctrlattn train digits --out DIR` wrote; without it the networks are trained first, by the same rules.
"""

import json
import math
import sys
from collections import namedtuple
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scene import command, save
from scipy.stats import t as student

from ctrlattn.files import output_directory
from ctrlattn.linear import jacobian_operator
from ctrlattn.nn.experiment.data import load
from ctrlattn.nn.experiment.measures import attention_matrices
from ctrlattn.nn.experiment.resume import resumed
from ctrlattn.nn.experiment.training import RunSettings, build
from ctrlattn.nn.modules.attention import DepthState, control_values
from ctrlattn.plots.style import GREY, figure, styles, themed
from ctrlattn.stability import spectral_radius

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


def step(block, reference, s, point=None, held=()):
    """One block on its state, the parts named in `held` being those of the operating point `point`."""
    if not held:
        return _packed(*block(s[0], _memory(block, reference, s)))
    if block.placement != "pre" or block.parallel:
        raise ValueError("parts can be held in blocks of pre-norm attention and MLP in sequence only")
    attention, v = block.attn, values(block, s[0])
    weights = attention_matrices(block, point[0] if "weights" in held else s[0])
    u, state = control_values(attention.tracking, v, _memory(block, reference, s))
    if "control" in held:
        u, _ = control_values(attention.tracking, values(block, point[0]), _memory(block, reference, point))
    y = (weights @ v.transpose(-2, -3)).transpose(-2, -3)
    mixed = block.stream.compare(s[0], attention.proj((y if u is None else y + u).flatten(-2)))
    at = step_mixed(block, reference, point) if "mlp" in held else mixed
    return _packed(mixed + block.mlp(block.norm2(at)), state)


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
    moved = jacobian_operator(f, point) @ change.numpy().ravel()
    return torch.as_tensor(moved).reshape(f(point).shape)


def run(blocks, reference, s):
    """The states s_1, s_2, ... of the network itself."""
    states = [s]
    for block in blocks:
        states.append(step(block, reference, states[-1]))
    return states


def linear_run(blocks, reference, states, change, held=(), memory=True):
    """ds_1, ds_2, ... by the Jacobians at `states`; without memory only x is carried on."""
    changes = [change]
    for block, point in zip(blocks, states, strict=False):
        before = changes[-1] if memory else torch.cat([changes[-1][:1], torch.zeros_like(changes[-1][1:])])
        changes.append(push(lambda s, b=block, p=point: step(b, reference, s, p, held), point, before))
    return changes


def chain(blocks, matrices, change):
    """dv of the value chain, v <- A v + u, from dv of layer 1: theory without projections, norms, residual, MLP."""
    tracking, found = blocks[0].attn.tracking, [change]
    zero = torch.zeros_like(change)
    memory = None if tracking.controller is None else tracking.controller.init(zero)
    state = DepthState(zero, memory, acting=True)
    for a in matrices[:-1]:
        u, state = control_values(tracking, found[-1], state)
        y = (a @ found[-1].transpose(-2, -3)).transpose(-2, -3)
        found.append(y if u is None else y + u)
    return found


def size_of(change):
    """Length of a change for each image, over tokens and features."""
    return change.flatten(1).norm(dim=1)


def log_growth(changes):
    """log10 of the length over that of the first, (layers, images)."""
    return torch.stack([(size_of(c) / size_of(changes[0])).log10() for c in changes]).numpy()


def direction_of(s, generator):
    """A random direction of x as long as x, image by image; the memory is not pushed."""
    draw = torch.randn(s[0].shape, generator=generator, dtype=s.dtype)
    scaled = draw * (size_of(s[0]) / size_of(draw))[:, None, None]
    return torch.cat([scaled[None], torch.zeros_like(s[1:])])


def one_direction(blocks, reference, states, matrices, change):
    """Errors of the prediction by amplitude, and log10 growth by layer, for each image."""
    predicted = linear_run(blocks, reference, states, change)
    forgetful = linear_run(blocks, reference, states, change, memory=False)
    errors = {}
    for a in AMPLITUDES:
        done = run(blocks, reference, states[0] + a * change)[-1][0] - states[-1][0]
        errors[f"{a:g}"] = (size_of(done - a * predicted[-1][0]) / size_of(done)).tolist()
        if a == AMPLITUDES[0]:
            errors["without memory"] = (size_of(done - a * forgetful[-1][0]) / size_of(done)).tolist()
    own = [push(lambda x, b=b: values(b, x), s[0], c[0]) for b, s, c in zip(blocks, states, predicted, strict=False)]
    frozen = [matrices[0]] * len(matrices)
    growth = dict(zip(CHAINS, (own, chain(blocks, matrices, own[0]), chain(blocks, frozen, own[0])), strict=True))
    growth["stream"] = [c[0] for c in predicted]
    held = {
        name: log_growth([c[0] for c in linear_run(blocks, reference, states, change, parts)])[-1].tolist()
        for name, parts in HELD.items()
        if parts
    }
    held["nothing"] = log_growth(growth["stream"])[-1].tolist()
    return errors, {name: log_growth(changes) for name, changes in growth.items()}, held


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
    found = [one_direction(blocks, reference, states, matrices, change) for change in changes]
    errors = {a: np.concatenate([e[a] for e, _, _ in found]) for a in found[0][0]}
    growth = {name: np.mean([g[name] for _, g, _ in found], 0) for name in found[0][1]}
    held = {name: np.mean([h[name] for _, _, h in found], 0) for name in HELD}
    return {
        "error": {a: {"median": float(np.median(e)), "p95": float(np.quantile(e, 0.95))} for a, e in errors.items()},
        "growth": {name: g.mean(1).tolist() for name, g in growth.items()},
        "over_images": {name: interval(g[-1]) for name, g in growth.items()},
        "held": {name: float(h.mean()) for name, h in held.items()},
        "modes": modes_of(model, matrices),
    }


def interval(numbers):
    """Mean with Student's 95 % interval."""
    x = np.asarray(numbers, dtype=float)
    half = student.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    return {"mean": float(x.mean()), "low": float(x.mean() - half), "high": float(x.mean() + half)}


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
            own = {name: settings[name] for name in RunSettings.__dataclass_fields__ if name in settings}
            rows.append((arm, own["seed"], RunSettings(**own), folder / "weights" / f"{path.stem}.safetensors"))
    complete = {s for _, s, _, _ in rows if sum(s == other for _, other, _, _ in rows) == len(ARMS)}
    if not complete:
        raise ValueError(
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
    found = {arm: {"trained": [], "untrained": []} for arm in ARMS}
    for arm, number, settings, file in rows:
        found[arm]["untrained"].append(measure(build(settings, data), images, size, number))
        model = build(settings, data)
        load_model(model, str(file))
        found[arm]["trained"].append(measure(model, images, size, number))
        print(f"measured {arm}, seed {number}", file=sys.stderr, flush=True)
    return found


def table(found):
    """Means and 95 % intervals over the seeds of everything that the pictures and the verdict need."""
    return {arm: {when: _over_seeds(seeds) for when, seeds in whens.items()} for arm, whens in found.items()}


def _over_seeds(seeds):
    def each(place, name, pick=lambda value: value):
        return [pick(one[place][name]) for one in seeds]

    curves = {
        name: [interval(layer) for layer in zip(*each("growth", name), strict=True)] for name in seeds[0]["growth"]
    }
    theory = [one["growth"][CHAINS[0]][-1] - one["growth"][CHAINS[2]][-1] for one in seeds]
    return {
        "error": {a: {q: float(np.mean(each("error", a, lambda e, q=q: e[q]))) for q in ("median", "p95")}
                  for a in seeds[0]["error"]},
        "growth": curves,
        "beyond_theory": interval(theory),
        "held": {name: interval(each("held", name)) for name in HELD},
        "lifted": {name: interval([one["held"][name] - one["held"]["nothing"] for one in seeds]) for name in HELD},
        "modes": {name: interval(each("modes", name)) for name in ("outside", "radius")},
    }  # fmt: skip


def factor(row):
    """A log10 interval in words, as a factor."""
    return f"{10 ** row['mean']:.3g} [{10 ** row['low']:.3g}, {10 ** row['high']:.3g}]"


def verdict(numbers):
    """The scene in words, from its numbers."""
    arms, seeds = numbers["arms"], numbers["seeds"]
    layers = len(arms[ARMS[0]]["trained"]["growth"]["stream"]) - 1
    lines = [*_claims(arms)]
    if numbers["images"] < FULL.images:
        lines.append("a small run: it shows that the scene runs, nothing about trained networks")
    lines.append(
        f"{len(seeds)} seeds, {numbers['images']} images, {numbers['directions']} directions each; factors over "
        f"{layers} layers (values: {layers - 1}), mean [95 % over seeds] of the logarithm"
    )
    for arm, whens in arms.items():
        for when, row in whens.items():
            lines.append(
                f"{arm}, {when}: values grow {factor(row['growth'][CHAINS[0]][-1])}, the chain with each layer's "
                f"attention {factor(row['growth'][CHAINS[1]][-1])}, with that of layer 1 "
                f"{factor(row['growth'][CHAINS[2]][-1])}; stream {factor(row['growth']['stream'][-1])}"
            )
    for arm, whens in arms.items():
        row = whens["trained"]
        parts = ", ".join(f"{name} x {factor(row['lifted'][name])}" for name, held in HELD.items() if held)
        lines.append(f"{arm}, trained: the stream's growth changes, where this is held: {parts}")
        modes = whens["trained"]["modes"]
        lines.append(
            f"{arm}, trained: {modes['outside']['mean']:.3f} of the modes lie outside the law's region, largest "
            f"radius {modes['radius']['mean']:.3f} (median over images, heads, layers)"
        )
    return lines


def _claims(arms):
    """Sentences that hold or do not."""
    both = [(arm, when, row) for arm, whens in arms.items() for when, row in whens.items()]
    worst = max(row["error"][f"{AMPLITUDES[0]:g}"]["p95"] for _, _, row in both)
    yield _said(worst < EXACT, f"Jacobians with the memory predict a push of 1e-6: worst 95th percentile {worst:.1e}")
    for arm in ("pidformer-printed", "pidformer-ema"):  # NeuTRENO's law has no memory that it uses
        error = arms[arm]["trained"]["error"]["without memory"]["median"]
        yield _said(error > CLOSE, f"{arm}: without the memory they do not, median error {error:.2f}")
    for a, b in pairwise(AMPLITUDES):
        if all(arms[arm]["trained"]["error"][f"{a:g}"]["median"] < CLOSE for arm in ARMS) and any(
            arms[arm]["trained"]["error"][f"{b:g}"]["median"] >= CLOSE for arm in ARMS
        ):
            yield f"trained networks are linear to {CLOSE:.0%} (median) up to a push of {a:g} of the stream, not {b:g}"
    for arm in ARMS:
        beyond = arms[arm]["trained"]["beyond_theory"]
        inside = beyond["low"] <= 0 <= beyond["high"]
        yield _said(
            inside, f"{arm}: values grow as the theory of frozen modes says; network over theory {factor(beyond)}"
        )
    for arm in ARMS[1:]:
        lifted = arms[arm]["trained"]["lifted"]["control"]
        claim = (
            f"{arm}: the control damps the push; with the control held the stream grows {factor(lifted)} times as much"
        )
        yield _said(lifted["low"] > 0, claim)
    orders = [
        sorted(ARMS, key=lambda arm, name=name: arms[arm]["trained"]["growth"][name][-1]["mean"])
        for name in (CHAINS[0], CHAINS[2])
    ]
    yield _said(
        orders[0] == orders[1], f"the laws in order of growth: network {_order(orders[0])}; theory {_order(orders[1])}"
    )


def _said(holds, claim):
    return f"{'holds' if holds else 'does NOT hold'}: {claim}"


def _order(names):
    return " < ".join(names)


@themed
def draw(arms):
    """Growth of the values for each law; errors by amplitude; what holding a part does."""
    drawn = figure(width=13.0, height=7.4)
    panels = list(drawn.subplots(2, 3).flat)
    for ax, arm in zip((panels[0], panels[1], panels[3], panels[4]), ARMS, strict=True):
        _growth(ax, arm, arms[arm])
    _errors(panels[2], arms)
    _held(panels[5], arms)
    both = [panels[0].get_legend_handles_labels(), panels[2].get_legend_handles_labels()]
    drawn.legend(*both[0], loc="outside upper left", ncols=4)
    drawn.legend(*both[1], loc="outside lower right", ncols=4)
    return drawn


def _growth(ax, arm, whens):
    looks = {
        ("trained", CHAINS[0]): ("#000000", "o", "solid", "network, trained"),
        ("untrained", CHAINS[0]): (GREY, "s", (0, (1, 1.2)), "network, untrained"),
        ("trained", CHAINS[1]): ("#3f90da", "v", (0, (5, 1.5)), "chain, attention of each layer"),
        ("trained", CHAINS[2]): ("#bd1f01", "^", (0, (4, 1.2, 1, 1.2)), "chain, attention of layer 1"),
    }
    for (when, name), (colour, marker, dash, label) in looks.items():
        rows = whens[when]["growth"][name]
        middle, low, high = (10 ** np.array([row[key] for row in rows]) for key in ("mean", "low", "high"))
        across = np.arange(1, len(rows) + 1)
        ax.plot(across, middle, color=colour, marker=marker, linestyle=dash, label=label)
        ax.fill_between(across, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.axhline(1.0, color=GREY, linewidth=0.8)
    ax.set_xticks(across)
    ax.set(yscale="log", xlabel="Layer", ylabel="Change of the values (layer 1: 1)", title=arm)


def _errors(ax, arms):
    for arm, look in styles(ARMS).items():
        error = arms[arm]["trained"]["error"]
        ax.loglog(AMPLITUDES, [error[f"{a:g}"]["median"] for a in AMPLITUDES], **look, label=arm)
        if arm != "softmax":
            hollow = {"color": look["color"], "marker": look["marker"], "markerfacecolor": "none", "markersize": 9}
            ax.plot(AMPLITUDES[0], error["without memory"]["median"], linestyle="none", **hollow)
    ax.axhline(CLOSE, color=GREY, linewidth=0.8)
    title = "Last layer, trained (hollow: without memory)"
    ax.set(xlabel="Push over the length of the stream", ylabel="Relative error, median", title=title)


def _held(ax, arms):
    names = [name for name in HELD if HELD[name]]
    for k, (arm, look) in enumerate(styles(ARMS).items()):
        rows = [arms[arm]["trained"]["lifted"][name] for name in names]
        middle, low, high = (10 ** np.array([row[key] for row in rows]) for key in ("mean", "low", "high"))
        place = np.arange(len(names)) + (k - 1.5) * 0.17
        bars = [middle - low, high - middle]
        ax.errorbar(middle, place, xerr=bars, color=look["color"], marker=look["marker"], linestyle="none", label=arm)
    ax.axvline(1.0, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="Growth of the stream over that with nothing held", title="A part held, trained")


def main(out, seed=0, full=False, weights=None):
    """Train what is missing, measure, write trained_loop.json and trained_loop.png under `out`; returns the numbers."""
    size = FULL if full else SMALL
    rows = networks(size, seed, weights, Path(out) / "trained_loop_runs")
    found = measured(rows, size)
    numbers = {
        "seeds": sorted({number for _, number, _, _ in rows}),
        "images": size.images,
        "directions": size.directions,
        "arms": table(found),
        "networks": found,
    }
    numbers["verdict"] = verdict(numbers)
    return save(out, "trained_loop", numbers, draw(numbers["arms"]))


def _options(parser):
    parser.add_argument("--weights", metavar="DIR", help="what `ctrlattn train digits --out DIR` wrote")
    return parser


if __name__ == "__main__":
    command(
        main, __doc__, full="32 images, 3 directions; depth 8, 20 epochs, 5 seeds where none are given", more=_options
    )
