"""Every published way to run a looped network as (F, C, recall), by name and with its source."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ctrlattn.arrays import Array, like, namespace, require_number, require_positive, require_real
from ctrlattn.controllers import PID, LTIController
from ctrlattn.errors import InputError, InputTypeError, require_known, require_whole
from ctrlattn.loop import Trajectory
from ctrlattn.looped.anderson import anderson
from ctrlattn.looped.iterate import iterate
from ctrlattn.looped.pass_map import PassMap, as_pass_map
from ctrlattn.passes import Passes

Discretisation = Literal["euler", "exact"]
_NORMAL = 1e-300  # rates above it are divided by


@dataclass(frozen=True, eq=False)
class Way:
    """One way to run a looped network.

    `pass_map` of h_0 is F, which may have the input in it; `passes` is the controller and the recall. A way that is
    no controller (Anderson) has `passes` None.
    """

    name: str
    summary: str
    source: str
    pass_map: Callable[[Array], PassMap]  # of h_0
    passes: Passes | None
    start: Callable[[Array], Array]  # the state before pass 0, from h_0
    solver: Callable[..., Trajectory] | None = None

    def run(self, h: Array, passes: int) -> Trajectory:
        """Run the passes from h_0 on, and return what `iterate` does.

        >>> import numpy as np
        >>> way("damped", lambda h: 0 * h, substeps=2).run(np.ones(1), 2).state.ravel().tolist()
        [1.0, 0.5, 0.25]
        """
        f, start = self.pass_map(h), self.start(h)
        if self.solver is not None:
            return self.solver(f, start, passes)
        assert self.passes is not None
        return iterate(f, start, passes, self.passes.controller, self.passes.recall)


class _Published(NamedTuple):
    make: Callable[..., dict[str, Any]]
    summary: str
    source: str


def way(name: str, *maps: Any, **options: Any) -> Way:
    """Return a published way to run a looped network.

    Parameters
    ----------
    name : one of `ways()`
    *maps
        What the way iterates: F, as `as_pass_map` takes it. "parcae" takes the residual R(h, e); "hrm" takes the low
        and the high map.
    **options
        naive: none. damped: substeps (K). relaxed: gain. recall: recall, gain. momentum: gain, momentum.
        parcae, parcae-exact: decay (a), step (dt), into (b). hrm: low_steps. anderson: memory.

    Returns
    -------
    Way

    Raises
    ------
    InputError
        An unknown name or option, or an option out of range.

    Examples
    --------
    >>> import numpy as np
    >>> run = way("momentum", lambda h: 0.5 * h, gain=1.0, momentum=0.2).run(np.ones(1), 2)
    >>> run.state.ravel().round(6).tolist()  # .5, then .5 - .25 - .2 .5
    [1.0, 0.5, 0.15]
    """
    published = _WAYS[require_known("way", name, _WAYS)]
    _require_arguments(name, published.make, maps, options)
    pieces: dict[str, Any] = {"passes": Passes(), "start": lambda h: h, **published.make(*maps, **options)}
    return Way(name, published.summary, published.source, **pieces)


def ways() -> dict[str, str]:
    """Return the names that `way` knows, each with its source.

    >>> ways()["recall"].startswith("Bansal")
    True
    """
    return {name: published.source for name, published in _WAYS.items()}


def _naive(f: Any) -> dict[str, Any]:
    return {"pass_map": _map_without_input(f)}


def _damped_way(f: Any, *, substeps: int = 4) -> dict[str, Any]:
    return {"pass_map": _map_without_input(f), "passes": Passes(PID(1 / require_whole("substeps", substeps)))}


def _relaxed_way(f: Any, *, gain: float = 0.5) -> dict[str, Any]:
    return {"pass_map": _map_without_input(f), "passes": Passes(PID(require_positive("gain", gain)))}


def _recall(f: Any, *, recall: float = 1.0, gain: float | None = None) -> dict[str, Any]:
    """The gain 1/(1 + recall) makes h' = (F(h) + recall h_0)/(1 + recall)."""
    loop = Passes(recall=recall)
    gain = 1 / (1 + loop.recall) if gain is None else require_positive("gain", gain)
    return {"pass_map": _map_without_input(f), "passes": Passes(PID(gain), recall=recall)}


def _momentum(f: Any, *, gain: float = 0.5, momentum: float = 0.5) -> dict[str, Any]:
    """h' = h + g e + mu (h - h_before), which is C(z) = g z/(z - mu)."""
    import control

    gain, momentum = require_positive("gain", gain), require_number("momentum", momentum)
    if not -1 < momentum < 1:
        raise InputError(f"momentum must lie in (-1, 1), got {momentum}")
    return {
        "pass_map": _map_without_input(f),
        "passes": Passes(LTIController(control.tf([gain, 0], [1, -momentum], 1))),
    }


def _parcae(residual: Any, *, decay: Any = 0.0, step: Any = 1.0, into: Any = 1.0) -> dict[str, Any]:
    return {"pass_map": _injection(residual, decay, step, into, "euler")}


def _parcae_exact(residual: Any, *, decay: Any = 0.0, step: Any = 1.0, into: Any = 1.0) -> dict[str, Any]:
    return {"pass_map": _injection(residual, decay, step, into, "exact")}


def _hrm(low: Any, high: Any, *, low_steps: int = 3) -> dict[str, Any]:
    """Stack the state (z_H, z_L); a pass is z_L <- L(z_L + z_H), low_steps times, then z_H <- H(z_H + z_L)."""
    low, high, steps = as_pass_map(low), as_pass_map(high), require_whole("low_steps", low_steps)

    def cycle(z: Array) -> Array:
        slow, fast = z[0], z[1]
        for _ in range(steps):
            fast = low(fast + slow)
        return namespace(z).stack([high(slow + fast), fast])

    return {"pass_map": lambda h: cycle, "start": lambda h: namespace(h).stack([h, 0 * h])}


def _anderson(f: Any, *, memory: int = 5) -> dict[str, Any]:
    memory = require_whole("memory", memory)
    return {
        "pass_map": _map_without_input(f),
        "passes": None,
        "solver": lambda f, h, passes: anderson(f, h, passes, memory=memory),
    }


_WAYS = {
    "naive": _Published(
        _naive, "h' = F(h): the layers again, C = 1", "Zhu et al., Ouro, arXiv 2510.25741; Dehghani et al., 1807.03819"
    ),
    "damped": _Published(_damped_way, "K sub-steps of 1/K: C = 1/K", "training-free loops, arXiv 2605.23872"),
    "relaxed": _Published(
        _relaxed_way,
        "h' = h + g (F(h) - h), run until it rests: C = g",
        "fixed-point reasoners, arXiv 2606.18206; deep equilibrium networks, Bai et al., arXiv 1909.01377",
    ),
    "recall": _Published(
        _recall,
        "the first state is called back: e = F(h) - h + k_r (h_0 - h)",
        "Bansal et al., arXiv 2202.05826, input at every pass; of fixed points, arXiv 2604.15259; Huginn, 2502.05171",
    ),
    "momentum": _Published(
        _momentum,
        "heavy ball over passes: C(z) = g z/(z - mu)",
        "Polyak, USSR Comput. Math. Math. Phys. 4(5) (1964) 1; in residual networks, Sander et al., arXiv 2102.07870",
    ),
    "parcae": _Published(
        _parcae,
        "h' = A h + B h_0 + R(h, h_0), A = exp(-dt exp(a)), B = dt b (Euler)",
        "Prairie et al., Parcae, arXiv 2604.12946",
    ),
    "parcae-exact": _Published(
        _parcae_exact,
        "the same with the exact hold of the input, B = (1 - A) exp(-a) b",
        "zero-order hold of the equation of arXiv 2604.12946; Franklin, Powell, Workman 1998, section 4.3",
    ),
    "hrm": _Published(
        _hrm,
        "two time scales: z_L <- L(z_L + z_H) some times, then z_H <- H(z_H + z_L)",
        "Wang et al., Hierarchical Reasoning Model, arXiv 2506.21734; the code of hrm_text in transformers",
    ),
    "anderson": _Published(
        _anderson, "Anderson's acceleration: the reference solver, no controller", "Anderson, J. ACM 12 (1965) 547"
    ),
}


def _map_without_input(f: Any) -> Callable[[Array], PassMap]:
    step = as_pass_map(f)
    return lambda h: step


def held_input(decay: Any, step: Any, into: Any, discretisation: Discretisation = "exact") -> tuple[Any, Any]:
    """Return (A, B) of h' = A h + B e for the flow dh/dt = -exp(a) h + b e over a step dt, feature by feature.

    Parameters
    ----------
    decay : number or (d,)
        a; any number gives 0 < A < 1.
    step : number or (d,)
        dt, positive.
    into : number, (d,), or (d, d) acting as e @ b
        b.
    discretisation : "exact" or "euler"
        It concerns B alone: (1 - A)/exp(a) b, or dt b. A is exact in both.

    Returns
    -------
    (A, B) : numpy, A of the shape of decay and step, B of that of into and A

    Raises
    ------
    InputError
        A step that is not positive, an unknown discretisation, values that are not finite.

    References
    ----------
    Prairie et al., Parcae, arXiv 2604.12946; Franklin, Powell, Workman, Digital Control of Dynamic Systems, 1998,
    section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> [float(x.round(6)) for x in held_input(0.0, np.log(2), 1.0)]  # dh/dt = -h + e
    [0.5, 0.5]
    """
    if discretisation not in get_args(Discretisation):
        raise InputError(f'discretisation must be "exact" or "euler", got {discretisation!r}')
    a, dt, b = (require_real(name, value) for name, value in (("decay", decay), ("step", step), ("into", into)))
    if not (np.all(np.isfinite(a)) and np.all(np.isfinite(b)) and np.all(np.isfinite(dt)) and np.all(dt > 0)):
        raise InputError("decay and into must be finite and step positive and finite")
    with np.errstate(over="ignore"):
        return hold(np, a, dt, b, discretisation)


def hold(xp: Any, decay: Any, step: Any, into: Any, discretisation: Discretisation) -> tuple[Any, Any]:
    """Return (A, B) of `held_input` on arrays of xp, numpy or torch, without checks; torch differentiates them.

    >>> [float(x.round(6)) for x in hold(np, np.array(0.0), np.log(2), 1.0, "euler")]
    [0.5, 0.693147]
    """
    rate = xp.exp(decay)
    a = xp.exp(-step * rate)
    if discretisation == "euler":
        return a, step * into
    # Below the smallest normal rate the hold is the Euler step to the last digit.
    normal = rate > _NORMAL
    input_weight = xp.where(normal, -xp.expm1(-step * rate) / xp.where(normal, rate, 1.0), step)
    return a, input_weight * into


def _injection(residual: Any, decay: Any, step: Any, into: Any, discretisation: Discretisation) -> Any:
    """Return h_0 -> (h -> A h + B h_0 + R(h, h_0))."""
    if not callable(residual) or isinstance(residual, type):
        raise InputTypeError(f"parcae takes the residual R(h, e) as a function, got {type(residual).__name__}")
    transition, write = held_input(decay, step, into, discretisation)

    def of_input(e: Array) -> PassMap:
        a, b = like(transition, e), like(write, e)
        wide = tuple(e.shape)[-1:]
        if tuple(a.shape) not in ((), wide) or tuple(b.shape) not in ((), wide, wide * 2):
            raise InputError(
                f"decay, step and into must be numbers or fit features of {wide}: A has the shape {tuple(a.shape)}, B "
                f"{tuple(b.shape)}"
            )
        input_term = e @ b if b.ndim == 2 else b * e
        return as_pass_map(lambda h: a * h + input_term + residual(h, e))

    return of_input


def _require_arguments(name: str, make: Callable[..., Any], maps: tuple[Any, ...], options: dict[str, Any]) -> None:
    parameters = signature(make).parameters.values()
    map_names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    option_names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if len(maps) != len(map_names):
        raise InputError(f"the way {name!r} takes {len(map_names)} maps ({', '.join(map_names)}), got {len(maps)}")
    for option in options:
        if option not in option_names:
            raise InputError(f"the way {name!r} has no option {option!r}: it has {', '.join(option_names) or 'none'}")
