"""signal of a layer -> rank correlation with what layers and sets of layers cost, all of them or without some."""

import numpy as np

from stage.statistics import spearman


def foretold(signals, alone, sets, draws):
    """{signal: {"alone": Spearman with the cost of each layer, "sets": of its sum with the cost of a random set}}."""
    single = [np.mean(alone[str(i)]["values"]) for i in range(len(alone))]
    joint = [np.mean(result["values"]) for result in sets]

    def both(signal):  # a set is foretold by the sum over its layers
        sums = [sum(signal[i] for i in result["layers"]) for result in sets]
        return {"alone": spearman(signal, single, draws), "sets": spearman(sums, joint, draws)}

    signals = {**signals, "cost alone": single}
    return {name: both(np.asarray(signal).tolist()) for name, signal in signals.items()}


def foretold_without(control, layers):
    """`foretold` of a stored control without these layers and the sets that hold one of them."""
    cheap = [i for i in range(len(control["alone"])) if i not in layers]
    sets = [{**r, "layers": [cheap.index(i) for i in r["layers"]]} for r in sets_without(control, layers)]
    signals = {name: [signal[i] for i in cheap] for name, signal in control["signals"].items()}
    alone = {str(k): control["alone"][str(i)] for k, i in enumerate(cheap)}
    return foretold(signals, alone, sets, control["settings"]["draws"])


def sets_without(control, layers):
    """The random sets of a stored control that hold none of these layers."""
    at_random = [result for name, result in control["sets"].items() if name.startswith("random")]
    return [result for result in at_random if not set(layers) & set(result["layers"])]
