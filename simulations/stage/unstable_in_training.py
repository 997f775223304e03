"""v <- A v + s K (v_0 - v): trained on both sides of the boundary |a - K| = 1, s random or 1.

This module trains small vision transformers on digits under a proportional law. It measures how many modes of the value
chain lie outside the unit circle, how much a push of the stream grows, the loss, and how alike the tokens become.
"""

import platform
import time

import numpy as np
import torch

from ctrlattn.controllers import PID
from ctrlattn.nn.experiment.data import load
from ctrlattn.nn.experiment.measures import attention_matrices, over_depth
from ctrlattn.nn.experiment.resume import stored
from ctrlattn.nn.experiment.scores import loss_of
from ctrlattn.nn.experiment.settings import RunSettings
from ctrlattn.nn.experiment.training import fit
from ctrlattn.nn.modules.gains import Actuator
from ctrlattn.nn.modules.vit import ControlledViT
from ctrlattn.stability import spectral_radius
from stage.statistics import interval

LAWS = ("law", "random signs")
SCORES = ("outside", "loss", "growth", "values", "similarity")
STORED = ("status", *SCORES)
SMALL = {"depths": [3], "seeds": [900, 901], "gains": [0.5, 1.6], "size": {"dim": 8, "heads": 2, "epochs": 1}}


class RandomSigns(Actuator):
    """u = s C(z) e with a fixed random sign s for each feature of a head: the same gain, no consistent sign."""

    def __init__(self, controller, signs):
        super().__init__(controller)
        self.register_buffer("signs", signs)

    def step(self, e, state):
        u, new = super().step(e, state)
        return self.signs.to(u.dtype) * u, new


def controllers(law, gain, depth, size, seed):
    """One controller for each layer."""
    pid = PID(gain, 0.0, 0.0)
    if law == "law":
        return [pid] * depth
    draw = torch.Generator().manual_seed(seed)
    shape = (size["heads"], size["dim"] // size["heads"])
    return [RandomSigns(pid, torch.randint(2, shape, generator=draw) * 2.0 - 1.0) for _ in range(depth)]


def network(law, gain, depth, size, seed):
    """The untrained network; those of one seed and depth begin with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ControlledViT(
            image=8, patch=4, channels=1, classes=10, dim=size["dim"], depth=depth, heads=size["heads"],
            hidden=2 * size["dim"], controller=controllers(law, gain, depth, size, seed),
        )  # fmt: skip
        model.initialize(size["dim"] ** -0.5, depth_scaled=False)
    return model


@torch.no_grad()
def measured(model, gain, data):
    """Share of modes outside the circle, growth of a push of the stream and of the values (log10), loss, similarity."""
    inputs = data.prepare(data.test.inputs[:64]).double()
    model = model.double().eval()
    states = list(model.states(inputs))
    matrices = torch.stack([attention_matrices(b, x) for b, x in zip(model.blocks[1:], states[1:-1], strict=True)])
    outside = spectral_radius(PID(gain, 0.0, 0.0), np.linalg.eigvals(matrices.numpy())) > 1 + 1e-9
    push = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0), dtype=inputs.dtype)
    changes = [near - x for near, x in zip(model.states(inputs + 1e-6 * push), states, strict=True)]
    values = [b.attn.project(b.norm1(x))[2] for b, x in zip(model.blocks, states[:-1], strict=True)]
    return {
        "outside": float(outside.mean()),
        "growth": float((changes[-1].norm() / changes[1].norm()).log10()),
        "values": float((values[-1].norm() / values[1].norm()).log10()),
        "similarity": float(over_depth(model, inputs)["token_similarity_final"]),
    }


def run(folder, law, gain, depth, seed, plan, data):
    """One run from its file, or trained and written there."""
    size = plan["size"]

    def make():
        began, model = time.strftime("%Y-%m-%dT%H:%M:%S"), network(law, gain, depth, size, seed)
        settings = RunSettings("softmax", seed, epochs=size["epochs"], depth=depth, dim=size["dim"], rate=plan["rate"])
        curve = fit(model, data, settings)
        with torch.no_grad():
            loss = float(loss_of(model.eval(), data, data.test))
        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": str(torch.__version__)}
        finite = loss if np.isfinite(loss) and curve.status != "not finite" else 1e3
        return {
            **measured(model, gain, data),
            "loss": finite,
            "status": curve.status,
            "began": began,
            "versions": versions,
        }

    settings = {"law": law, "gain": gain, "depth": depth, "seed": seed, **size, "plan": plan["sha256"]}
    return stored(folder, f"{law.replace(' ', '_')}_{gain:g}_{depth}_{seed}", settings, make)


def jump(rows, gains, score):
    """Mean over the gains beyond the boundary less the mean over those within, one value for each seed."""
    sides = [[rows[gain][score] for gain in gains if (gain > 1) == beyond] for beyond in (True, False)]
    return np.mean(sides[0], 0) - np.mean(sides[1], 0)


def finished(folder, depth, plan):
    """The seeds of a depth that have all their runs in the folder."""
    names = [f"{law.replace(' ', '_')}_{gain:g}_{depth}" for law in LAWS for gain in plan["gains"]]
    return [seed for seed in plan["seeds"] if all((folder / f"{name}_{seed}.json").exists() for name in names)]


def of_depth(folder, depth, seeds, plan, data):
    """The runs of one depth, and the jumps at the boundary with their intervals over the seeds."""
    laws = {}
    for law in LAWS:
        runs = {gain: [run(folder, law, gain, depth, seed, plan, data) for seed in seeds] for gain in plan["gains"]}
        laws[law] = {g: {name: [r[name] for r in some] for name in STORED} for g, some in runs.items()}
    jumps = {law: {score: jump(rows, plan["gains"], score) for score in SCORES} for law, rows in laws.items()}
    jumps["law less random signs"] = {score: jumps["law"][score] - jumps["random signs"][score] for score in SCORES}
    return {
        "seeds": seeds,
        "runs": {law: {f"{gain:g}": row for gain, row in rows.items()} for law, rows in laws.items()},
        "jumps": {law: {score: interval(d) for score, d in row.items()} for law, row in jumps.items()},
    }


def measure(folder, plan, stored_only=False):
    """Every number of this scene; with `stored_only` of the seeds that are finished."""
    data = load("digits")
    depths = {}
    for depth in plan["depths"]:
        seeds = finished(folder, depth, plan) if stored_only else plan["seeds"]
        if len(seeds) > 1:
            depths[str(depth)] = of_depth(folder, depth, seeds, plan, data)
    return {"plan": plan, "depths": depths}
