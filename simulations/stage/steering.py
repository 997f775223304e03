"""u_l = r_{l+1} - a_l r_l - w_l + C(z)(r - c): a feature of a real network, led to a set-point over depth.

This module measures for the scene `11_steering.py` how far every law misses the set-point, when the output settles, and
how much the loss of the network grows.
"""

import math
import sys

import numpy as np
import torch

from ctrlattn import checkpoints
from ctrlattn.design import InfeasibleError, Spec, tune
from ctrlattn.files import atomic
from ctrlattn.loop import Loop
from ctrlattn.observers import measures
from ctrlattn.observers.steering import Law, calibrate, feedforward, identify, respond
from ctrlattn.observers.study import observed
from ctrlattn.predictors import FixedAttention
from stage.statistics import interval
from stage.verdict import signed

FULL = {
    "layer": 12, "features": 1024, "k": 16, "blocks": 4, "block": 8192, "context": 128, "windows": 8, "steered": 2,
}  # fmt: skip

SMALL = {"layer": 1, "features": 48, "k": 4, "blocks": 3, "block": 400, "context": 16, "windows": 3, "steered": 2}

SPEC = Spec(settling=14, overshoot=0.25, steady_state_error=0.02)

TERMS = ("P", "PI", "PID")

RAISE = 2.0  # spreads above the mean of the last layer

LATE = 6  # layers that a late law has

DRAWN = ("push", "PI, at once", "PI, path", "led, path", "PI led, path", "P led, late path")

HEAD = (
    "law", "from layer", "mean misses", "tokens miss", "overshoot", "settled", "loss, nats", "loss above the push's",
)  # fmt: skip


def laws_for(plant):
    """P, PI and PID by `tune` for the layers that were measured; what no gains meet is told."""
    loop, laws = Loop(FixedAttention(np.zeros((1, 1))), skip=1.0, feedback=1.0), {}
    for terms in TERMS:
        settling = min(SPEC.settling, len(plant.alpha))
        steady_state = None if terms == "P" else SPEC.steady_state_error
        spec = Spec(settling=settling, overshoot=SPEC.overshoot, steady_state_error=steady_state)
        try:
            laws[terms] = tune(loop, plant.alpha - 1.0, spec, terms=terms, curve=False).controller
        except InfeasibleError as error:
            laws[terms] = str(error)
    return laws


def path_of(plant):
    """From the mean to `RAISE` spreads above it, in equal steps of each depth's spread: it grows with the stream."""
    return plant.output + RAISE * plant.spread * np.linspace(0, 1, len(plant.output))


def early(plant, laws, push):
    """What is done from the first layer on: (laws led to the end at once, laws led along the path)."""
    led, first = feedforward(plant, path_of(plant)), np.eye(len(plant.alpha))[0]
    at_once = {"push once": push(first), "push": push(1.0)}
    at_once |= {f"{terms}, at once": Law(controller) for terms, controller in laws.items()}
    along = {"PI, path": Law(laws["PI"])} if "PI" in laws else {}
    along |= {"led, path": Law(push=led)}
    return at_once, along | {f"{terms} led, path": Law(controller, push=led) for terms, controller in laws.items()}


def late(plant, laws, push):
    """What is done in the last layers alone, as `early`."""
    led = feedforward(plant, path_of(plant))
    along = {"led, late path": Law(push=led)}
    along |= {
        f"{terms} led, late path": Law(controller, push=led) for terms, controller in laws.items() if terms != "PID"
    }
    return {"push, late": push(1.0)}, along


def steer(checkpoint, name, direction, start, windows, calibration):
    """One direction under every law; the set-point is two spreads above its mean at the end."""
    result = {"direction": name, "start": start, "laws": {}, "refused": {}}
    begins = {max(start, len(checkpoint.layers) - LATE): late} | {start: early}
    for begin, make in sorted(begins.items()):
        plant = identify(checkpoint, direction, calibration, start=begin)
        path, tuned = path_of(plant), laws_for(plant)
        end = float(path[-1])
        result["refused"] |= {
            f"{terms} from {begin}": reason for terms, reason in tuned.items() if isinstance(reason, str)
        }

        def pushed(shape, begin=begin, end=end):
            return calibrate(checkpoint, direction, end, calibration, start=begin, shape=shape)

        usable = {terms: controller for terms, controller in tuned.items() if not isinstance(controller, str)}
        for setpoint, laws in zip((end, path), make(plant, usable, pushed), strict=True):
            runs = respond(checkpoint, direction, laws, setpoint, windows, start=begin)
            result["laws"] |= {law: _figures(run, laws[law], begin) for law, run in runs.items()}
        if begin == start:
            facts = {"alpha": plant.alpha, "output": plant.output, "spread": plant.spread, "path": path}
            result |= {"plant": {key: value.tolist() for key, value in facts.items()}, "setpoint": end}
        print(f"{name}: steered from layer {begin}", file=sys.stderr)
    return result


def _figures(run, law, start):
    """A response as JSON takes it, with the law that made it."""
    gains = {} if law.controller is None else {g: getattr(law.controller, g) for g in ("kp", "ki", "kd")}
    figures = {key: np.asarray(value).tolist() for key, value in run._asdict().items()}
    return {**figures, "start": start, "push": np.asarray(law.push).tolist(), **gains}


def steering(checkpoint, dictionary, stream, size):
    """Features drawn at random among those that are neither rare nor everywhere."""
    held_windows = stream.held_out(2 * size["windows"])
    calibration, windows = held_windows[::2], held_windows[1::2]  # in turn, so that both come from the same scenes
    frequency = measures.quality(dictionary, observed(stream, held_windows, "state").flatten(0, 1)).frequency
    rng = np.random.default_rng(0)
    features = rng.permutation(np.flatnonzero((frequency > 0.005) & (frequency < 0.05)))[: size["steered"]]
    return [
        steer(checkpoint, f"feature {i}", dictionary.decoder[i].numpy(), stream.layer, windows, calibration)
        for i in features
    ]


def table(results):
    """Law by law over the directions: (head, rows of words)."""
    rows = []
    for law in _laws(results):
        runs = [result["laws"][law] for result in results if law in result["laws"]]
        settled = [float(run["settling"]) for run in runs]
        settlings = [layers for layers in settled if math.isfinite(layers)]
        settling_words = f", after {np.median(settlings):g} layers" if settlings else ""
        rows.append(
            (
                law, str(runs[0]["start"]),
                _mean_and_worst([abs(run["error"]) for run in runs]), f"{np.mean([run['miss'] for run in runs]):.0%}",
                f"{max(run['overshoot'] for run in runs):.0%}", f"{len(settlings)} of {len(runs)}{settling_words}",
                f"{np.mean([run['loss'] for run in runs]):+.3f}", _above(results, law),
            )
        )  # fmt: skip
    return HEAD, rows


def _laws(results):
    return list(dict.fromkeys(law for result in results for law in result["laws"]))


def _mean_and_worst(values):
    return f"{np.mean(values):.1%} (worst {max(values):.0%})"


def _above(results, law):
    """Loss of a law less that of the push, window by window, mean of the directions: mean and 95 % interval."""
    return "" if law == "push" else signed(above(results)[law])


def above(results):
    """{law: loss less that of the push, over windows, each the mean of the directions}, with its interval."""
    rows = {}
    for law in _laws(results):
        both = [result["laws"] for result in results if law in result["laws"]]
        gaps = [np.subtract(laws[law]["losses"], laws["push"]["losses"]) for laws in both]
        rows[law] = interval(np.mean(gaps, axis=0))
    return rows


def tiny_network(folder):
    """A random decoder that reads words, and a random text for it."""
    import tokenizers
    import transformers

    vocabulary = {f"w{i}": i for i in range(40)} | {"?": 40}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    config = transformers.LlamaConfig(
        vocab_size=41, hidden_size=32, num_hidden_layers=10, num_attention_heads=2, intermediate_size=48
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    rows = np.random.default_rng(0).integers(40, size=(300, 20))
    path = folder / "steering_text.txt"
    with atomic(path) as temporary:
        temporary.write_text("\n".join(" ".join(f"w{i}" for i in row) for row in rows) + "\n", encoding="utf-8")
    return checkpoints.load(model, tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=words)), path
