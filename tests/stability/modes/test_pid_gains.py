"""Many gains at once give what one controller at a time gives, degenerate ones included."""

from dataclasses import replace

import numpy as np
import pytest
from cases import every_case

from ctrlattn import PID, InputError, presets, stability_interval
from ctrlattn.linear.mode_matrix import mode_matrix
from ctrlattn.stability.modes import pid_gains
from ctrlattn.stability.modes.pid_gains import pid_intervals, pid_terms, pid_unstable_share
from ctrlattn.stability.modes.regions import unstable_share


def cells(count, seed):
    """Gains over and beyond what is stable; a third has no I, no D, or neither, and some are the edges of the law."""
    rng = np.random.default_rng(seed)
    gains = rng.uniform([-1.5, -0.5, -1.2], [2.5, 4.5, 1.2], (count, 3))
    gains[::7, 1], gains[::11, 2] = 0, 0
    gains[3::50], gains[4::50, 0], gains[5::50, 2], gains[6::50, 1] = 0, 0, 1, 4
    return gains


@pytest.mark.slow
@every_case("form, ema", [("printed", 0.3), ("ema", 0.3), ("ema", 1.0), ("ema", 0.04)])
def test_intervals_are_those_of_one_controller_at_a_time(form, ema):
    gains = cells(30, 0)
    low, high, sure = pid_intervals(gains, form, ema)
    assert sure.mean() > 0.97
    for g, ends in zip(gains[sure], np.stack([low, high], 1)[sure], strict=True):
        np.testing.assert_allclose(ends, stability_interval(PID(*g, form=form, ema=ema)), rtol=1e-9, atol=1e-9)


def test_printed_intervals_are_the_closed_form():
    (kp, ki, kd), (low, high, _) = cells(500, 1).T, pid_intervals(cells(500, 1), "printed")
    inside = (ki >= 0) & (np.abs(kd) < 1) & (kp + ki / 2 + 2 * kd - 1 < 1 + kp + ki * kd / (1 + kd))
    np.testing.assert_array_equal(np.isfinite(low), inside)
    np.testing.assert_allclose(low[inside], (kp + ki / 2 + 2 * kd - 1)[inside], rtol=1e-15)
    np.testing.assert_allclose(high[inside], (1 + kp + ki * kd / (1 + kd))[inside], rtol=1e-15)


def test_several_intervals_are_left_to_one_controller():
    """An ema law with two stable intervals: the answer of one controller is a refusal."""
    rng = np.random.default_rng(3)
    gains = rng.uniform([0, -3, -2], [1, 6, 2], (20_000, 3))
    unsure = gains[~pid_intervals(gains, "ema", 0.5)[2]]
    several = 0
    for g in unsure[:40]:
        try:
            stability_interval(PID(*g, form="ema", ema=0.5))
        except InputError as error:
            several += "union" in str(error)
    assert len(unsure) < 200
    assert several or not len(unsure)


@pytest.mark.slow
@every_case("form", ["printed", "ema"])
@every_case("real", [True, False])
def test_shares_are_those_of_one_controller_at_a_time(form, real):
    rng = np.random.default_rng(5)
    modes = np.concatenate([rng.uniform(-1, 1, 40) + 0.5j * rng.uniform(-1, 1, 40), [1.0, 1.0, 0.0]])
    modes = modes.real if real else modes
    loop, gains = presets.get(f"pidformer-{form}"), cells(57, 2)
    expected = [float(unstable_share(replace(loop, controller=PID(*g, form=form)), modes)) for g in gains]
    np.testing.assert_array_equal(pid_unstable_share(loop, modes, gains, form), expected)


def test_a_mode_on_the_circle_is_not_outside():
    """Plain softmax keeps its consensus mode a = 1 for ever; a gain below 0 pushes it out."""
    loop = presets.get("neutreno")
    share = pid_unstable_share(loop, np.array([1.0, 0.5]), np.array([[0.0, 0, 0], [-0.1, 0, 0], [-1e-10, 0, 0]]))
    assert share.tolist() == [0.0, 0.5, 0.0]


@every_case("form", ["printed", "ema"])
@every_case("integral, derivative", [(True, True), (True, False), (False, True), (False, False)])
def test_terms_are_the_law(form, integral, derivative):
    gains = np.array([[0.7, 0.3 * integral, -0.2 * derivative]])
    law, terms = PID(*gains[0], form=form, ema=0.4), pid_terms(form, 0.4, integral=integral, derivative=derivative)
    num, den = law.fraction()
    np.testing.assert_allclose((gains @ terms.num)[0], np.pad(num, (len(den) - len(num), 0)), atol=1e-15)
    np.testing.assert_array_equal(terms.den, den)
    matrix = terms.matrices(gains, np.array([0.3 + 0.1j]))[0]
    np.testing.assert_allclose(matrix, mode_matrix(law, 0.3 + 0.1j), atol=1e-15)


@every_case("gains", [np.zeros(3), np.zeros((2, 2)), np.full((1, 3), np.nan)])
def test_gains_that_are_none_are_refused(gains):
    with pytest.raises(InputError, match=r"gains are \(k, 3\)"):
        pid_intervals(gains, "printed")
    with pytest.raises(InputError, match="at least one mode"):
        pid_unstable_share(presets.get("neutreno"), np.zeros(0), np.zeros((1, 3)))


def test_crossings_of_a_law_are_a_tie_only_where_every_coefficient_vanishes():
    """z + C(z) on the circle: with I alone one cos w crosses; 2 (1 + z)^2/z, g = 2, is real for every w."""
    with np.errstate(all="ignore"):
        c, tie = pid_gains._crossings(np.array([2.5]), np.array([0.0]), 0.5)
        assert c[:, 0].tolist()[1] == 0.0
        assert not tie[0]
        assert pid_gains._crossings(np.array([2.0]), np.array([-1.0]), 2.0)[1].tolist() == [True]


@every_case("one, other", [(0.3, 1.5), (-0.4, 0.7), (-1.9, 2.5), (-1.2, 0.99)])
@every_case("g", [0.3, 0.8, 1.6])
def test_crossings_are_the_cosines_that_solve_the_equation(one, other, g):
    """(1 - D + 2 D c)(1 + q^2 - 2 q c) - I g = -4 D q (c - c_1)(c - c_2), q = 1 - g: D and I from two roots."""
    q = 1 - g
    kd = 1 / (1 + 2 * ((1 + q**2) / (2 * q) - one - other))  # the sum of the roots
    ki = ((1 - kd) * (1 + q**2) + 4 * kd * q * one * other) / g  # their product
    for c in (one, other):
        assert (1 - kd + 2 * kd * c) * (1 + q**2 - 2 * q * c) == pytest.approx(ki * g, rel=1e-9, abs=1e-9)
    c, tie = pid_gains._crossings(np.array([ki]), np.array([kd]), g)
    inside = [root for root in (one, other) if abs(root) < 1]
    np.testing.assert_allclose(np.sort(c[:, 0])[: len(inside)], np.sort(inside), rtol=1e-9)
    assert np.isnan(c).sum() == 2 - len(inside)
    assert not tie[0]


def radii(gains, form, ema, alpha):
    """Largest root of (z - alpha) den + num for each alpha, by np.roots: nothing of the module is in it."""
    num, den = PID(*gains, form=form, ema=ema).fraction()
    return np.array([np.abs(np.roots(np.polyadd(np.polymul([1.0, -x], den), num))).max() for x in np.atleast_1d(alpha)])


@pytest.mark.parametrize("ema", [0.04, 0.3, 1.0])
def test_intervals_of_the_ema_law_are_stable_inside_and_nowhere_else(ema):
    """Every pattern of zero gains; where no interval is given, no mode of a grid is stable."""
    gains = cells(56, 7)
    low, high, sure = pid_intervals(gains, "ema", ema)
    assert sure.mean() > 0.9
    assert 5 < np.isfinite(low).sum() < 56
    for g, a, b in zip(gains[sure], low[sure], high[sure], strict=True):
        if np.isnan(a):
            assert np.isnan(b)
            assert radii(g, "ema", ema, np.linspace(-8, 8, 41)).min() >= 1 - 1e-9
        else:
            near = 1e-3 * min(b - a, 1.0)
            outer = radii(g, "ema", ema, [a + near, (a + b) / 2, b - near, a - near, b + near, a - 3, b + 3])
            assert (outer < 1).tolist() == [True] * 3 + [False] * 4


@every_case("kd", [-0.4, 0.0, 0.2])
@every_case("g", [0.3, 0.8])
def test_where_a_crossing_comes_or_goes_nothing_is_decided(kd, g):
    """f(c) = (1 - D + 2 D c)(1 + q^2 - 2 q c) - I g: a root at c = 1, at c = -1, and two that meet inside."""
    q = 1 - g
    double = ((1 - kd) * (1 + q * q) - (2 * kd * (1 + q * q) - 2 * q * (1 - kd)) ** 2 / (-16 * q * kd or 1.0)) / g
    ties = [(1 + kd) * g, (1 - 3 * kd) * (1 + q) ** 2 / g, *([double] if kd else [])]
    meets = (2 * kd * (1 + q * q) - 2 * q * (1 - kd)) / (8 * q * kd or 1.0)  # c of the double root
    for i, tie in enumerate(ties):
        if i == 2 and abs(meets) >= 1:
            continue
        gains = np.array([[0.2, tie * (1 + share), kd] for share in (0.0, 1e-9, -1e-9, 0.05, -0.05)])
        assert pid_intervals(gains, "ema", g)[2].tolist() == [False] * 3 + [True] * 2


def test_a_response_that_is_real_on_the_whole_circle_decides_nothing():
    """Without memory, g = 1, the law is z + P + I/z: real on the circle for I = 1; else 1 - |I| around P."""
    gains = np.array([[0.3, 1.0, 0.0], [0.3, 0.5, 0.0], [0.3, -0.5, 0.0], [0.3, 1.2, 0.0]])
    low, high, sure = pid_intervals(gains, "ema", 1.0)
    assert sure.tolist() == [False, True, True, True]
    np.testing.assert_allclose(low[1:], [0.3 - 1.5, 0.3 - 0.5, np.nan], rtol=1e-12)
    np.testing.assert_allclose(high[1:], [0.3 + 1.5, 0.3 + 0.5, np.nan], rtol=1e-12)


@pytest.mark.parametrize("form", ["printed", "ema"])
def test_a_proportional_gain_moves_an_interval_until_rounding_could_decide(form):
    base = np.array([[0.0, 0.4, 0.1], [0.0, 0.9, -0.3]])
    low, high, sure = pid_intervals(base, form)
    assert sure.all()
    for kp in (-7.0, 1e3):
        moved = pid_intervals(base + np.array([kp, 0, 0]), form)
        np.testing.assert_allclose(moved[:2], [low + kp, high + kp], rtol=1e-12)
        assert moved[2].all()
    assert pid_intervals(base + np.array([1e8, 0, 0]), form)[2].tolist() == [form == "printed"] * 2


def test_the_segment_that_is_stable_is_the_answer_and_two_of_them_are_none(monkeypatch):
    """Cuts in order, three segments: whichever alone is stable is returned, an unsure one or a second is told."""
    gains, g = np.array([[0.5, 1.0, 0.6]]), 0.3
    _, ki, kd = gains.T
    inner = pid_gains._critical(gains, pid_gains._crossings(ki, kd, g)[0], g)[:, 0]
    cuts = np.sort([1 + 0.5 + 1.0, 0.5 - 1 - 1.0 * g / (2 - g) - 1.2, *inner])
    assert np.all(np.isfinite(cuts))
    monkeypatch.setattr(pid_gains, "_ends_hold", lambda gains, g, low, high: np.ones(len(gains), bool))
    for pattern in np.ndindex(2, 2, 2):
        for unsure in (False, True):
            answer = np.array([pattern], bool), np.array([[False, False, unsure]])
            monkeypatch.setattr(pid_gains, "_stability_of", lambda gains, g, alpha, answer=answer: answer)
            low, high, sure = pid_intervals(gains, "ema", g)
            at = pattern.index(1) if 1 in pattern else None
            ends = [np.nan, np.nan] if at is None else cuts[at : at + 2]
            np.testing.assert_allclose([low[0], high[0]], ends, rtol=1e-12)
            assert sure[0] == (sum(pattern) < 2 and not unsure)


def test_an_end_that_the_poles_contradict_is_not_sure(monkeypatch):
    gains = np.array([[0.5, 0.4, 0.1], [0.0, 0.0, 1.2]])  # the other has no stable mode, and no end to check
    assert pid_intervals(gains, "ema")[2].tolist() == [True, True]
    decided = pid_gains._stability_of
    for wrong in range(4):
        sides = np.array([[True, True, False, False]] * 2)
        sides[:, wrong] ^= True
        with monkeypatch.context() as patch:
            patch.setattr(
                pid_gains, "_stability_of",
                lambda gains, g, alpha, s=sides: (s, ~s) if alpha.shape[1] == 4 else decided(gains, g, alpha),
            )  # fmt: skip
            assert pid_intervals(gains, "ema")[2].tolist() == [False, True]


@pytest.mark.parametrize("form", ["printed", "ema"])
@pytest.mark.parametrize("real", [True, False])
def test_shares_are_counts_of_roots_outside(form, real):
    """Modes of their own weight, some twice and in conjugate pairs, under every pattern of zero gains."""
    rng = np.random.default_rng(6)
    some = rng.uniform(-1, 1.5, 12) + (0.0 if real else 1j * rng.uniform(0.1, 0.9, 12))
    modes = np.concatenate([some, some[:5].conj(), some[:3], [0.9]])
    loop, gains = presets.get(f"pidformer-{form}"), cells(24, 3)
    alpha = loop.skip + loop.feedback * modes
    expected = [np.mean(radii(g, form, 0.3, alpha) > 1 + 1e-7) for g in gains]
    share = pid_unstable_share(loop, modes, gains, form)
    np.testing.assert_allclose(share, expected, rtol=1e-14)
    assert len(set(share.tolist())) > 5
    np.testing.assert_array_equal(pid_unstable_share(loop, modes.reshape(3, 7), gains[::-1], form), share[::-1])


def test_a_pole_is_outside_from_a_billionth_beyond_the_circle_on():
    """Under P alone the pole is a - P; the two gains lie on either side of 1 + 1e-9, as `unstable_share` draws it."""
    loop = presets.get("neutreno")
    gains = np.array([[-0.7e-9, 0, 0], [-1.5e-9, 0, 0], [-1e-8, 0, 0], [2 + 0.7e-9, 0, 0], [2 + 1.5e-9, 0, 0]])
    share = pid_unstable_share(loop, np.array([1.0]), gains)
    np.testing.assert_array_equal(share, [0, 1, 1, 0, 1])


def test_a_reflection_coefficient_within_a_millionth_of_the_circle_is_not_sure():
    """Under P alone it is the pole alpha - P itself; a segment without end is looked at and not stable."""
    alpha = 0.3 + np.array([[0.5, 1 - 1e-5, 1 - 1e-7, 1 + 1e-7, 1 + 1e-5, -1 + 1e-7, -1.5]])
    stable, unsure = pid_gains._stability_of(np.array([[0.3, 0.0, 0.0]]), 0.3, alpha)
    assert stable.tolist() == [[True, True, True, False, False, True, False]]
    assert unsure.tolist() == [[False, False, True, True, False, True, False]]
