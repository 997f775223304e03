"""A configuration that explains itself: the TOML of `writing` with a comment behind each key, and other choices."""

from typing import Any

from ctrlattn.config.schema import AnyController, AnyNormalizer, AnyPredictor, Simulation, members
from ctrlattn.config.writing import dumps
from ctrlattn.loop import Loop

_UNIONS = {"predictor": AnyPredictor, "controller": AnyController, "normalizer": AnyNormalizer}

# What each key means; a test holds that none of the schema is missing.
WORDS = {
    "skip": "gain of the residual connection: a number, or one for each feature",
    "feedback": "gain of the prediction: -1 subtracts it, +1 adds it as a transformer does",
    "reference_gain": "beta: the reference is beta times the first state",
    "order": '"parallel": all tokens at once; "sequential": each token sees the updated ones before it',
    "normalize_input": "true: the predictor reads the normalised state (pre-norm)",
    "hold_first": "true: token 0 never changes, like a BOS token",
    "preset": "start from a preset of `ctrlattn list`; what else is given replaces its values",
    "predictor": "attention, or what stands for it",
    "controller": 'what acts on the error: a table, or "none"',
    "normalizer": 'the norm of each state: a table, a name, or "none"',
    "kind": "which one",
    "matrix": "(n, n) attention matrix, rows sum to 1",
    "wq": "query weights (d, heads * k); the identity where left out",
    "wk": "key weights (d, heads * k)",
    "wv": "value weights (d, heads * v)",
    "wo": "output weights (heads * v, d)",
    "heads": "heads, at least 1",
    "causal": "true: a token sees itself and those before it",
    "strict": "true: a token does not see itself",
    "temperature": "the scores are divided by it; sqrt of the head's width where left out",
    "keys": "(m, d) stored keys",
    "values": "(m, d) stored values",
    "sink": "score of a key with value 0",
    "bandwidth": "width of the kernel in the space of features",
    "radius": "largest distance of positions that see each other",
    "spatial_bandwidth": "width of the kernel in the space of positions",
    "grid": "(rows, columns): the tokens are the pixels of an image",
    "kp": "P: acts on the error",
    "ki": "I: acts on the sum of the errors over layers",
    "kd": "D: acts on the change of the error from layer to layer",
    "form": '"printed": the law of the paper; "ema": the law of the code in circulation, whose integral leaks',
    "ema": 'share of the newest error in the integral, 0 < ema <= 1; for form = "ema"',
    "A": "(o, o) state matrix, dt = 1 layer",
    "B": "(o, 1)",
    "C": "(1, o)",
    "D": "(1, 1)",
    "weight": "(d,) learned scale of the norm",
    "bias": "(d,) learned shift of the norm",
    "eps": "added under the square root",
    "layers": "how many layers the signal passes",
    "tokens": "tokens of the seeded Gaussian signal",
    "features": "its features",
    "seed": "its seed",
}


def explained(loop: Loop, simulation: Simulation | None = None) -> str:
    """Return the TOML of a loop with a comment behind each key; `loads` reads it as it reads `dumps`.

    Raises
    ------
    InputError
        As `dumps`.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> print(explained(presets.get("neutreno")).splitlines()[3])
    skip = 0.0                  # gain of the residual connection: a number, or one for each feature
    """
    lines = ["# A loop over depth: x' = N(skip x + feedback P(x) + u), u = C(z)(beta x_0 - x).", ""]
    for line in dumps(loop, simulation or Simulation()).splitlines():
        key, is_value, _ = line.partition(" = ")
        lines.append(f"{line:<27} # {WORDS[key]}" if is_value else line)
        if line.startswith("[loop."):
            lines += [f"# {choice}" for choice in _choices(line[6:-1])]
    return "\n".join(lines) + "\n"


def _choices(part: str) -> list[str]:
    """Return every kind of a part with its keys."""
    union: Any = _UNIONS[part]
    offered = [(model.kind_name(), model.options()) for model in members(union)]
    return [f'kind = "{name}"' + (f": {', '.join(keys)}" if keys else "") for name, keys in offered]
