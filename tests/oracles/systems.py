"""G(z) and G(s) of stated kinds, each a function of (kind, order, form, seed): the random systems that all tests share.

Generators take a seed and nothing else that is random, so that a case of the campaign, a row of a table and an example
of hypothesis are named in the same way. The strategies at the end let hypothesis choose the name and shrink it.

A pole that a kind puts on the boundary stands in `MARGINAL`: norms of such a system are infinite or refused.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import control
import numpy as np
from hypothesis import strategies as st
from scipy.linalg import block_diag

FORMS = ("tf", "modal", "triangular", "dense")
SCALES = (1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)
STEPS = tuple(10.0 ** (-k / 2) for k in range(9))  # four decades of sampling times, in units of a plant's fastest pole

# Twelve named plants P(s) = num/den with the sign and the size that a textbook closes a loop around.
PLANTS: dict[str, tuple[list[float], list[float]]] = {
    "lag": ([2.0], [1.0, 1.0]),
    "integrator": ([1.0], [1.0, 0.0]),
    "motor": ([1.0], [1.0, 1.0, 0.0]),
    "third order": ([2.0], [1.0, 3.0, 2.0, 0.0]),
    "python-control's test": ([25.0], [1.0, 10.0, 10.0, 10.0]),
    "four equal lags": ([1.0], [1.0, 4.0, 6.0, 4.0, 1.0]),
    "resonance": ([1.0], [1.0, 0.1, 1.0]),
    "two resonances": ([1.0, 0.1, 2.0], [1.0, 0.3, 5.02, 0.5, 4.0]),
    "non-minimum phase": ([-0.5, 1.0], [1.0, 2.0, 1.0]),
    "unstable": ([3.0], [1.0, -1.0]),
    "double integrator with lead": ([2.0, 1.0], [0.1, 1.0, 0.0, 0.0]),
    "six lags over two decades": ([1.0], np.poly([-0.1, -0.3, -1.0, -2.0, -5.0, -10.0]).tolist()),
}


class Kind(NamedTuple):
    """Where the poles and zeros of a kind lie."""

    poles: Callable[[np.random.Generator, int], np.ndarray]
    zeros: Callable[[np.random.Generator, int], np.ndarray]
    dt: float


def _pairs(rng: np.random.Generator, order: int, low: float, high: float) -> np.ndarray:
    """Real poles and complex pairs with moduli in [low, high], those near z = 1 the more likely the larger they are."""
    poles: list[complex] = []
    while len(poles) < order:
        radius = float(rng.uniform(low, high))
        if order - len(poles) > 1 and rng.random() < 0.5:
            angle = float(rng.uniform(0.02, np.pi - 0.02)) * (1.0 if rng.random() < 0.4 else 1 - low)
            poles += [radius * np.exp(1j * angle), radius * np.exp(-1j * angle)]
        else:
            poles.append(radius * (-1.0 if rng.random() < 0.2 * (1 - low) else 1.0))
    return np.array(poles)


def _cluster(rng: np.random.Generator, order: int, low: float, high: float) -> np.ndarray:
    """Slow memories: real poles and narrow pairs of [low, high]."""
    poles: list[complex] = []
    while len(poles) < order:
        radius = float(rng.uniform(low, high))
        if order - len(poles) > 1 and rng.random() < 0.4:
            angle = float(rng.uniform(0.1, 2.0)) * (1 - radius)
            poles += [radius * np.exp(1j * angle), radius * np.exp(-1j * angle)]
        else:
            poles.append(radius)
    return np.array(poles, dtype=complex)


def _repeated(rng: np.random.Generator, order: int) -> np.ndarray:
    """Two to four times the same real pole, in as many groups as the order has room for."""
    poles: list[float] = []
    while len(poles) < order:
        poles += [round(float(rng.uniform(-0.5, 0.97)), 3)] * int(rng.integers(2, 5))
    return np.array(poles[:order], dtype=complex)


def _with(*placed: float, low: float = 0.2, high: float = 0.9) -> Callable[[np.random.Generator, int], np.ndarray]:
    def poles(rng: np.random.Generator, order: int) -> np.ndarray:
        return np.concatenate([placed[:order], _pairs(rng, max(order - len(placed), 0), low, high)])

    return poles


def _spread(decades: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Continuous time: moduli over so many decades, in the left half plane."""

    def poles(rng: np.random.Generator, order: int) -> np.ndarray:
        roots: list[complex] = []
        while len(roots) < order:
            size = float(10.0 ** rng.uniform(-decades / 2, decades / 2))
            if order - len(roots) > 1 and rng.random() < 0.5:
                damping = float(rng.uniform(0.02, 1.0))
                root = size * complex(-damping, np.sqrt(1 - damping**2))
                roots += [root, root.conjugate()]
            else:
                roots.append(-size)
        return np.array(roots, dtype=complex)

    return poles


def _between(low: float, high: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, order: _pairs(rng, order, low, high)


def _slow(low: float, high: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, order: _cluster(rng, order, low, high)


def _none(rng: np.random.Generator, order: int) -> np.ndarray:
    return np.zeros(0)


def _few(rng: np.random.Generator, order: int) -> np.ndarray:
    """At most three zeros anywhere in a disk that reaches beyond the circle."""
    return _pairs(rng, int(rng.integers(0, min(order, 3) + 1)), 0.1, 1.3)


KINDS: dict[str, Kind] = {
    "wide": Kind(_between(0.3, 0.9), _few, 1.0),
    "slow": Kind(_slow(0.8, 0.99), _few, 1.0),
    "slower": Kind(_slow(0.99, 0.999), _few, 1.0),
    "repeated": Kind(_repeated, _few, 1.0),
    "delays": Kind(_with(0.0, 0.0, 0.0), _few, 1.0),
    "zero at -1": Kind(_between(0.3, 0.95), lambda rng, order: -np.ones(min(order, int(rng.integers(1, 4)))), 1.0),
    "pole at -1": Kind(_with(-1.0), _few, 1.0),
    "integrator": Kind(_with(1.0, low=0.3, high=0.95), _few, 1.0),
    "two integrators": Kind(_with(1.0, 1.0), lambda rng, order: np.array([rng.uniform(0.5, 0.98)])[: order - 1], 1.0),
    "on the circle": Kind(_with(np.exp(0.7j), np.exp(-0.7j)), _few, 1.0),
    "unstable": Kind(_with(1.1), _none, 1.0),
    "continuous": Kind(_spread(3.0), lambda rng, order: -_spread(2.0)(rng, min(order, 2)) * rng.choice([-1, 1]), 0.0),
    "stiff": Kind(_spread(6.0), _none, 0.0),
    "continuous integrator": Kind(lambda rng, order: np.append(0.0, _spread(2.0)(rng, order - 1)), _none, 0.0),
}
MARGINAL = frozenset({"pole at -1", "integrator", "two integrators", "on the circle", "continuous integrator"})
BEYOND = frozenset({"unstable"})
STABLE = tuple(kind for kind in KINDS if kind not in MARGINAL | BEYOND)
DISCRETE = tuple(kind for kind, row in KINDS.items() if row.dt)


def siso(kind: str, order: int, form: str, seed: int) -> Any:
    """G of a kind: a fraction for form "tf", else a StateSpace; its largest gain on a grid is between .1 and 10.

    "modal" has A block diagonal (Jordan where poles repeat), "triangular" couples the blocks, "dense" turns them by a
    random orthogonal matrix.
    """
    rng = np.random.default_rng([seed, order, list(KINDS).index(kind)])
    row = KINDS[kind]
    order = max(order, 2) if kind in ("two integrators", "on the circle") else order
    poles, zeros = row.poles(rng, order), row.zeros(rng, order)
    if form == "tf":
        system = control.tf(np.atleast_1d(np.real(np.poly(zeros))), np.atleast_1d(np.real(np.poly(poles))), row.dt)
    else:
        system = _state_space(rng, poles, form, 1, row.dt)
    return times(system, float(10.0 ** rng.uniform(-1, 1)) / _size(system))


def mimo(kind: str, order: int, channels: int, form: str, seed: int) -> control.StateSpace:
    """A square G of a kind with so many channels; "tf" is no form of it."""
    rng = np.random.default_rng([seed, order, channels, list(KINDS).index(kind)])
    order = max(order, 2) if kind in ("two integrators", "on the circle") else order
    system = _state_space(rng, KINDS[kind].poles(rng, order), form, channels, KINDS[kind].dt)
    return times(system, float(10.0 ** rng.uniform(-1, 1)) / _size(system))


def sampled(plant: str, step: float, form: str = "tf") -> Any:
    """A named plant behind a zero-order hold; `step` is in units of its fastest pole (of one, for integrators)."""
    num, den = PLANTS[plant]
    fastest = max(1.0, float(np.max(np.abs(np.roots(den)))))
    system = control.sample_system(control.ss(control.tf(num, den)), step / fastest, "zoh")
    if form != "tf":
        return system
    # Numerator and denominator each have the leading coefficient that the state space gives them.
    fraction = control.tf(system)
    return control.tf(np.trim_zeros(fraction.num[0][0], "f"), fraction.den[0][0], system.dt)


def closed(system: Any, seed: int) -> Any:
    """c G with the first gain c, of alternating signs and falling size, for which 1 + c G = 0 is stable by eigenvalues.

    A system that none of the gains stabilises comes back at the last: its loop is unstable.
    """
    rng = np.random.default_rng([seed, 77])
    g = states_of(system)
    start, eye = float(rng.uniform(0.4, 1.6)), np.eye(g.ninputs)
    gain = start
    for k in range(40):
        gain = start * 2.0 ** (-(k // 2)) * (-1.0) ** k
        direct = eye + gain * g.D
        if np.linalg.cond(direct) < 1e8:
            poles = np.linalg.eigvals(g.A - gain * g.B @ np.linalg.solve(direct, g.C))
            growth = np.max(poles.real / (1e-12 + np.abs(poles)) if g.dt == 0 else np.abs(poles) - 1, initial=-1.0)
            if growth < -1e-7:
                break
    return times(system, gain)


def times(system: Any, factor: float) -> Any:
    """factor G."""
    if isinstance(system, control.TransferFunction):
        return control.tf(factor * system.num[0][0], system.den[0][0], system.dt)
    return state_space(system.A, system.B, factor * system.C, factor * system.D, system.dt)


def states_scaled(system: control.StateSpace, factor: float) -> control.StateSpace:
    """(A, B s, C/s, D): the same G."""
    return state_space(system.A, system.B * factor, system.C / factor, system.D, system.dt)


def states_permuted(system: control.StateSpace, seed: int) -> control.StateSpace:
    """The same G with its states in another order."""
    order = np.random.default_rng(seed).permutation(system.nstates)
    return state_space(system.A[np.ix_(order, order)], system.B[order], system.C[:, order], system.D, system.dt)


def moved(system: Any, rng: np.random.Generator, units: int = 4) -> Any:
    """Every entry that is not 0 moved by up to so many units in its last place; what is no system stays as it is."""

    def shift(m: Any) -> np.ndarray:
        m = np.asarray(m, dtype=float)
        return m * (1 + rng.uniform(-units, units, m.shape) * 2.0**-52)

    if isinstance(system, control.StateSpace):
        return state_space(*(shift(m) for m in (system.A, system.B, system.C, system.D)), system.dt)
    if isinstance(system, control.TransferFunction):
        return control.tf(shift(system.num[0][0]), shift(system.den[0][0]), system.dt)
    return system


def state_space(a: Any, b: Any, c: Any, d: Any, dt: Any) -> control.StateSpace:
    """A python-control object that keeps every state."""
    return control.ss(a, b, c, d, dt, remove_useless_states=False)


def _state_space(rng: np.random.Generator, poles: np.ndarray, form: str, channels: int, dt: float) -> Any:
    a = _blocks(poles, coupling=1.0 if dt else -1.0)
    n = len(a)
    scale = np.maximum(np.abs(np.diagonal(a)), 1e-12) if not dt else np.ones(n)
    b = rng.standard_normal((n, channels)) * scale[:, None]
    c = rng.standard_normal((channels, n))
    d = rng.standard_normal((channels, channels)) * (0.2 if rng.random() < 0.3 else 0.0)
    if form == "triangular":
        free = np.triu(np.ones((n, n)), 1) * (a == 0) * (a.T == 0)
        a = a + 0.3 * free * rng.standard_normal((n, n)) * np.minimum.outer(scale, scale)
    if form == "dense":
        q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        a, b, c = q @ a @ q.T, q @ b, c @ q.T
    return state_space(a, b, c, d, dt)


def _blocks(poles: np.ndarray, coupling: float) -> np.ndarray:
    """Real Jordan form: a 2 x 2 block for each pair, a chain for each real pole that comes again."""
    blocks: list[np.ndarray] = []
    for pole in poles[poles.imag > 0]:
        blocks.append(np.array([[pole.real, pole.imag], [-pole.imag, pole.real]]))
    values, counts = np.unique(poles[poles.imag == 0].real, return_counts=True)
    for value, count in zip(values, counts, strict=True):
        step = coupling * (1.0 if coupling > 0 else value)
        blocks.append(value * np.eye(count) + (1.0 if value == 0 else step) * np.eye(count, k=1))
    return block_diag(*blocks) if blocks else np.zeros((0, 0))


def states_of(system: Any) -> control.StateSpace:
    """A StateSpace of the same system, in companion coordinates where it is a fraction."""
    return system if isinstance(system, control.StateSpace) else _companion(system)


def _companion(system: control.TransferFunction) -> control.StateSpace:
    num, den = (np.trim_zeros(p[0][0], "f") for p in (system.num, system.den))
    n, num = len(den) - 1, np.pad(num, (len(den) - len(num), 0)) / den[0]
    den = den / den[0]
    a = np.vstack([-den[1:], np.eye(n)[:-1]]) if n else np.zeros((0, 0))
    c = (num[1:] - num[0] * den[1:])[None, :]
    return state_space(a, np.eye(n)[:, :1], c, num[:1, None], system.dt)


def _size(system: Any) -> float:
    """The largest entry of G on a coarse grid off the boundary, where poles on it do no harm."""
    g = states_of(system)
    if g.dt == 0:
        sizes = np.abs(np.linalg.eigvals(g.A))
        low, high = float(np.min(sizes[sizes > 0], initial=1.0)), float(np.max(sizes, initial=1.0))
        points = np.array([w * (0.3 + 1j) for w in np.geomspace(low / 10, 10 * high, 60)])
    else:
        points = 1.02 * np.exp(1j * np.append(np.geomspace(1e-3, np.pi, 60), 0.0))
    eye = np.eye(g.nstates)
    values = [np.max(np.abs(g.C @ np.linalg.solve(z * eye - g.A, g.B) + g.D)) for z in points]
    return max(float(np.max(values)), 1e-300)


# ---- hypothesis ------------------------------------------------------------------------------------------------------

orders = st.one_of(st.integers(1, 4), st.integers(1, 12), st.just(20))
seeds = st.integers(0, 10**6)


@st.composite
def systems(draw: Any, kinds: Any = tuple(KINDS), forms: Any = FORMS, order: Any = orders) -> Any:
    """A SISO system of the kinds and forms named."""
    return siso(draw(st.sampled_from(kinds)), draw(order), draw(st.sampled_from(forms)), draw(seeds))


@st.composite
def loops(draw: Any, kinds: Any = tuple(KINDS), forms: Any = FORMS, order: Any = orders) -> Any:
    """A SISO loop that negative feedback leaves stable, in most cases."""
    return closed(draw(systems(kinds, forms, order)), draw(seeds))


@st.composite
def sampled_plants(draw: Any, forms: Any = ("tf", "dense")) -> Any:
    """One of the twelve plants at one of nine sampling times."""
    return sampled(draw(st.sampled_from(sorted(PLANTS))), draw(st.sampled_from(STEPS)), draw(st.sampled_from(forms)))


@st.composite
def square_systems(draw: Any, kinds: Any = tuple(KINDS), order: Any = orders, channels: Any = (2, 3)) -> Any:
    """A square system of several channels."""
    return mimo(
        draw(st.sampled_from(kinds)), draw(order), draw(st.sampled_from(channels)),
        draw(st.sampled_from(FORMS[1:])), draw(seeds),
    )  # fmt: skip


@st.composite
def square_loops(draw: Any, kinds: Any = tuple(KINDS), order: Any = orders, channels: Any = (2, 3)) -> Any:
    """A square loop that negative feedback leaves stable, in most cases."""
    return closed(draw(square_systems(kinds, order, channels)), draw(seeds))


scales = st.sampled_from(SCALES)
