"""u_l = r_{l+1} - a_l r_l - w_l + C(z)(r - c): scene 11's closed loop, a feature led to a set-point by many laws.

The laws are those of `ctrlattn.observers.steering`; here they are chosen, run on the same windows, put beside
each other in a table, and drawn.
"""

import math
import sys

import numpy as np

from ctrlattn.design import Spec, tune
from ctrlattn.loop import Loop
from ctrlattn.nn.statistics import paired as paired_test
from ctrlattn.observers import measures
from ctrlattn.observers.steering import Law, calibrate, feedforward, identify, respond
from ctrlattn.observers.study import observed
from ctrlattn.plots.style import GREY, styles
from ctrlattn.predictors import FixedAttention

SPEC = Spec(settling=14, overshoot=0.25, steady_state_error=0.02)
TERMS = ("P", "PI", "PID")
RAISE = 2.0  # spreads above the mean of the last layer
LATE = 6  # layers that a late law has
DRAWN = ("push", "PI, at once", "PI, path", "led, path", "PI led, path", "PI led, late path")
HEAD = (
    "law", "from layer", "mean misses", "tokens miss", "overshoot", "settled", "loss, nats", "loss above the push's",
)  # fmt: skip


def laws_for(plant):
    """P, PI and PID by `tune` for the layers that were measured; what no gains meet is told."""
    loop, found = Loop(FixedAttention(np.zeros((1, 1))), skip=1.0, feedback=1.0), {}
    for terms in TERMS:
        settling = min(SPEC.settling, len(plant.alpha))
        rest = None if terms == "P" else SPEC.steady_state_error
        spec = Spec(settling=settling, overshoot=SPEC.overshoot, steady_state_error=rest)
        try:
            found[terms] = tune(loop, plant.alpha - 1.0, spec, terms=terms, curve=False).controller
        except ValueError as error:
            found[terms] = str(error)
    return found


def path_of(plant):
    """From the mean to `RAISE` spreads above it, in equal steps of each depth's spread: it grows with the stream."""
    return plant.output + RAISE * plant.spread * np.linspace(0, 1, len(plant.output))


def early(plant, laws, pushed):
    """What is done from the first layer on: (laws led to the end at once, laws led along the path)."""
    led, first = feedforward(plant, path_of(plant)), np.eye(len(plant.alpha))[0]
    at_once = {"push once": pushed(first), "push": pushed(1.0)}
    at_once |= {f"{terms}, at once": Law(one) for terms, one in laws.items()}
    along = {"PI, path": Law(laws["PI"])} if "PI" in laws else {}
    along |= {"led, path": Law(push=led)}
    return at_once, along | {f"{terms} led, path": Law(one, push=led) for terms, one in laws.items()}


def late(plant, laws, pushed):
    """What is done in the last layers alone, as `early`."""
    led = feedforward(plant, path_of(plant))
    along = {"led, late path": Law(push=led)}
    along |= {f"{terms} led, late path": Law(one, push=led) for terms, one in laws.items() if terms != "PID"}
    return {"push, late": pushed(1.0)}, along


def steer(checkpoint, name, direction, start, windows, calibration):
    """One direction under every law; the set-point is two spreads above its mean at the end."""
    found = {"direction": name, "start": start, "laws": {}, "refused": {}}
    begins = {max(start, len(checkpoint.layers) - LATE): late} | {start: early}
    for begin, make in sorted(begins.items()):
        plant = identify(checkpoint, direction, calibration, start=begin)
        path, tuned = path_of(plant), laws_for(plant)
        end = float(path[-1])
        found["refused"] |= {f"{terms} from {begin}": one for terms, one in tuned.items() if isinstance(one, str)}

        def pushed(shape, begin=begin, end=end):
            return calibrate(checkpoint, direction, end, calibration, start=begin, shape=shape)

        usable = {terms: one for terms, one in tuned.items() if not isinstance(one, str)}
        for setpoint, laws in zip((end, path), make(plant, usable, pushed), strict=True):
            runs = respond(checkpoint, direction, laws, setpoint, windows, start=begin)
            found["laws"] |= {law: _figures(run, laws[law], begin) for law, run in runs.items()}
        if begin == start:
            facts = {"alpha": plant.alpha, "output": plant.output, "spread": plant.spread, "path": path}
            found |= {"plant": {key: value.tolist() for key, value in facts.items()}, "setpoint": end}
        print(f"{name}: steered from layer {begin}", file=sys.stderr)
    return found


def _figures(run, law, start):
    """A response as JSON takes it, with the law that made it."""
    gains = {} if law.controller is None else {g: getattr(law.controller, g) for g in ("kp", "ki", "kd")}
    figures = {key: np.asarray(value).tolist() for key, value in run._asdict().items()}
    return {**figures, "start": start, "push": np.asarray(law.push).tolist(), **gains}


def steering(checkpoint, dictionary, stream, plan):
    """Features drawn at random among those that are neither rare nor everywhere, and a random direction beside them."""
    held = stream.held_out(plan["windows"] + plan["calibration"])
    calibration, windows = held[: plan["calibration"]], held[plan["calibration"] :]
    frequency = measures.quality(dictionary, observed(stream, held, "state").flatten(0, 1)).frequency
    rng = np.random.default_rng(0)
    chosen = rng.permutation(np.flatnonzero((frequency > 0.005) & (frequency < 0.05)))[: plan["features"]]
    directions = {f"feature {i}": dictionary.decoder[i].numpy() for i in chosen}
    directions["random direction"] = rng.standard_normal(checkpoint.width)
    return [steer(checkpoint, name, f, stream.layer, windows, calibration) for name, f in directions.items()]


def table(found):
    """Law by law over the directions: (head, rows of words); empty where nothing was steered."""
    rows = []
    for law in _laws(found):
        runs = [one["laws"][law] for one in found if law in one["laws"]]
        settled = [float(run["settling"]) for run in runs]
        there = [layers for layers in settled if math.isfinite(layers)]
        after = f", after {np.median(there):g} layers" if there else ""
        rows.append(
            (
                law, str(runs[0]["start"]),
                _mean_and_worst([abs(run["error"]) for run in runs]), f"{np.mean([run['miss'] for run in runs]):.0%}",
                f"{max(run['overshoot'] for run in runs):.0%}", f"{len(there)} of {len(runs)}{after}",
                f"{np.mean([run['loss'] for run in runs]):+.3f}", _above(found, law),
            )
        )  # fmt: skip
    return HEAD, rows


def _laws(found):
    if not found:
        return []
    return sorted({law for one in found for law in one["laws"]}, key=list(found[0]["laws"]).index)


def _mean_and_worst(values):
    return f"{np.mean(values):.1%} (worst {max(values):.0%})"


def _above(found, law):
    """Loss of a law less that of the push on the same windows: mean and 95 % interval over directions."""
    gaps = [
        float(np.mean(np.subtract(one["laws"][law]["losses"], one["laws"]["push"]["losses"])))
        for one in found
        if law in one["laws"]
    ]
    if law == "push" or len(gaps) < 2:
        return ""
    test = paired_test(gaps)
    return f"{test.mean:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"


def lines(found):
    """The laws that tell most, in lines."""
    if not found:
        return []
    head, rows = table(found)
    return [
        f"{row[0]}: " + ", ".join(f"{name} {told}" for name, told in zip(head[1:], row[1:], strict=True) if told)
        for row in rows
        if row[0] in DRAWN
    ]


def draw_output(ax, one):
    """A direction over depth under the laws that tell most."""
    looks = styles(DRAWN)
    plant = one["plant"]
    for law in (law for law in DRAWN if law in one["laws"]):
        run = one["laws"][law]
        ax.plot(np.arange(len(run["output"])) + run["start"], run["output"], **looks[law])
    depths = np.arange(len(plant["output"])) + one["start"]
    ax.plot(depths, plant["output"], color="black", linewidth=1.0, label="unsteered (calibration text)")
    ax.plot(depths, plant["path"], color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label="path")
    ax.axhline(one["setpoint"], color=GREY, linewidth=0.8)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Depth (layers)", ylabel="Output f·x, mean over tokens (units of the stream)")
    ax.set_title(f"{one['direction']}; laws as on the right")
    ax.legend(loc="best")


def draw_price(ax, found):
    """What the tokens miss against what it costs, every direction."""
    looks = styles(DRAWN)
    for law in (law for law in DRAWN if any(law in one["laws"] for one in found)):
        runs = [one["laws"][law] for one in found if law in one["laws"]]
        ax.errorbar(
            [100 * run["miss"] for run in runs], [run["loss"] for run in runs], color=looks[law]["color"],
            marker=looks[law]["marker"], linestyle="none", yerr=[run["loss_error"] for run in runs], label=law,
        )  # fmt: skip
    ax.set_yscale("symlog", linthresh=0.1)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(
        xlabel="Tokens miss at the end (rms, % of the way)", ylabel="Loss above the unsteered (nats a token, symlog)"
    )
    ax.set_title("Every direction; bars: standard error over windows")
    ax.legend(loc="best")


def draw_plant(ax, found):
    """How much of a small push survives each layer."""
    looks = styles([one["direction"] for one in found])
    for one in found:
        alpha = one["plant"]["alpha"]
        ax.plot(np.arange(len(alpha)) + one["start"], alpha, **looks[one["direction"]], label=one["direction"])
    ax.axhline(1, color=GREY, linewidth=1.0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Layer", ylabel="Share of a small push that survives the layer")
    ax.legend(loc="best")
