"""det(I - diag(delta) G(w)) = 0 with |delta_i| = 1 / rho: static factors that put a pole of the closed loop at w.

The size of an attack bounds every disk margin from above, as the scaled norm bounds it from below. The pole is looked
up in the loop itself, whose matrices know nothing of the sensitivity function that the attack was computed from.
"""

import math
from typing import NamedTuple

import numpy as np

from ctrlattn.linear.lapack import eigenvalues, inverted, solved, solved_on_both_sides
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.scaling import scaled
from ctrlattn.stability.boundary_search import distinct
from ctrlattn.stability.robustness.level_sets import SOUND, hamiltonian_crossings
from ctrlattn.stability.robustness.scaled_peak import Responses, ScaledPeak
from ctrlattn.stability.robustness.structured import NOTHING, aligned, largest_radius, radii, rotations, scaled_norms

TOLERANCE = 1e-6  # of the place of the destabilised pole, of the way that it came
_TIGHT = 1e-7  # relative gap of the bounds below which no other frequency is searched
_SAMPLES = 16  # rotations tried at each frequency
_CLIMBS = 3  # frequencies from which the search goes on
_STRONG = 0.8  # of the best size so far: what is not as strong is not climbed from
_ROUGH = 1e-2  # accuracy of the scaling that one of these rotations comes from
_INSIDE = 0.999  # size of the sampled attacks that must not destabilise, of the margin
_EXTREME = 1e8  # a factor beyond it, or below its inverse, is looked at through S
_ALGEBRAIC = 1e-12
_FEW = 10  # states up to which sampled attacks cost less than a level test
_FEWER = 2  # sampled attacks that stay where a level test has shown the whole axis; of a real loop one more
_LARGE = 50  # states beyond which another eigenvalue problem costs as much as the sweep
_EFFORT = 10_000  # squared states times attacks
_BETWEEN = 96  # seeded frequencies between those of the sweep, at most
_SEEDED = np.random.default_rng(0).random(_BETWEEN)  # their places; a generator takes as long as all their responses


class Attack(NamedTuple):
    """delta_i in (channels,), all of one size: a pole at `frequency`, which has come the distance `way`."""

    size: float
    delta: np.ndarray
    frequency: float
    way: float


def strongest_attack(responses: Responses, peak: ScaledPeak) -> Attack:
    """Return the smallest static factors that were met: at the peak of the bound, and elsewhere if they leave a gap.

    Whatever the peak says, rotations are also tried at frequencies at which the sweep never was. So the result may
    contradict the peak, and the caller must compare them.

    Examples
    --------
    >>> import control
    >>> from ctrlattn.linear.realization import realization
    >>> from ctrlattn.stability.robustness.scaled_peak import scaled_peak
    >>> responses = Responses(realization(control.tf([1], [1, 0.5], 1), "attack"))
    >>> attack = strongest_attack(responses, scaled_peak(responses, 1e-6))
    >>> round(attack.size, 6), attack.delta.real.round(6).tolist()  # 1/(-1 + 0.5) = -2
    (0.5, [-0.5])
    """
    best = _attack_at(responses, peak.frequency)
    w = _frequencies_between(peak.looked_at)
    m = responses(w)
    sampled = _sampled_radii(m)
    order = np.argsort(-sampled)
    tight = best.size * peak.upper <= 1 + 1e-5 + _TIGHT
    starts = order[: 1 if tight else _CLIMBS]
    for i in starts[sampled[starts] > (1 + _TIGHT if tight else _STRONG) / best.size]:
        best = min(best, _climb(responses, float(w[i])), key=lambda attack: attack.size)
    return best


def _sampled_radii(m: np.ndarray) -> np.ndarray:
    """Return the largest rho(diag(q) M) of each matrix over a few rotations q; with one channel all are alike."""
    channels = m.shape[-1]
    if channels == 1:
        return np.abs(m[:, 0, 0])
    turns = rotations(channels, _SAMPLES)
    q = np.broadcast_to(turns, (len(m), *turns.shape))
    q = np.concatenate([q, aligned(m, scaled_norms(m, _ROUGH)[1])[:, None]], axis=1)
    return radii(m[:, None], q).max(axis=1)


def pole_miss(loop: Realization, weighted: Realization, attack: Attack, factors: np.ndarray) -> float:
    """Return how far the nearest pole of the attacked loop is from `frequency`, relative to the way that it came.

    Parameters
    ----------
    loop : Realization
        L, closed by negative feedback with the `factors` f in its channels.
    weighted : Realization
        S + (skew - 1)/2 I, whose poles are those of the loop without attack. It stands in where a factor is 0 or
        infinite, or nearly.
    attack : Attack
    factors (channels,)

    Returns
    -------
    float
        At an infinite frequency, without states, and where the direct term alone is to blame: the smallest eigenvalue
        of I + D f, which is 0 for an algebraic loop.
    """
    size = np.abs(factors)
    # A factor near 0 or infinity has lost digits that delta still has.
    if np.all((size > 1 / _EXTREME) & (size < _EXTREME)):
        return _pole_miss(loop, -factors, attack)
    return _pole_miss(weighted, attack.delta, attack)


def require_sound(weighted: Realization, margin: float, attack: Attack, residual: float) -> None:
    """Raise ArithmeticError unless the attack does put a pole on the boundary and smaller ones do not go beyond it.

    A level test shows the whole axis at once for a single channel with more than a few states: the sweep used a pencil,
    this one uses a Hamiltonian matrix. Then fewer attacks are sampled.
    """
    if not residual <= TOLERANCE:
        raise ArithmeticError(
            f"disk_margin: factors of size {attack.size:.6g} should put a pole at frequency {attack.frequency:.6g}, "
            f"and rounding leaves the nearest {residual:.1g} of its way off: give the loop in modal or triangular form"
        )
    n, channels = len(weighted.a), len(weighted.d)
    if not 0 < n <= _LARGE:  # there the attacks at sampled frequencies have to do
        return
    count = min(_EFFORT // (n**2 + 1), _SAMPLES)
    if channels == 1 and n > _FEW and _no_gain_above(weighted, (1 + _TIGHT) / (_INSIDE * margin)):
        count = _FEWER  # no frequency is left at which another one could destabilise
    if count == _FEWER and weighted.real():  # both ends of the disk's real gains
        delta = _INSIDE * margin * np.array([[1.0 + 0j], [1.0], [-1.0]])
    else:
        delta = _INSIDE * margin * np.exp(2j * np.pi * np.random.default_rng(0).random((count, channels)))
    delta[0] = _INSIDE * margin / attack.size * attack.delta
    a, b, c, d = weighted[:4]
    direct = np.eye(channels) - d * delta[:, None, :]
    back = c / direct if channels == 1 else np.linalg.solve(direct, np.broadcast_to(c, (count, *c.shape)))
    attacked = a + (b * delta[:, None, :]) @ back
    poles = np.array([eigenvalues(closed if closed.imag.any() else closed.real) for closed in attacked])
    beyond = poles.real > 0 if weighted.continuous else np.abs(poles) > 1
    for i, j in np.argwhere(beyond):
        point = poles[i, j]
        way = float(np.abs(eigenvalues(a) - point).min())
        if _newton_distance(weighted, delta[i], point) <= TOLERANCE * way:
            raise ArithmeticError(
                f"disk_margin: factors of {_INSIDE} times the margin {margin:.6g} destabilise, so the sweep has lost a "
                "band of frequencies: rescale the states"
            )


def _no_gain_above(g: Realization, level: float) -> bool:
    """Tell whether the Hamiltonian matrix of a level shows no frequency at which the gain reaches it."""
    unit = scaled(g, level)
    inner = float(np.ldexp(level, -unit.exponent))
    crossings = hamiltonian_crossings(unit.system, inner, SOUND)
    return crossings is not None and not len(crossings)


def _point(w: float, *, continuous: bool) -> complex:
    return 1j * w if continuous else complex(np.exp(1j * w))


def _pole_miss(g: Realization, gain: np.ndarray, attack: Attack) -> float:
    """Return `pole_miss` of G closed by diag(gain), with positive feedback."""
    a, b, c, d = g[:4]
    direct = np.eye(len(d)) - d * gain
    algebraic = abs(complex(direct[0, 0])) if len(d) == 1 else float(np.abs(eigenvalues(direct)).min())
    if not len(a) or not math.isfinite(attack.frequency) or algebraic <= _ALGEBRAIC:
        return algebraic
    point = _point(attack.frequency, continuous=g.continuous)
    by_step = _newton_distance(g, gain, point) / attack.way
    if len(a) > _LARGE and by_step <= TOLERANCE:
        return by_step
    closed = a + (b * gain) @ solved(direct, c)
    bound = _nearest_eigenvalue(closed, point) / attack.way
    if bound <= TOLERANCE:
        return bound
    by_eigenvalues = float(np.abs(eigenvalues(closed) - point).min()) / attack.way
    # Where poles crowd, eigenvalues of a dense matrix lose what the transfer function still has.
    return by_eigenvalues if by_eigenvalues <= TOLERANCE else min(by_eigenvalues, by_step)


def _nearest_eigenvalue(a: np.ndarray, point: complex) -> float:
    """Bound the distance of an eigenvalue from z by n/|tr (zI - A)^-1|, a tenth of the work of all eigenvalues.

    The trace is the sum of all 1/(z - lambda), none of which is larger than that of the nearest lambda.
    """
    try:
        inverse = inverted(point * np.eye(len(a)) - a)
    except np.linalg.LinAlgError:  # z is an eigenvalue
        return 0.0
    size = abs(complex(inverse.trace()))
    return len(a) / size if 0 < size < math.inf else math.inf


def _frequencies_between(looked_at: np.ndarray) -> np.ndarray:
    """Return seeded frequencies between those of the sweep, at most 96."""
    w = distinct(looked_at)
    w = w[np.isfinite(w)]
    if len(w) > _BETWEEN + 1:
        w = np.sort(np.random.default_rng(0).choice(w, _BETWEEN + 1, replace=False))
    return np.append(w[:-1] + _SEEDED[: max(len(w) - 1, 0)] * (w[1:] - w[:-1]), w[-1:])


def _attack_at(responses: Responses, w: float) -> Attack:
    rho, q = largest_radius(responses(np.array([w]))[0])
    way = np.min(np.abs(responses.poles - _point(w, continuous=responses.g.continuous)), initial=math.inf)
    if rho <= NOTHING:
        return Attack(math.inf, q, w, float(way))
    return Attack(1 / rho, q / rho, w, float(way))


def _climb(responses: Responses, w: float) -> Attack:
    """Return the strongest attack near w, over the rotations and the frequency together."""
    from scipy.optimize import minimize

    start = _attack_at(responses, w)
    if not math.isfinite(start.size) or w == 0:
        return start

    def downhill(x: np.ndarray) -> float:
        m = responses(np.array([w * (1 + 0.1 * x[0])]))[0]
        return -math.log(max(float(radii(m, np.exp(1j * x[1:]))), 1e-300))

    angles = np.angle(start.delta)
    x = minimize(downhill, np.append(0.0, angles), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
    return min(start, _attack_at(responses, w * (1 + 0.1 * float(x[0]))), key=lambda attack: attack.size)


def _newton_distance(g: Realization, gain: np.ndarray, point: complex) -> float:
    """Return |lambda - 1| / |d lambda/dz| for the eigenvalue of G(z) diag(gain) nearest 1: how far from z a pole is."""
    shifted = point * np.eye(len(g.a)) - g.a
    try:
        x, y = solved_on_both_sides(shifted, g.b, g.c)
    except np.linalg.LinAlgError:  # z is a pole of G itself
        return math.inf
    slope = y @ x * gain  # but for its sign
    if len(gain) == 1:
        rate = abs(complex(slope[0, 0]))
        return abs(complex((g.c @ x + g.d)[0, 0] * gain[0]) - 1) / rate if rate > 0 else math.inf
    values, right = np.linalg.eig((g.c @ x + g.d) * gain)
    at = int(np.argmin(np.abs(values - 1)))
    rate = abs(complex(np.linalg.pinv(right)[at] @ slope @ right[:, at]))
    return float(abs(values[at] - 1) / rate) if rate > 0 else math.inf
