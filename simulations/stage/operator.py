"""One pass of the automaton as a matrix: L = (I + g M)^-1 in sequence, I - g M in parallel, M the strict causal mean.

This module measures for the scene `02_operator.py` the growth, the frequency response and the hidden spectrum of that
matrix, and sets each number beside the one that the theory states.
"""

import math
from dataclasses import replace
from itertools import accumulate

import numpy as np

from ctrlattn import CausalMean, Loop, linearize, pass_operator, rms_norm, simulate, stream

SEQUENTIAL = Loop(CausalMean(), order="sequential")

ORDERS = {"sequential": SEQUENTIAL, "parallel": Loop(CausalMean())}

NORMED = replace(SEQUENTIAL, normalizer=rms_norm)

DISKS = {"sequential": (2 / 3, 1 / 3), "parallel": (0.0, 1.0)}  # centre, radius of the infinite spectrum

# Points inside and outside of them, at which the resolvent is taken.
INSIDE = {"sequential": (0.5, 2 / 3, 2 / 3 + 0.2j), "parallel": (0.0, -0.5, 0.5j)}

OUTSIDE = {"sequential": (1.2, -0.5, 2 / 3 + 0.6j), "parallel": (1.5, -1.5, 1.5j)}

GAINS = (0.5, 1.0, 2.0)

ALPHAS = np.array([0.0, 0.5, 1.0, 2.0, 3.0])

OMEGA = np.geomspace(np.pi / 256, np.pi, 33)

GRID = np.linspace(-0.3, 1.5, 56), np.linspace(0, 0.9, 28)  # real and imaginary parts of the map


def norm(array):
    """Largest singular value, or the length of a vector."""
    return float(np.linalg.norm(array, 2))


def operator_error(order, gain, n):
    """The pass, found by running the loop on the identity, against its formula with the predictor's own M."""
    m = gain * CausalMean()(np.eye(n))
    formula = np.linalg.inv(np.eye(n) + m) if order == "sequential" else np.eye(n) - m
    return float(np.max(np.abs(pass_operator(replace(ORDERS[order], feedback=-gain), n) - formula)))


def closed_form(x):
    """One sequential pass without a recursion: x'_i = x_i - sum_{1 <= j < i} j x_j / (i (i - 1)), i >= 2."""
    i = np.arange(len(x), dtype=float)[:, None]
    weighted = np.cumsum(i * x, axis=0)
    return np.concatenate([x[:1], x[1:2] - x[:1], x[2:] - weighted[1:-1] / (i[2:] * (i[2:] - 1))])


def streamed(x, passes):
    """Token by token, all passes at once, with a memory that does not grow."""
    tokens = stream(SEQUENTIAL, passes)
    return np.stack([tokens.push(token) for token in x])


def powers(matrix, last):
    """matrix^1, matrix^2, ..., matrix^last by single steps: squaring would lose half of the digits."""
    return accumulate([matrix] * last, lambda power, m: m @ power)


def growth_exponent(gain, n, octaves):
    """Slopes of ln ||L^p|| over sqrt(p) from p to 2p, and their limit, as the error falls like 1/sqrt(p)."""
    p = 2 ** np.arange(octaves + 1)
    matrix = pass_operator(replace(SEQUENTIAL, feedback=-gain), n)
    size = [math.log(norm(power)) for k, power in enumerate(powers(matrix, p[-1]), 1) if k in p]
    slopes = (np.diff(size) / np.diff(np.sqrt(p))).tolist()
    return {"p": p[1:].tolist(), "slopes": slopes, "limit": slopes[-1] + (slopes[-1] - slopes[-2]) / (2**0.5 - 1)}


def corner_growth(n, p):
    """||L^p|| over p^(n-1) / ((n-1)!)^2."""
    return norm(np.linalg.matrix_power(pass_operator(SEQUENTIAL, n), p)) * math.factorial(n - 1) ** 2 / p ** (n - 1)


def numerical_radius(matrix, angles=181):
    """max_t lambda_max of the Hermitian part of e^{it} A, on a grid that holds t = 0 and pi."""
    rotations = (np.exp(1j * t) * matrix for t in np.linspace(0, np.pi, angles))
    return max(float(np.linalg.eigvalsh((a + a.conj().T) / 2)[-1]) for a in rotations)


def resolvent(matrix, z):
    """||(z I - A)^-1||."""
    return float(1 / np.linalg.svd(z * np.eye(len(matrix)) - matrix, compute_uv=False)[-1])


def growth_map(half, full):
    """Power of n with which ||(z - L)^-1|| grows from one size to its double, on GRID; beyond 1e12 it is rounding."""
    sizes = [[[resolvent(m, re + 1j * im) for m in (half, full)] for re in GRID[0]] for im in GRID[1]]
    return [[math.log2(b / a) if b < 1e12 else None for a, b in row] for row in sizes]


def last_ratio(order, alpha, n=4000):
    """What one pass does to the last of n tokens of the signal i^alpha (constants: alpha = 0)."""
    x = np.arange(1.0, n + 1)[:, None] ** alpha
    return float((simulate(ORDERS[order], x, 1, record="last").state[-1] / x[-1])[0])


def waves(order, omega, n, passes):
    """Gain (omegas, tokens) on e^{i w t}, and max over the tokens t >= 32 of its change times t / passes."""
    phase = np.outer(np.arange(n), omega)
    x = np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)
    end = simulate(ORDERS[order], x, passes, record="last").state
    start, end = (v[:, : len(omega)] + 1j * v[:, len(omega) :] for v in (x, end))
    change = np.abs(end - start)[32:] * np.arange(32, n)[:, None] / passes
    return [np.abs(end).T.tolist(), np.max(change, axis=0).tolist()]


def helmert(n, sigma2=0.7, tau2=1.9):
    """Parallel pass on tokens of covariance sigma^2 I + tau^2 1 1^T: what is left off the diagonal, and row 0."""
    matrix = pass_operator(ORDERS["parallel"], n)
    covariance = matrix @ (sigma2 * np.eye(n) + tau2) @ matrix.T
    off_diagonal = covariance[1:, 1:] - np.diag(np.diag(covariance)[1:])
    return [float(np.max(np.abs(off_diagonal))), (-covariance[0, 1:] * np.arange(1, n) / sigma2).tolist()]


def norm_jacobian(d, rng):
    """The normed layer on one token by autodiff minus (1/rms)(I - x x^T / (d rms^2)), largest element."""
    x = rng.standard_normal((1, d))
    rms = np.sqrt(np.mean(x**2))
    return float(np.max(np.abs(linearize(NORMED, x).A - (np.eye(d) - x.T @ x / (d * rms**2)) / rms)))


def attractor(n, d, passes, rng):
    """Every pair's distance from antipodal over the passes, the rates of its decay, eigenvalue moduli at the end."""
    state = simulate(NORMED, rng.standard_normal((n, d)), passes).state
    gap = np.linalg.norm(state[:, 1::2] + state[:, 0::2], axis=-1) / math.sqrt(d)
    linear = [np.flatnonzero((g[1:] < 1e-3) & (g[1:] > 1e-9)) for g in gap.T]  # small, and above rounding
    rates = [float((g[1 + t[-1]] / g[1 + t[0]]) ** (1 / (t[-1] - t[0]))) for g, t in zip(gap.T, linear, strict=True)]
    moduli = np.abs(np.linalg.eigvals(linearize(NORMED, state[-1]).A))
    return {"gap": gap.T.tolist(), "rates": rates, "moduli": np.sort(moduli)[::-1].tolist()}


def held_token(scale, n, d, passes, seed):
    """Distance of every pair from antipodal in the long run, token 0 held at length scale sqrt(d): median of 20."""
    x = np.random.default_rng(seed).standard_normal((20, n, d))
    x[:, 0] *= scale * math.sqrt(d) / np.linalg.norm(x[:, 0], axis=-1, keepdims=True)
    x = simulate(replace(NORMED, hold_first=True), x, passes, record="last").state
    return np.median(np.linalg.norm(x[:, 1::2] + x[:, 0::2], axis=-1) / math.sqrt(d), axis=0).tolist()


def measure(seed, full):
    """Every number of this scene."""
    rng, sizes = np.random.default_rng(seed), (4, 8, 16, 32, 64, 128, 256) if full else (4, 8, 16, 32, 64)
    x = rng.standard_normal((40, 3))
    matrices = {order: [pass_operator(loop, n) for n in sizes] for order, loop in ORDERS.items()}
    sides = {"inside": INSIDE, "outside": OUTSIDE}
    return {
        "seed": seed,
        "sizes": list(sizes),
        "operator": {order: [operator_error(order, g, sizes[-1]) for g in GAINS] for order in ORDERS},
        "closed form": float(np.max(np.abs(simulate(SEQUENTIAL, x, 1).state[1] - closed_form(x)))),
        "streamed": float(np.max(np.abs(simulate(SEQUENTIAL, x, 7).state[7] - streamed(x, 7)))),
        "growth": {order: [[norm(power) for power in powers(m, 20)] for m in of] for order, of in matrices.items()},
        "corner": [corner_growth(n, 10**6) for n in (2, 3, 4, 5)],
        "exponent": {str(g): growth_exponent(g, *((200, 10) if full else (64, 7))) for g in GAINS},
        "tokens": [np.linalg.norm(power, axis=1).tolist() for power in powers(matrices["sequential"][4], 20)],
        "radius": {order: numerical_radius(of[4]) for order, of in matrices.items()},
        "triangular": {order: [norm(np.triu(of[-1], 1)), norm(np.diag(of[-1]) - 1)] for order, of in matrices.items()},
        "kreiss": [eps * resolvent(matrices["sequential"][0], 1 + eps) for eps in (1e-1, 1e-2, 1e-3)],
        "resolvent": {
            side: {order: [[resolvent(m, z) for m in matrices[order]] for z in at[order]] for order in ORDERS}
            for side, at in sides.items()
        },
        "map": growth_map(*matrices["sequential"][-2:]),
        "powers of i": {order: [last_ratio(order, alpha) for alpha in ALPHAS] for order in ORDERS},
        "waves": {order: waves(order, OMEGA, 512, 4) for order in ORDERS},
        "helmert": helmert(30),
        "norm's jacobian": norm_jacobian(6, rng),
        "attractor": attractor(8, 5, 400, rng),
        "held": {str(c): held_token(c, 8, 8, 2000 if full else 500, seed) for c in (0.3, 1.0, 1.5, 3.0, 10.0)},
    }


def statements(numbers):
    """[(statement, stated value, found value, tolerance)]: what the theory states about one pass, in numbers."""
    growth, at = np.array(numbers["growth"]["sequential"]), numbers["sizes"].index(32)
    pairs = list(numbers["held"].values())
    odd, moduli = np.arange(1, 8, 2), np.array(numbers["attractor"]["moduli"])
    change = {order: np.array(values) * np.sin(OMEGA / 2) for order, (_, values) in numbers["waves"].items()}
    double = {
        side: {order: np.diff(np.log2(rows))[:, -1] for order, rows in of.items()}
        for side, of in numbers["resolvent"].items()
    }
    m = {"sequential": 1 / np.array(INSIDE["sequential"]) - 1, "parallel": 1 - np.array(INSIDE["parallel"])}
    return [
        *((f"{order} pass minus its formula, g = 1/2, 1, 2", 0, numbers["operator"][order], 1e-12) for order in ORDERS),
        ("sequential pass minus its closed form", 0, numbers["closed form"], 1e-12),
        ("seven passes minus seven passes streamed in one sweep", 0, numbers["streamed"], 1e-12),
        ("all eigenvalues 1: upper triangle, diagonal minus 1", 0, list(numbers["triangular"].values()), 1e-14),
        ("||L^p||, p = 1, 2, 5, 32 tokens", [1.657, 2.603, 7.621], growth[at, [0, 1, 4]], 6e-4),
        ("its range from 32 tokens on, p <= 5", 0, np.ptp(growth[at:, :5], axis=0), 5e-4),
        ("||L^p|| ((n-1)!)^2 / p^(n-1), p = 10^6, 2 to 5 tokens", 1, numbers["corner"], 1e-4),
        *(
            (f"exponent of the growth, g = {g}", 2 * math.sqrt(float(g) * math.log(2)), curve["limit"], 0.02)
            for g, curve in numbers["exponent"].items()
        ),
        ("i^a in sequence: (a+1)/(a+2)", (ALPHAS + 1) / (ALPHAS + 2), numbers["powers of i"]["sequential"], 1e-3),
        ("i^a in parallel: a/(a+1)", ALPHAS / (ALPHAS + 1), numbers["powers of i"]["parallel"], 1e-3),
        *(
            (f"change of a wave, times token sin(w/2) / passes, {order}: below 1.5", 0, np.max(values), 1.5)
            for order, values in change.items()
        ),
        (
            "Kreiss ratio, 4 tokens: power of 1/(|z| - 1) with which it diverges",
            3,
            np.diff(np.log10(numbers["kreiss"])),
            0.1,
        ),
        *(
            (f"numerical radius, {order}", stated, numbers["radius"][order], 6e-5)
            for order, stated in zip(ORDERS, (1.5591, 1.5), strict=True)
        ),
        *(
            (f"resolvent inside the disk, {o}: power of n", np.real(1 / m[o]) - 0.5, double["inside"][o], 0.1)
            for o in ORDERS
        ),
        *((f"resolvent outside the disk, {o}: power of n", 0, double["outside"][o], 0.1) for o in ORDERS),
        ("parallel pass, covariance sigma^2 I + tau^2 11^T: left off the diagonal", 0, numbers["helmert"][0], 1e-12),
        ("covariance of tokens 0 and i, over -sigma^2 / i", 1, numbers["helmert"][1], 1e-12),
        ("Jacobian of the RMS norm minus its formula", 0, numbers["norm's jacobian"], 1e-12),
        ("distance from antipodal pairs in the end", 0, np.array(numbers["attractor"]["gap"])[:, -1], 1e-9),
        ("rate of the odd token i: i/(i+1)", odd / (odd + 1), numbers["attractor"]["rates"], 2e-3),
        ("largest Lyapunov exponent on the attractor", 0, math.log(moduli[0]), 1e-6),
        ("neutral directions: even tokens times d - 1", 4 * 4, int(np.sum(moduli > 1 - 1e-6)), 0),
        ("token 0 held at length 0.3, 1, 1.5: first pair off by", [0.7, 0, 0.5], [c[0] for c in pairs[:3]], 1e-6),
        ("held at 3 and 10: the second pair is parallel, its distance 2", 2, [c[1] for c in pairs[3:]], 0.01),
    ]
