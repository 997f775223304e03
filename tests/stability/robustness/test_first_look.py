"""The straight way to the peak of a small system: the same number as step by step, or none where a check fails."""

import contextlib
import math

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import boundary, level_sets, rounding, units
from ctrlattn.linear.realization import Realization
from ctrlattn.stability.robustness import first_look as room
from ctrlattn.stability.robustness import norms
from ctrlattn.stability.robustness.first_look import first_look


def dense(poles, rng, channels=(1, 1), direct=0.0):
    """Real and dense, with these poles and the conjugates of those that are complex; a repeated one is defective."""
    blocks = [np.array([[p.real, p.imag], [-p.imag, p.real]]) if p.imag else np.array([[p.real]]) for p in poles]
    n, at = sum(map(len, blocks)), 0
    a = np.zeros((n, n))
    for block in blocks:
        a[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    a += np.triu(rng.standard_normal((n, n)), 2) * 0.1
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    outputs, inputs = channels
    b, c = rng.standard_normal((n, inputs)), rng.standard_normal((outputs, n))
    return Realization(turn @ a @ turn.T, b, c, direct * rng.standard_normal(channels), False)


def hard(seed):
    """Three to twelve states with clustered, repeated and lightly damped poles, and poles next to 1 and -1."""
    rng = np.random.default_rng([11, seed])
    near = 10.0 ** rng.uniform(-5, -1)
    centre = np.exp(1j * rng.uniform(0.05, 3.1))
    kinds = [
        [(1 - near) * centre * np.exp(1j * near * k) for k in range(int(rng.integers(2, 5)))],
        [complex(1 - near)] * 3,
        [complex(-1 + near), complex(-1 + 2 * near), complex(rng.uniform(-0.9, 0.9))],
        [(1 - near) * centre, (1 - near * rng.uniform(1, 9)) * centre.conjugate() ** 2, 0.5 + 0j],
        [complex(x) for x in rng.uniform(-0.95, 0.95, 5)],
    ]
    channels = tuple(int(x) for x in rng.integers(1, 3, 2))
    return dense(kinds[seed % 5], rng, channels, direct=float(rng.choice([0.0, 0.0, 1.0, 30.0])))


def sampled(g, w):
    points = np.exp(1j * w)[:, None, None] * np.eye(len(g.a)) - g.a
    return np.linalg.norm(g.c @ np.linalg.solve(points, g.b.astype(complex)) + g.d, 2, axis=(1, 2))


def highest(g, poles):
    """Of plain solves: about each pole, on all of the axis, and about the best of these."""
    angles, widths = np.abs(np.angle(poles)), np.abs(1 - np.abs(poles))
    w = np.concatenate(
        [np.linspace(0, np.pi, 101), *(a + d * np.linspace(-6, 6, 121) for a, d in zip(angles, widths, strict=True))]
    )
    gains = sampled(g, w)
    best, width = w[np.argmax(gains)], widths.min()
    return max(gains.max(), sampled(g, best + width * np.linspace(-0.2, 0.2, 401)).max())


def test_hard_systems_have_the_peak_of_plain_solves_or_none():
    """No point is above the upper bound, and the value is attained."""
    answered, count = 0, 150
    for seed in range(count):
        g = hard(seed)
        stable, poles = False, np.zeros(0)
        with contextlib.suppress(ArithmeticError):  # rounding decides
            stable, poles = g.stable_poles()
        peak = first_look(g, 1e-9, poles) if stable else None
        if peak is None:
            continue
        answered += 1
        rounding_share = 1e-9 + 10 * peak.residual
        assert peak.value <= peak.upper <= peak.value * (1 + 1e-5)
        assert highest(g, poles) <= peak.upper * (1 + rounding_share), (seed, peak)
        assert_allclose(sampled(g, np.array([peak.frequency])), peak.value, rtol=1e-8 + 100 * peak.residual)
    assert answered > 0.7 * count


@pytest.mark.parametrize("n", [3, 5, 12, 13, 30])
@pytest.mark.parametrize("channels", [(1, 1), (2, 2), (1, 3), (4, 2)])
def test_step_by_step_has_the_same_peak(n, channels, monkeypatch):
    rng = np.random.default_rng([n, *channels])
    a = rng.standard_normal((n, n))
    a *= 0.95 / np.abs(np.linalg.eigvals(a)).max()
    b, c, d = (rng.standard_normal(shape) for shape in ((n, channels[1]), (channels[0], n), channels))
    for scale in (1.0, 1e-40, 1e60):
        g = Realization(a, b * scale, c, d * scale, False)
        poles = g.stable_poles()[1]
        peak = first_look(g, 1e-9, poles)
        monkeypatch.setattr(norms, "first_look", lambda *_: None)
        expected = norms.level_set_peak(g, 1e-9, poles)
        monkeypatch.undo()
        assert_allclose(peak.value, expected.value, rtol=2e-9)
        assert_allclose(peak.frequency, expected.frequency, atol=1e-4)
        assert_allclose(peak.upper, expected.upper, rtol=4e-9)
        assert norms.level_set_peak(g, 1e-9, poles) == peak


EXAMPLE = dense([0.9 + 0.2j, -0.5 + 0.1j, 0.3 + 0j], np.random.default_rng(0), (2, 2), 1.0)


@every_case(
    "other",
    [
        EXAMPLE._replace(continuous=True),
        EXAMPLE._replace(a=EXAMPLE.a.astype(complex)),
        EXAMPLE._replace(a=np.triu(EXAMPLE.a)),
        dense([0.5 + 0j, 0.2 + 0j], np.random.default_rng(0)),
        dense([complex(0.1 * k) for k in range(-4, 5)], np.random.default_rng(0), (3, 3)),
        EXAMPLE._replace(b=0 * EXAMPLE.b),
        EXAMPLE._replace(d=np.zeros((2, 0)), b=np.zeros((len(EXAMPLE.a), 0))),
    ],
)
def test_other_systems_are_left_alone(other):
    assert first_look(other, 1e-9, np.full(len(other.a), 0.5 + 0j)) is None


def test_each_check_has_its_say(monkeypatch):
    poles = EXAMPLE.stable_poles()[1]
    peak = first_look(EXAMPLE, 1e-9, poles)
    assert peak.value == pytest.approx(highest(EXAMPLE, poles), rel=1e-5)
    climb, scale = boundary.climbed, units.scaled
    grid, moved = boundary.circle_grid, rounding.moved
    middle = np.array([peak.frequency])
    for where, name, wrong in (
        (boundary, "climbed", lambda s, w, k: (0.9 * climb(s, w, k)[0], 0.0) if k else climb(s, w, k)),
        (boundary, "climbed", lambda s, w, k: (math.inf, 0.0)),
        (boundary, "climbed", lambda s, w, k: (1.0001 * climb(s, w, k)[0], climb(s, w, k)[1]) if k else climb(s, w, k)),
        (rounding, "moved", lambda *x: (1e12, *moved(*x)[1:])),
        (rounding, "moved", lambda *x: (*moved(*x)[:2], False)),
        (rounding, "moved", lambda *x: (moved(*x)[0], math.nan, True)),
        (units, "scaled", lambda *x: (1001, *scale(*x)[1:])),
        (boundary, "circle_grid", lambda *x: (grid(*x)[0], 1e-15, 0.1)),
        (level_sets, "crossings_about", lambda z, *x: (middle[:0], math.nan)),
    ):
        monkeypatch.setattr(where, name, wrong)
        assert first_look(EXAMPLE, 1e-9, poles) is None
        monkeypatch.undo()


@pytest.mark.parametrize("z", [1.0, -1.0])
def test_each_of_the_two_maps_alone_sees_a_peak_that_the_climb_missed(z, monkeypatch):
    """The grid has no point near the peak, and the other map shows nothing."""
    g = dense([0.99 * np.exp(1j), 0.5 + 0j], np.random.default_rng(3))
    poles = g.stable_poles()[1]
    monkeypatch.setattr(boundary, "circle_grid", lambda *_: (np.array([0.0, 2.0, np.pi]), 0.01, 2.0))
    monkeypatch.setattr(room, "CLIMBS", 0)
    about = level_sets.crossings_about
    monkeypatch.setattr(level_sets, "crossings_about", lambda at, *x: about(at, *x) if at == z else (np.empty(0), 1.0))
    assert first_look(g, 1e-9, poles) is None
    monkeypatch.setattr(level_sets, "crossings_about", lambda at, *x: (np.empty(0), 1.0))
    assert first_look(g, 1e-9, poles) is not None


@pytest.mark.parametrize("end", [1, -1])
def test_a_peak_at_an_end_is_confirmed_by_the_pencil_and_one_map(end, monkeypatch):
    """The direct term of the other map is the response at the peak."""
    turn, b = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0], np.array([[1.0], [2.0], [-3.0]])
    g = Realization(end * turn @ np.diag([0.9, 0.5, 0.1]) @ turn.T, b, b.T, np.zeros((1, 1)), False)
    poles, asked, pencil = g.stable_poles()[1], [], room.pencil_crossings
    monkeypatch.setattr(room, "pencil_crossings", lambda *given: asked.append(1) or pencil(*given))
    peak = first_look(g, 1e-9, poles)
    assert (len(asked), peak.frequency) == (1, 0.0 if end > 0 else np.pi)
    assert peak.value == pytest.approx(abs((g.c @ np.linalg.solve(end * np.eye(3) - g.a, g.b)).item()))
    monkeypatch.setattr(room, "pencil_crossings", lambda *_: np.array([1.0]))
    monkeypatch.setattr(room, "_peak_between", lambda sides, crossings: 2.0**99 if crossings.tolist() == [1.0] else 0.0)
    assert first_look(g, 1e-9, poles) is None
