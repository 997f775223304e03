"""Sequential order, all passes at once: token i in pass p needs token i - 1 in pass p and token i in pass p - 1.

The literal loop visits pass after pass, token after token. With a running mean as prediction nothing else is needed,
so that all (pass, token) pairs with i + p = t are independent: n + passes - 1 steps instead of n * passes, a wavefront,
differentiable and on any device. Where no gradient flows, a compiled sweep over the tokens does the same, faster.
What a layer does to a token comes as two functions, `compare` and `seen` of the Loop that asks, and as the Terms that
these are made of, since compiled code calls no function of Python.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, arange, is_plain_tensor, is_torch, is_vector, machine_epsilon, namespace, to_numpy
from ctrlattn.normalizers import rms_norm, unit_norm
from ctrlattn.predictors import CausalMean

if TYPE_CHECKING:
    from ctrlattn.kernels import Scaling

Compare = Callable[[Array, Array, Array | None], Array]  # (x, y, u) -> x'
MeanInput = Callable[[Array], Array]  # x' -> what the running mean reads of it

# Below this many updated numbers loading the compiled code takes longer than it saves: of one sequence, whose fronts
# are short and many, and of a whole batch, whose fronts are long. Where it is compiled anew, ten seconds longer.
_WORTH_COMPILING = 2**18
_BATCH_WORTH_COMPILING = 2**24


class PassStates(NamedTuple):
    """States from x on, (passes + 1, ..., n, d), and predictions, (passes, ..., n, d); or the last state and None."""

    states: Array
    predictions: Array | None


class Terms(NamedTuple):
    """What x' = normalize(skip x + feedback y + u) is made of; fields as those of `Loop`."""

    skip: Any = 1.0
    feedback: Any = -1.0
    normalizer: Any = None
    normalize_input: bool = False
    hold_first: bool = False


def is_running(predictor: Any, order: str) -> bool:
    """Tell whether a pass needs no more of the earlier tokens than their sum.

    >>> is_running(CausalMean(), "sequential")
    True
    """
    return order == "sequential" and type(predictor) is CausalMean


def run_passes(
    compare: Compare,
    seen: MeanInput,
    terms: Terms,
    x: Array,
    passes: int,
    *,
    control: Array | None = None,
    record: bool = False,
) -> PassStates:
    """Run all passes of a running mean in sequential order, compiled where that is possible and worth it.

    Parameters
    ----------
    compare : callable (x, y, u) -> x'
        What a layer makes of tokens, their predictions and their control, if any.
    seen : callable
        What the running mean reads of a token: the token, or its norm.
    terms : Terms
        What the two functions are made of.
    x : (..., n, d)
    passes : int
        At least 1.
    control : (..., n, d), optional
        u, for a single pass.
    record : bool

    Examples
    --------
    >>> import numpy as np
    >>> run_passes(lambda x, y, u: x - y, lambda x: x, Terms(), np.ones((4, 1)), 2).states.ravel().round(3).tolist()
    [1.0, -1.0, 0.5, 0.333]
    """
    if _is_worth_compiling(x, passes) and is_compilable(terms, x, control):
        return _compiled_sweep(terms, x, passes, control, record)
    return wavefront(compare, seen, x, passes, hold_first=terms.hold_first, control=control, record=record)


def _is_worth_compiling(x: Array, passes: int) -> bool:
    numbers = math.prod(x.shape[-2:]) * passes
    return numbers >= _WORTH_COMPILING or math.prod(x.shape[:-2]) * numbers >= _BATCH_WORTH_COMPILING


def wavefront(
    compare: Compare,
    seen: MeanInput,
    x: Array,
    passes: int,
    *,
    hold_first: bool = False,
    control: Array | None = None,
    record: bool = False,
) -> PassStates:
    """Run all passes of a running mean by fronts of independent (pass, token) pairs; parameters as for `run_passes`.

    Examples
    --------
    >>> import numpy as np
    >>> wavefront(lambda x, y, u: x - y, lambda x: x, np.ones((4, 1)), 2).states.ravel().round(3).tolist()
    [1.0, -1.0, 0.5, 0.333]
    """
    xp, n = namespace(x), x.shape[-2]
    # How many tokens came before each of the tokens n - 1, ..., 1, 0; a mean of none is 0.
    before = xp.clip(n - 1.0 - arange(n, x), 1.0, None)[:, None]
    zero = xp.zeros_like(x[..., :1, :])
    tokens, controls = _tokens(x), None if control is None else _tokens(control)
    sums = outputs = x[..., :0, :]  # a row for each pass at work: the sum of its tokens, and the token it has just done
    fronts, predicted, done = [], [], []
    for t in range(n + passes - 1):
        first, last = max(0, t - n + 1), min(t, passes - 1)  # pass p works on token t - p
        outputs = outputs if t < passes else outputs[..., :-1, :]  # the last pass hands on to nobody
        entering = xp.concatenate([tokens[t], outputs], -2) if t < n else outputs
        sums = xp.concatenate([sums, zero], -2) if t < passes else sums
        sums = sums[..., 1:, :] if t >= n else sums
        y = sums / before[n - 1 - t + first : n - t + last]
        outputs = compare(entering, y, None if controls is None else controls[t])
        if hold_first and t < passes:
            outputs = xp.concatenate([outputs[..., :-1, :], entering[..., -1:, :]], -2)
        sums = sums + seen(outputs)
        if record:
            fronts.append(outputs)
            predicted.append(y)
        elif t >= passes - 1:
            done.append(outputs[..., -1:, :])
    if not record:
        return PassStates(xp.concatenate(done, -2), None)
    states = _by_pass(fronts, n, passes)
    return PassStates(xp.concatenate([x[None], states], 0), _by_pass(predicted, n, passes))


def _tokens(x: Array) -> Sequence[Array]:
    """Split (..., n, d) into n tokens (..., 1, d), at once, since the gradient of each slice would be as large as x."""
    return x.split(1, -2) if is_torch(x) else [x[..., i : i + 1, :] for i in range(x.shape[-2])]


def _by_pass(fronts: list[Array], n: int, passes: int) -> Array:
    """Join fronts t = 0, 1, ... of (..., passes at work, d) to (passes, ..., n, d)."""
    xp = namespace(*fronts)
    sizes = np.array([front.shape[-2] for front in fronts])
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    i, p = np.arange(n)[None, :], np.arange(passes)[:, None]
    # Row of (pass p, token i) among all rows: front i + p begins with pass max(0, i + p - n + 1).
    rows = (starts[i + p] + p - np.maximum(0, i + p - n + 1)).ravel()
    flat = xp.concatenate(fronts, -2)
    picked = flat[..., rows if xp is np else xp.as_tensor(rows, device=flat.device), :]
    move = xp.moveaxis if xp is np else xp.movedim  # which vmap knows
    return move(picked.reshape(*flat.shape[:-2], passes, n, flat.shape[-1]), -3, 0)


def is_compilable(terms: Terms, x: Array, *others: Array | None) -> bool:
    """Tell whether the compiled sweep may stand in: numbers as gains, a norm it knows, main memory, no gradient."""
    if any(is_torch(gain) or is_vector(gain) for gain in (terms.skip, terms.feedback)):
        return False
    if terms.normalizer is not None and scaling_of(terms, x) is None:
        return False
    arrays = [a for a in (x, *others) if a is not None]
    if not is_torch(x):
        return all(type(a) is np.ndarray and a.dtype in (np.float32, np.float64) for a in arrays)
    return all(is_plain_tensor(a) for a in arrays)


def scaling_of(terms: Terms, x: Array) -> "Scaling | None":
    """Return what the compiled sweep must know of the norm; None for a norm that it does not know."""
    from ctrlattn.kernels import Scaling

    scalings = {rms_norm: lambda eps: (1.0 / x.shape[-1], eps), unit_norm: lambda eps: (1.0, eps * eps)}
    norm = terms.normalizer
    options = dict(norm.keywords) if isinstance(norm, partial) and not norm.args else {}
    function = norm.func if isinstance(norm, partial) and not norm.args else norm
    if function not in scalings:
        return None
    weight = options.get("weight")
    if weight is not None and (terms.normalize_input or tuple(weight.shape) != (x.shape[-1],)):
        return None
    if weight is not None and is_torch(weight) and weight.requires_grad:
        return None
    eps = options.get("eps")
    power, floor = scalings[function](machine_epsilon(x) if eps is None else float(eps))
    return Scaling(power, floor, None if weight is None else to_numpy(weight), terms.normalize_input)


def _compiled_sweep(terms: Terms, x: Array, passes: int, control: Array | None, record: bool) -> PassStates:
    from ctrlattn.kernels import sweep

    flat, u = _batch(x), None if control is None else _batch(control)
    states, predictions = sweep(
        flat, np.zeros((len(flat), passes, x.shape[-1])), control=u, **sweep_options(terms, x), record=record
    )
    if predictions is None:
        return PassStates(_unbatch(states, x)[0], None)
    return PassStates(_unbatch(states, x), _unbatch(predictions, x))


def sweep_options(terms: Terms, x: Array) -> dict[str, Any]:
    """Return the gains, the norm and the held token as the compiled sweep takes them."""
    scaling = None if terms.normalizer is None else scaling_of(terms, x)
    return {"skip": terms.skip, "feedback": terms.feedback, "scaling": scaling, "hold_first": terms.hold_first}


def _batch(x: Array) -> np.ndarray:
    """Return (..., n, d) as (batch, n, d) of numpy, without a copy where the memory is in order."""
    return np.ascontiguousarray(to_numpy(x)).reshape(-1, *x.shape[-2:])


def _unbatch(result: np.ndarray, template: Array) -> Array:
    """Return (k, batch, n, d) as (k, ..., n, d) of the kind of `template`; the memory is shared."""
    shaped = result.reshape(len(result), *template.shape)
    return namespace(template).from_numpy(shaped) if is_torch(template) else shaped
