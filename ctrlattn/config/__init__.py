"""Loop <-> TOML, exactly: one typed description of a loop and of the simulation that it is for.

    [loop]
    preset = "pidformer-ema"          # optional; what else is given here replaces the preset's
    skip = 0.0
    feedback = 1.0
    reference_gain = 0.1
    order = "parallel"                # or "sequential"
    normalizer = "rms_norm"           # "none", a name, or {kind = "rms_norm", eps = 1e-6, weight = [...]}
    predictor = {kind = "softmax_attention", heads = 4, causal = false}
    controller = {kind = "pid", kp = 0.8, ki = 0.5, kd = 0.05, form = "ema", ema = 0.3}   # or "none"

    [simulation]
    layers = 20
    tokens = 12
    features = 16
    seed = 0

An array is a nested list (float64) or {dtype = "float32", data = [...]}. `schema` says what a file may hold, `reading`
and `writing` lead from it and to it, `explanation` comments its keys, `faults` puts into words what is wrong with it.
"""

from ctrlattn.config.explanation import explained
from ctrlattn.config.reading import Configuration, from_table, load, loads
from ctrlattn.config.schema import Simulation, kinds
from ctrlattn.config.writing import dumps, loop_to_dict

__all__ = ["Configuration", "Simulation", "dumps", "explained", "from_table", "kinds", "load", "loads", "loop_to_dict"]
