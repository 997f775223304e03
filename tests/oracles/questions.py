"""What is asked of the package in the campaign, what it answers, and what is true: a row for each public function.

A question draws its own arguments from a generator, asks the package, and states the truth as a dictionary of the same
keys as the answer. Truths come from `exact`, or from float64 by a way that the package does not go: the equation of
Lyapunov by scipy, a dense grid of frequencies with a search about its best point, a pole put on the boundary.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import control
import exact
import numpy as np
import systems
from mpmath import mp, mpf
from scipy.optimize import minimize, minimize_scalar

from ctrlattn import PID, CausalMean, Loop, stability
from ctrlattn.frequency import sensitivity_peaks

Answer = dict[str, Any]


class Question(NamedTuple):
    """One public function: its arguments, its answer and the truth, as numbers under the same names."""

    draw: Callable[[np.random.Generator], tuple[str, tuple[Any, ...]]]
    ask: Callable[..., Answer]
    truth: Callable[..., Answer]  # of the arguments, then of the answer, which an inequality may need
    tolerance: float = 1e-5
    refuses: Callable[..., bool] = lambda *_: False  # is a refusal the documented answer to the arguments?


# ---- systems ---------------------------------------------------------------------------------------------------------


def _order(rng: np.random.Generator) -> int:
    low, high = ((1, 4), (5, 8), (9, 12))[int(rng.choice(3, p=[0.55, 0.35, 0.1]))]
    return int(rng.integers(low, high + 1))


def _kind(rng: np.random.Generator, kinds: tuple[str, ...]) -> str:
    return str(rng.choice(kinds))


def _scaled(rng: np.random.Generator, system: Any, name: str) -> tuple[str, Any]:
    """Other units of the states, or another order of them."""
    if isinstance(system, control.StateSpace) and rng.random() < 0.3:
        factor = float(rng.choice(systems.SCALES))
        system, name = systems.states_scaled(system, factor), f"states_scaled({name}, {factor:g})"
    if isinstance(system, control.StateSpace) and rng.random() < 0.2:
        seed = int(rng.integers(1000))
        system, name = systems.states_permuted(system, seed), f"states_permuted({name}, {seed})"
    return name, system


def _plant(rng: np.random.Generator) -> tuple[str, Any]:
    plant, step, form = str(rng.choice(sorted(systems.PLANTS))), float(rng.choice(systems.STEPS)), "dense"
    form = str(rng.choice(["tf", "dense"]))
    return f"sampled({plant!r}, {step!r}, {form!r})", systems.sampled(plant, step, form)


def _system(rng: np.random.Generator, kinds: tuple[str, ...] = tuple(systems.KINDS), forms: Any = systems.FORMS) -> Any:
    """(name, G): open, of every size."""
    if rng.random() < 0.15 and kinds == tuple(systems.KINDS):
        return _plant(rng)
    # Norms of what is not stable are one answer: most systems are stable.
    stable = tuple(k for k in kinds if k in systems.STABLE) or kinds
    chosen = _kind(rng, stable if rng.random() < 0.8 else kinds)
    order, form, seed = _order(rng), str(rng.choice(forms)), int(rng.integers(10**6))
    system, name = systems.siso(chosen, order, form, seed), f"siso({chosen!r}, {order}, {form!r}, {seed})"
    if rng.random() < 0.3:
        factor = float(rng.choice(systems.SCALES))
        system, name = systems.times(system, factor), f"times({name}, {factor:g})"
    return _scaled(rng, system, name)


def _loop(rng: np.random.Generator, kinds: tuple[str, ...] = tuple(systems.KINDS)) -> tuple[str, Any]:
    """(name, L): what negative feedback leaves stable, in most cases."""
    if rng.random() < 0.25 and kinds == tuple(systems.KINDS):
        name, system = _plant(rng)
        if rng.random() < 0.5:
            return name, system
    else:
        chosen, order, form = _kind(rng, kinds), _order(rng), str(rng.choice(systems.FORMS))
        seed = int(rng.integers(10**6))
        system, name = systems.siso(chosen, order, form, seed), f"siso({chosen!r}, {order}, {form!r}, {seed})"
    seed = int(rng.integers(10**6))
    return _scaled(rng, systems.closed(system, seed), f"closed({name}, {seed})")


def _square(rng: np.random.Generator, kinds: tuple[str, ...] = tuple(systems.KINDS)) -> tuple[str, Any]:
    chosen, order, channels = _kind(rng, kinds), _order(rng), int(rng.integers(2, 4))
    form, seed = str(rng.choice(systems.FORMS[1:])), int(rng.integers(10**6))
    return (
        f"mimo({chosen!r}, {order}, {channels}, {form!r}, {seed})",
        systems.mimo(chosen, order, channels, form, seed),
    )


def _square_loop(rng: np.random.Generator) -> tuple[str, Any]:
    name, system = _square(rng)
    seed = int(rng.integers(10**6))
    return _scaled(rng, systems.closed(system, seed), f"closed({name}, {seed})")


def _any(rng: np.random.Generator) -> tuple[str, Any]:
    """SISO or square, open."""
    if rng.random() < 0.7:
        return _system(rng)
    return _scaled(rng, *reversed(_square(rng, systems.STABLE if rng.random() < 0.85 else tuple(systems.KINDS))))


def _with_states(rng: np.random.Generator) -> tuple[str, Any]:
    """A StateSpace: a Gramian is of the states that the caller chose."""
    if rng.random() < 0.7:
        return _system(rng, forms=systems.FORMS[1:], kinds=tuple(systems.KINDS)[:-1])
    return _scaled(rng, *reversed(_square(rng, systems.STABLE)))


def _alone(draw: Callable[[np.random.Generator], tuple[str, Any]]) -> Callable[..., tuple[str, tuple[Any, ...]]]:
    def drawn(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
        name, system = draw(rng)
        return name, (system,)

    return drawn


# ---- margins ---------------------------------------------------------------------------------------------------------


def _margins(loop: Any) -> Answer:
    m = stability.margins(loop)
    # Two crossings may have the same margin, and then either frequency is right.
    return {
        "stable": m.stable, "gain_margin": m.gain_margin, "gain_reduction": m.gain_reduction,
        "phase_margin": m.phase_margin, "delay_margin": m.delay_margin, "modulus_margin": m.modulus_margin,
    }  # fmt: skip


def _true_margins(loop: Any, *_: Any) -> Answer:
    m = exact.margins(exact.line(loop))
    return {name: getattr(m, name) for name in (
        "stable", "gain_margin", "gain_reduction", "phase_margin", "delay_margin", "modulus_margin")}  # fmt: skip


def _crossings(loop: Any) -> Answer:
    c = stability.crossings(loop)
    return {"gain_factor": np.sort(c.gain_factor), "phase": np.sort(c.phase), "frequency": np.sort(c.gain_frequency)}


def _true_crossings(loop: Any, *_: Any) -> Answer:
    with mp.workdps(exact.DIGITS):
        g = exact.line(loop)
        gains = [c for c in exact.gain_crossings(g) if c.value > 0]
        return {
            "gain_factor": np.sort([float(c.value) for c in gains]),
            "phase": np.sort([float(c.value) for c in exact.phase_crossings(g)]),
            "frequency": np.sort([float(c.omega) for c in gains]),
        }


def _loop_margins(loop: Any) -> Answer:
    channels = stability.loop_margins(loop)
    return {
        f"{name} {i}": getattr(c.classical, name)
        for i, c in enumerate(channels)
        for name in ("stable", "gain_margin", "phase_margin", "modulus_margin")
    }


def _true_loop_margins(loop: Any, *_: Any) -> Answer:
    every: Answer = {}
    for i in range(loop.ninputs):
        m = exact.margins(exact.broken(loop, i))
        names = ("stable", "gain_margin", "phase_margin", "modulus_margin")
        every |= {f"{name} {i}": getattr(m, name) for name in names}
    return every


# ---- disk margins ----------------------------------------------------------------------------------------------------


def _disk_arguments(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    if rng.random() < 0.4:
        name, loop = _loop(rng)
    else:
        name, loop = _square(rng)
        seed = int(rng.integers(10**6))
        name, loop = _scaled(rng, systems.closed(loop, seed), f"closed({name}, {seed})")
    skew = float(rng.choice([0.0, 1.0, -1.0, 0.5]))
    return f"{name}, skew={skew}", (loop, skew)


def _disk(loop: Any, skew: float) -> Answer:
    disk = stability.disk_margin(loop, skew=skew)
    answer = {"margin": disk.margin}
    if disk.margin > 0 and np.all(np.isfinite(disk.perturbation)):
        answer |= {"perturbation": disk.perturbation, "frequency": disk.frequency, "attained": disk.attained}
    return answer


def _true_disk(loop: Any, skew: float, answer: Answer) -> Answer:
    truth = {"margin": _siso_disk(loop, skew) if loop.ninputs == 1 else _square_disk(loop, skew, answer)}
    if "perturbation" in answer:
        f, delta = answer["perturbation"], answer["attained"]
        truth |= {"attained": float(np.max(np.abs((f - 1) / ((1 + skew) / 2 * f + (1 - skew) / 2)))) if delta else 0.0}
        truth["frequency"] = answer["frequency"] if _places_a_pole(loop, f, answer["frequency"]) else math.nan
        truth["perturbation"] = f
    return truth


def _siso_disk(loop: Any, skew: float) -> float:
    """1/max |S + (skew - 1)/2|, S = D/(N + D)."""
    with mp.workdps(exact.DIGITS):
        g = exact.line(loop)
        closed = exact.plus(g.num, g.den)
        if not exact.stable(closed):
            return 0.0
        top = exact.squared(exact.plus(g.den, closed, mpf(skew - 1) / 2))
        value, _ = exact.extreme(top, exact.squared(closed), len(closed) - 1, largest=True)
        return float(1 / mp.sqrt(value)) if value > 0 else math.inf


def _sensitivity(loop: control.StateSpace) -> tuple[np.ndarray, ...]:
    inverse = np.linalg.inv(np.eye(loop.ninputs) + loop.D)
    b, c = loop.B @ inverse, inverse @ loop.C
    return loop.A - b @ loop.C, b, -c, inverse


def _square_disk(loop: control.StateSpace, skew: float, answer: Answer) -> float:
    """What is answered, where rotations of that size and no smaller ones are met by a search that destabilise."""
    a, b, c, d = _sensitivity(loop)
    poles = np.linalg.eigvals(a)
    if np.max(poles.real if loop.dt == 0 else np.abs(poles) - 1) >= 0:
        return 0.0
    centre = d + (skew - 1) / 2 * np.eye(len(d))

    def at(w: float) -> np.ndarray:
        if math.isinf(w):
            return centre
        z = (1j * w if loop.dt == 0 else np.exp(1j * w)) * np.eye(len(a)) - a
        if np.linalg.cond(z) > 1e200 or np.linalg.det(z) == 0:  # a pole on the boundary to the last digit
            return np.full_like(centre, 1e150, dtype=complex)
        return c @ np.linalg.solve(z, b) + centre

    grid = frequencies(poles, loop.dt == 0)
    lower, _ = rotations(np.array([at(w) for w in grid]), steps=8)
    peak = max(_refined(at, grid, int(i)) for i in np.argsort(lower)[-3:])
    if answer["margin"] == 0:
        return 1 / peak
    if answer["margin"] * peak - 1 > 1e-5:  # a smaller perturbation destabilises
        return 1 / peak
    # Too small is what lies below the bound that the function states of itself, at its own frequency.
    guaranteed = max(peak, _scaled_norm(at(answer["frequency"])) if "frequency" in answer else 0.0)
    return answer["margin"] if answer["margin"] * guaranteed > 1 - 1e-3 else 1 / guaranteed


def _scaled_norm(m: np.ndarray) -> float:
    """min_D ||D M D^-1|| over positive diagonal D, searched from five starts: an upper bound of mu."""

    def norm(log: np.ndarray) -> float:
        d = np.append(0.0, log)
        return float(np.linalg.norm(m * np.exp(np.clip(d[:, None] - d[None, :], -300, 300)), 2))

    size = np.log(np.maximum(np.abs(m), 1e-300))
    starts = [
        np.zeros(len(m) - 1),
        (size[0, 1:] - size[1:, 0]) / 2,
        *(k * np.ones(len(m) - 1) for k in (-14, -7, 7, 14)),
    ]
    best = min(starts, key=norm)
    return float(
        minimize(norm, best, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 400}).fun
    )


def frequencies(poles: np.ndarray, continuous: bool) -> np.ndarray:
    """Both ends, geometric steps, and the neighbourhood of every pole."""
    if continuous:
        sizes = np.abs(poles[np.abs(poles) > 0])
        low, high = float(np.min(sizes, initial=1.0)), float(np.max(sizes, initial=1.0))
        near = np.concatenate([abs(p.imag) + abs(p.real) * np.linspace(-3, 3, 13) for p in poles])
        return np.unique(np.concatenate([[0.0, math.inf], np.geomspace(low / 100, 100 * high, 200), near[near > 0]]))
    near = np.concatenate([abs(np.angle(p)) + abs(1 - abs(p)) * np.linspace(-3, 3, 13) for p in [*poles, 0.5]])
    grid = np.concatenate([[0.0, np.pi], np.geomspace(1e-5, np.pi, 200), np.linspace(0.05, np.pi, 80), near])
    return np.unique(grid[(grid >= 0) & (grid <= np.pi)])


def rotations(m: np.ndarray, steps: int, starts: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(rho, q) at each of many matrices (k, c, c): max_q rho(diag(q) M), |q_i| = 1, climbed from a few starts.

    Each row of M is turned so that all of them pull the largest eigenvalue outwards; a lower bound of mu.
    """
    channels, every = m.shape[-1], np.arange(len(m))
    rng = np.random.default_rng(0)
    best, where = np.zeros(len(m)), np.ones((len(m), channels), dtype=complex)
    for k in range(starts):
        start = np.exp(2j * np.pi * (k * np.arange(channels) / 3 if k < 3 else rng.random(channels)))
        q = np.tile(start, (len(m), 1))
        for _ in range(steps):
            values, right = np.linalg.eig(q[:, :, None] * m)
            largest = np.argmax(np.abs(values), axis=1)
            value, x = np.abs(values[every, largest]), right[every, :, largest]
            better = value > best
            best, where = np.where(better, value, best), np.where(better[:, None], q, where)
            left = np.linalg.pinv(right)[every, largest]
            pull = left * (m @ x[:, :, None])[:, :, 0]  # the derivative of the eigenvalue by q_i
            q = np.where(np.abs(pull) > 0, pull.conj() / np.maximum(np.abs(pull), 1e-300), 1.0)
    return best, where


def _refined(at: Callable[[float], np.ndarray], grid: np.ndarray, i: int) -> float:
    """The largest mu about a point of the grid: climbed along the frequency, then searched over the angles."""
    low, high = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    top = grid[i]
    if math.isfinite(low) and math.isfinite(high) and low < high:
        for _ in range(6):
            fine = np.linspace(low, high, 15)
            heights, _ = rotations(np.array([at(w) for w in fine]), steps=12)
            k = int(np.argmax(heights))
            top, low, high = fine[k], fine[max(k - 1, 0)], fine[min(k + 1, 14)]
    m = at(top)

    def radius(angles: np.ndarray) -> float:
        return -float(np.abs(np.linalg.eigvals(np.exp(1j * np.append(0.0, angles))[:, None] * m)).max())

    values, q = rotations(m[None], steps=60, starts=8)
    options = {"xatol": 1e-8, "fatol": 1e-12 * float(values[0]), "maxiter": 300}
    turned = minimize(radius, np.angle(q[0, 1:] / q[0, 0]), method="Nelder-Mead", options=options)
    return max(float(values[0]), -float(turned.fun))


def _places_a_pole(loop: Any, f: np.ndarray, w: float) -> bool:
    """det(I + F L) = 0 at the frequency, to 1e-5 of its size."""
    g = loop if isinstance(loop, control.StateSpace) else None
    with mp.workdps(60):
        if len(f) == 1:
            line = exact.line(loop)
            y = mp.inf if (w >= math.pi - 1e-12 and line.discrete) or math.isinf(w) else (
                mp.tan(mpf(w) / 2) if line.discrete else mpf(w)) ** 2  # fmt: skip
            n, d = (exact.on_boundary(p, y, len(line.den) - 1, w < 0) for p in (line.num, line.den))
            # It and its inverse are known to 1e-9: 0 leaves a pole of L where it is, and infinity leads one to a zero.
            factor = complex(f[0])
            known = 1e-9 * (abs(n) + abs(factor) * abs(d))
            return bool(abs(d + mp.mpc(factor) * n) <= 1e-5 * (abs(d) + abs(factor * n)) + known)
        assert g is not None
    if _has_a_pole(g, f, w):
        return True
    with mp.workdps(60):
        z = mp.mpc(0, w) if g.dt == 0 else mp.expj(w)
        try:
            value = g.D if math.isinf(w) else exact.response(g, z)
        except ZeroDivisionError:  # L is infinite there
            return False
    whole = np.eye(len(f)) + f[:, None] * value
    singular = np.linalg.svd(whole, compute_uv=False)
    return bool(singular[-1] <= 1e-5 * max(singular[0], 1.0))


def _has_a_pole(g: control.StateSpace, f: np.ndarray, w: float) -> bool:
    """An eigenvalue of A - B (I + F D)^-1 F C at the frequency: where L has a pole, there is no response to ask."""
    direct = np.eye(len(f)) + f[:, None] * g.D
    if math.isinf(w) or np.linalg.cond(direct) > 1e12:
        return False
    out = np.linalg.solve(direct, f[:, None] * g.C)
    poles = np.linalg.eigvals(g.A - g.B @ out)
    sizes = float(np.linalg.norm(g.A)), float(np.linalg.norm(g.B) * np.linalg.norm(out))
    point = 1j * w if g.dt == 0 else np.exp(1j * w)
    # As for one channel, the factors are known to 1e-9: 0 leaves a pole of L where it is.
    known = 1e-9 * float(np.linalg.norm(g.B) * np.linalg.norm(np.linalg.solve(direct, g.C)))
    return bool(np.min(np.abs(poles - point)) <= 1e-7 * max(abs(point), *sizes) + known)


# ---- norms -----------------------------------------------------------------------------------------------------------


def _peak(system: Any) -> Answer:
    peak = stability.peak_gain(system)
    return {"value": peak.value, "upper": peak.upper}


def _true_peak(system: Any, *_: Any) -> Answer:
    value = _gain(system)
    return {"value": value, "upper": value}


def _hinf(system: Any) -> Answer:
    return {"hinf": stability.hinf_norm(system)}


def _true_hinf(system: Any, *_: Any) -> Answer:
    return {"hinf": _gain(system)}


def _gain(system: Any) -> float:
    if system.ninputs == system.noutputs == 1:
        return exact.hinf(exact.line(system))
    poles = np.linalg.eigvals(system.A)
    if np.max(poles.real / np.maximum(np.abs(poles), 1e-300) if system.dt == 0 else np.abs(poles) - 1) >= -1e-13:
        return math.inf
    continuous = system.dt == 0

    def at(w: float) -> float:
        if math.isinf(w):
            return float(np.linalg.norm(system.D, 2))
        z = 1j * w if continuous else np.exp(1j * w)
        return float(
            np.linalg.norm(system.C @ np.linalg.solve(z * np.eye(len(poles)) - system.A, system.B) + system.D, 2)
        )

    grid = frequencies(poles, continuous)
    heights = np.array([at(w) for w in grid])
    best = float(heights.max())
    for i in np.argsort(heights)[-5:]:
        low, high = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
        if math.isfinite(high) and low < high:
            top = minimize_scalar(
                lambda w: -at(w), bounds=(low, high), method="bounded", options={"xatol": 1e-10 * high, "maxiter": 200}
            )
            best = max(best, -float(top.fun))
    return best


# ---- Gramians --------------------------------------------------------------------------------------------------------


def _h2(system: Any) -> Answer:
    return {"h2": stability.h2_norm(system)}


def _true_h2(system: Any, answer: Answer) -> Answer:
    if not _open_stable(system):
        return {"h2": math.inf}
    return {"h2": exact.h2(system)}


def _open_stable(system: Any) -> bool:
    if system.ninputs == system.noutputs == 1:
        with mp.workdps(exact.DIGITS):
            return exact.stable(exact.line(system).den)
    poles = np.linalg.eigvals(system.A)
    growth = poles.real / np.maximum(np.abs(poles), 1e-300) if system.dt == 0 else np.abs(poles) - 1
    return bool(np.max(growth) < -1e-13)


def _diverges(system: Any, *_: Any) -> bool:
    return not _open_stable(system)


def _gramian(system: Any, which: int) -> Answer:
    quantity = (stability.controllability_gramian, stability.observability_gramian)[which]
    return {"gramian": quantity(system)}


def _true_gramian(system: Any, which: int, answer: Answer) -> Answer:
    """An answer with a residual that float64 sees as rounding, from a well-conditioned equation, is not asked twice."""
    if not _open_stable(system):
        return {"gramian": math.inf}
    with mp.workdps(exact.DIGITS):
        truth = exact.gramians(system)[which]
        scale = [mp.sqrt(abs(truth[i, i])) for i in range(len(truth))]
        largest = max(scale, default=mpf(1))
        scale = [s if s > largest * mpf(10) ** -40 else largest * mpf(10) ** -40 for s in scale]
        given = np.vectorize(lambda x: mpf(float(x)), otypes=[object])(answer["gramian"])
        error = max(
            (abs(given[i, j] - truth[i, j]) / (scale[i] * scale[j])
             for i in range(len(truth)) for j in range(len(truth))),
            default=mpf(0),
        )  # fmt: skip
    return {"gramian": answer["gramian"] if error < 1e-5 else truth.astype(float)}


def _gramian_arguments(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    name, system = _with_states(rng)
    which = int(rng.integers(2))
    return f"{name}, {('controllability', 'observability')[which]}", (system, which)


def _hankel(system: Any) -> Answer:
    return {"hankel": stability.hankel_singular_values(system)}


def _true_hankel(system: Any, answer: Answer) -> Answer:
    """Small values are known to rounding of the largest: they are compared after the largest is added."""
    if not _open_stable(system):
        return {"hankel": math.inf}
    truth = exact.hankel(system)
    given = answer["hankel"]
    close = len(given) == len(truth) and np.all(np.abs(given - truth) <= 1e-7 * np.max(truth, initial=0.0) + 1e-300)
    return {"hankel": given if close else truth}


def _truncation_arguments(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    name, system = _any(rng)
    order = int(rng.integers(0, max(1, _states(system) // 2) + 1))
    return f"{name}, {order}", (system, order)


def _states(system: Any) -> int:
    return system.nstates if isinstance(system, control.StateSpace) else len(system.den[0][0]) - 1


def _truncation(system: Any, order: int) -> Answer:
    truncated = stability.balanced_truncation(system, order)
    return {
        "error_bound": truncated.error_bound, "hankel": truncated.hankel, "order": truncated.system.nstates,
        "error": truncated.system,
    }  # fmt: skip


def _true_truncation(system: Any, order: int, answer: Answer) -> Answer:
    """The bound is twice the tail, and no frequency of a grid has a larger error."""
    if not _open_stable(system):
        return dict.fromkeys(answer, math.inf)
    hankel = _true_hankel(system, answer)["hankel"]
    bound = 2 * float(np.sum(hankel[order:]))
    size = float(np.max(hankel, initial=0.0))
    bound_ok = abs(answer["error_bound"] - bound) <= 1e-6 * size
    small = answer["error"]
    line = exact.line(system) if system.ninputs == 1 else None
    poles = np.linalg.eigvals(small.A) if small.nstates else np.zeros(1)
    worst = 0.0
    for w in frequencies(np.append(poles, 0.9), system.dt == 0):
        whole = _response(system, line, w)
        value = _response(small, None, w)
        worst = max(worst, float(np.linalg.norm(whole - value, 2)))
    within = worst <= bound + 1e-6 * max(size, 1e-300) * 10
    return {
        "error_bound": answer["error_bound"] if bound_ok else bound, "hankel": hankel, "order": order,
        "error": small if within else worst,
    }  # fmt: skip


def _response(system: Any, line: Any, w: float) -> np.ndarray:
    if line is not None:
        with mp.workdps(60):
            y = mp.inf if math.isinf(w) or (line.discrete and w >= math.pi) else (
                mp.tan(mpf(w) / 2) if line.discrete else mpf(w)) ** 2  # fmt: skip
            n, d = (exact.on_boundary(p, y, len(line.den) - 1) for p in (line.num, line.den))
            return np.array([[complex(n / d)]])
    if math.isinf(w) or not system.nstates:
        return np.asarray(system.D, dtype=complex)
    z = 1j * w if system.dt == 0 else np.exp(1j * w)
    return system.C @ np.linalg.solve(z * np.eye(system.nstates) - system.A, system.B) + system.D


# ---- sectors, sensitivity, gap ---------------------------------------------------------------------------------------


def _circle_arguments(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    name, system = _system(rng)
    low = float(rng.choice([0.0, 0.0, round(float(rng.uniform(-0.2, 0.5)), 3)]))
    high = low + round(float(rng.uniform(0.05, 2.0)), 3)
    return f"{name}, {low}, {high}", (system, low, high)


def _circle(system: Any, low: float, high: float) -> Answer:
    criterion = stability.circle_criterion(system, low, high)
    return {"gain": criterion.gain, "holds": criterion.holds}


def _true_circle(system: Any, low: float, high: float, answer: Answer) -> Answer:
    with mp.workdps(exact.DIGITS):
        g = exact.line(system)
        around = exact.plus(g.den, g.num, (mpf(low) + mpf(high)) / 2)
        if not exact.stable(around):
            return {"gain": math.inf, "holds": False}
        value, _ = exact.extreme(exact.squared(g.num), exact.squared(around), len(g.den) - 1, largest=True)
        gain = float((mpf(high) - mpf(low)) / 2 * mp.sqrt(value))
    return {"gain": gain, "holds": answer["holds"] if abs(gain - 1) < 1e-7 else gain < 1}


def _sector(system: Any) -> Answer:
    return {"limit": stability.sector_limit(system)}


def _true_sector(system: Any, answer: Answer) -> Answer:
    """Where the real part is 0 but for 1e-12 of the response the function says inf, as it says of itself."""
    line = exact.line(system)
    limit = exact.sector_limit(line)
    return {"limit": math.inf if limit * exact.hinf(line) > 1e12 else limit}


def _gap_arguments(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    discrete = tuple(k for k in systems.DISCRETE)
    kind = _kind(rng, discrete)
    first, second = (
        (f"siso({k!r}, {order}, {form!r}, {seed})", systems.siso(k, order, form, seed))
        for k, order, form, seed in (
            (kind if i == 0 or rng.random() < 0.5 else _kind(rng, discrete), min(_order(rng), 8),
             str(rng.choice(systems.FORMS)), int(rng.integers(10**6)))
            for i in range(2)
        )
    )  # fmt: skip
    return f"{first[0]}, {second[0]}", (first[1], second[1])


def _gap(plant: Any, other: Any) -> Answer:
    return {"gap": stability.nu_gap(plant, other)}


def _true_gap(plant: Any, other: Any, answer: Answer) -> Answer:
    return {"gap": exact.nu_gap(exact.line(plant), exact.line(other))}


def _not_zero(x: Any) -> float:
    """Three digits: a law without its integral or its derivative has fewer poles, and is another question."""
    return round(float(x), 3) or 0.001


def _controller(rng: np.random.Generator) -> tuple[str, Any]:
    if rng.random() < 0.4:
        gains = [_not_zero(x) for x in rng.uniform([-0.2, -0.1, -0.4], [1.6, 1.0, 0.6])]
        form = str(rng.choice(["printed", "ema"]))
        return f"PID{(*gains, form)}", PID(*gains, form=form)
    kind = _kind(rng, tuple(k for k in systems.DISCRETE if k != "two integrators"))
    order, seed = min(_order(rng), 10), int(rng.integers(10**6))
    factor = round(float(rng.uniform(0.05, 0.6)), 3)
    return f"times(siso({kind!r}, {order}, 'tf', {seed}), {factor})", systems.times(
        systems.siso(kind, order, "tf", seed), factor
    )


def fraction(controller: Any) -> tuple[list[Any], list[Any]]:
    """(num, den) of C(z), ascending, of mpf: the laws of a PID are written here anew."""
    if isinstance(controller, PID):
        p, i, d = (mpf(float(g)) for g in (controller.kp, controller.ki, controller.kd))
        if controller.form == "printed":  # p + i z/(z-1) + d (z-1)/z over z (z-1)
            return [d, -p - 2 * d, p + i + d], [mpf(0), mpf(-1), mpf(1)]
        g = mpf(float(controller.ema))  # p + i g/(z-1+g) + d (z-1)/z^2 over z^2 (z-1+g)
        lag = [g - 1, mpf(1)]
        num = exact.plus([mpf(0), mpf(0), *(p * c for c in lag)], [mpf(0), mpf(0), i * g])
        return exact.plus(num, exact.times([-d, d], lag)), [mpf(0), mpf(0), *lag]
    num, den = ([mpf(float(c)) for c in p[0][0][::-1]] for p in (controller.num, controller.den))
    while len(num) > 1 and num[-1] == 0:
        num = num[:-1]
    return num, den


def _mode(controller: Any) -> tuple[list[Any], list[Any]]:
    """(z den + num, -den) on the s-line, so that the mode of alpha is their sum with the factor alpha."""
    num, den = fraction(controller)
    fixed = exact.plus([mpf(0), *den], num)
    term = [-c for c in den] + [mpf(0)]
    return exact.to_s(fixed), exact.to_s(term)


def _intervals(pairs: Any) -> Answer:
    return {"low": np.array([low for low, _ in pairs]), "high": np.array([high for _, high in pairs])}


def _stability_set(controller: Any) -> Answer:
    return _intervals(stability.stability_set(controller))


def _true_set(controller: Any, answer: Answer) -> Answer:
    with mp.workdps(exact.DIGITS):
        return _intervals(exact.stable_gains(*_mode(controller)))


def _interval(controller: Any) -> Answer:
    low, high = stability.stability_interval(controller)
    return {"low": low, "high": high}


def _true_interval(controller: Any, answer: Answer) -> Answer:
    with mp.workdps(exact.DIGITS):
        pairs = exact.stable_gains(*_mode(controller))
    return {"low": pairs[0][0], "high": pairs[0][1]} if pairs else {"low": math.nan, "high": math.nan}


def _several(controller: Any) -> bool:
    with mp.workdps(exact.DIGITS):
        return len(exact.stable_gains(*_mode(controller))) > 1


def _peaks_arguments(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    name, controller = _controller(rng)
    alpha = round(float(rng.choice([rng.uniform(-0.9, 1.05), 1.0])), 3)
    return f"{name}, {alpha}", (controller, alpha)


def _peaks(controller: Any, alpha: float) -> Answer:
    peaks = sensitivity_peaks(controller, alpha)
    return {"ms": peaks.ms, "mt": peaks.mt}


def _true_peaks(controller: Any, alpha: float, answer: Answer) -> Answer:
    with mp.workdps(exact.DIGITS):
        num, den = fraction(controller)
        den = exact.times(den, [-mpf(alpha), mpf(1)])
        num = [*num, *[mpf(0)] * (len(den) - len(num))]
        ms, mt = exact.sensitivity(exact.Line(exact.to_s(num), exact.to_s(den), True))
    return {"ms": ms, "mt": mt}


GAINS = ("kp", "ki", "kd", "skip", "feedback")


def _plane_arguments(rng: np.random.Generator) -> tuple[str, tuple[Any, ...]]:
    axes = tuple(str(x) for x in rng.choice(GAINS, 2, replace=False))
    own = {g: _not_zero(x) for g, x in zip(GAINS, rng.uniform(
        [0.0, 0.0, -0.2, -0.2, 0.2], [1.2, 0.6, 0.3, 1.0, 1.0]), strict=True)}  # fmt: skip
    spectrum = tuple(round(float(x), 3) for x in rng.uniform(-0.3, 1.0, int(rng.integers(1, 5))))
    first = round(float(rng.uniform(0.0, 1.0)), 3)
    return f"{own}, {axes}, {spectrum}, {first}", (own, axes, spectrum, first)


def _of_gains(own: dict[str, float]) -> Loop:
    return Loop(
        CausalMean(), skip=own["skip"], feedback=own["feedback"], controller=PID(own["kp"], own["ki"], own["kd"])
    )


def _gain_intervals(own: Any, axes: Any, spectrum: Any, first: float) -> Answer:
    return _intervals(stability.gain_intervals(_of_gains(own), axes, np.array(spectrum), first))


def _gain_region(own: Any, axes: Any, spectrum: Any, first: float) -> Answer:
    return _intervals(stability.gain_region(_of_gains(own), axes, np.array(spectrum), [first, 0.2])[0])


def _true_plane(own: Any, axes: Any, spectrum: Any, first: float, answer: Answer) -> Answer:
    """The intersection over the modes, each affine in the second gain."""
    with mp.workdps(exact.DIGITS):
        gains = {name: mpf(float(value)) for name, value in own.items()} | {axes[0]: mpf(float(first))}
        common = [(-math.inf, math.inf)]
        for a in spectrum:
            at = [_characteristic(gains | {axes[1]: mpf(k)}, mpf(float(a))) for k in (0, 1)]
            fixed, term = exact.to_s(at[0]), exact.to_s(exact.plus(at[1], at[0], -1))
            good = exact.stable_gains(fixed, term)
            pairs = [(max(p[0], q[0]), min(p[1], q[1])) for p in common for q in good]
            common = sorted((low, high) for low, high in pairs if low < high)
    return _intervals(common)


def _characteristic(g: dict[str, Any], a: Any) -> list[Any]:
    """z (z-1)(z - skip - feedback a) + kp z (z-1) + ki z^2 + kd (z-1)^2."""
    alpha = g["skip"] + g["feedback"] * a
    p = [mpf(0), alpha, -1 - alpha, mpf(1)]
    return exact.plus(p, [g["kd"], -g["kp"] - 2 * g["kd"], g["kp"] + g["ki"] + g["kd"], mpf(0)])


QUESTIONS: dict[str, Question] = {
    "margins": Question(_alone(_loop), _margins, _true_margins),
    "crossings": Question(_alone(_loop), _crossings, _true_crossings),
    "gain_margin": Question(
        _alone(_loop), lambda loop: {"gain_margin": stability.gain_margin(loop)},
        lambda loop, _: {"gain_margin": exact.margins(exact.line(loop)).gain_margin},
    ),
    "loop_margins": Question(_alone(_square_loop), _loop_margins, _true_loop_margins),
    "disk_margin": Question(_disk_arguments, _disk, _true_disk),
    "hinf_norm": Question(_alone(_any), _hinf, _true_hinf),
    "peak_gain": Question(_alone(_any), _peak, _true_peak),
    "h2_norm": Question(_alone(_any), _h2, _true_h2),
    "gramians": Question(_gramian_arguments, _gramian, _true_gramian, refuses=_diverges),
    "hankel_singular_values": Question(_alone(_any), _hankel, _true_hankel, refuses=_diverges),
    "balanced_truncation": Question(
        _truncation_arguments, _truncation, _true_truncation, refuses=_diverges
    ),
    "stability_set": Question(_alone(_controller), _stability_set, _true_set),
    "stability_interval": Question(_alone(_controller), _interval, _true_interval, refuses=_several),
    "gain_intervals": Question(_plane_arguments, _gain_intervals, _true_plane),
    "gain_region": Question(_plane_arguments, _gain_region, _true_plane),
    "circle_criterion": Question(_circle_arguments, _circle, _true_circle),
    "sector_limit": Question(_alone(_system), _sector, _true_sector),
    "sensitivity_peaks": Question(_peaks_arguments, _peaks, _true_peaks),
    "nu_gap": Question(_gap_arguments, _gap, _true_gap),
}  # fmt: skip
