"""The whole analysis of maps whose answer is known: rest, orbit, drift, chaos, and networks of many numbers."""

import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import PID, InputError, looped
from ctrlattn.arrays import like


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


START = np.array([[0.3, -0.7]])


@pytest.mark.parametrize("recall", [0.0, 0.5])
def test_a_loop_that_rests(xp, recall):
    move = as_kind(xp, np.diag([0.5, -0.8]))
    measured = looped.analyse(lambda h: h @ move + 1.0, as_kind(xp, START), controller=PID(0.6), recall=recall)
    poles = 1 + 0.6 * (np.array([0.5, -0.8]) - 1 - recall)
    assert measured.period.period == 1
    exact = (1 + recall * START) / (1 + recall - np.array([0.5, -0.8]))
    npt.assert_allclose(measured.point.x, exact, rtol=1e-8)
    npt.assert_allclose(sorted(measured.performance.radius), sorted(np.abs(poles)), rtol=1e-8)
    # S(-1) = 2/(2 - g w) is its peak for g w in (0, 1], S = 1 at ... : Ms of a first-order pole p is 2/(1 + p).
    assert measured.ms == pytest.approx(max(2 / (1 + p) for p in poles), rel=1e-6)
    assert measured.growth.peak == pytest.approx(1.0)
    assert measured.exponents is None
    assert np.isnan(measured.multiplier)
    assert "all eigenvalues of J at the fixed point are stable" in measured.in_words()[1]


def test_an_orbit_has_multipliers_and_a_fixed_point_that_it_avoids(xp):
    # Logistic map at 3.2: |multiplier of the orbit of period 2| = |4 + 2 r - r^2|, and the fixed point has 2 - r.
    measured = looped.analyse(lambda h: 3.2 * h * (1 - h), as_kind(xp, np.array([0.4])))
    assert measured.period.period == 2
    assert measured.multiplier == pytest.approx(abs(4 + 2 * 3.2 - 3.2**2), rel=1e-5)
    npt.assert_allclose(measured.spectrum.eigenvalues, [2 - 3.2], rtol=1e-6)
    assert not measured.performance.stable.any()
    assert measured.limits.gain.value == pytest.approx(2 / 2.2, rel=1e-6)  # g < 2/w: damping heals it


@pytest.mark.slow
def test_chaos_has_an_exponent():
    measured = looped.analyse(lambda h: 4.0 * h * (1 - h), np.array([0.3]), passes=256)
    assert measured.period.period == 0
    assert measured.exponents[0] == pytest.approx(np.log(2), abs=0.05)
    assert "Lyapunov exponent" in " ".join(measured.in_words())


def test_growth_beyond_the_edge_is_said_with_its_eigenvalue(xp):
    move = as_kind(xp, np.diag([3.3, 0.2]))
    measured = looped.analyse(lambda h: h @ move + 1.0, as_kind(xp, START))
    assert measured.period.period == -1
    assert measured.point is not None
    assert measured.odd_number.above == pytest.approx([3.3])
    assert np.isnan(measured.limits.gain.value)
    assert measured.limits.least_recall.value == pytest.approx(2.3)
    words = " ".join(measured.in_words())
    assert "runs away" in words
    assert "real eigenvalue 3.3" in words


def test_a_map_without_a_fixed_point_is_measured_at_its_start(xp):
    measured = looped.analyse(lambda h: h + 1.0 + 0.1 * xp.sin(h), as_kind(xp, START))
    assert measured.point is None
    assert "no fixed point" in measured.in_words()[1]
    npt.assert_allclose(sorted(measured.spectrum.eigenvalues.real), sorted(1 + 0.1 * np.cos(START[0])), rtol=1e-6)


@pytest.mark.slow
def test_a_network_of_many_numbers_is_measured_in_parts():
    g = torch.Generator().manual_seed(0)
    w = torch.randn(32, 32, generator=g, dtype=torch.float64) / 32**0.5
    bias = torch.randn(13, 32, generator=g, dtype=torch.float64)

    def f(h):
        return 0.7 * torch.tanh(h @ w + 0.2 * h.mean(0) + bias)

    measured = looped.analyse(f, bias, controller=PID(0.7), recall=0.1, k=4)
    assert measured.period.period == 1
    assert not measured.spectrum.whole
    every = np.linalg.eigvals(torch.func.jacrev(f)(measured.point.x).reshape(416, 416).numpy())
    assert np.abs(measured.spectrum.eigenvalues).max() == pytest.approx(np.abs(every).max(), rel=1e-6)
    assert measured.spectrum.eigenvalues.real.max() == pytest.approx(every.real.max(), rel=1e-6)
    radius = np.abs(1 + 0.7 * (every - 1.1)).max()
    assert measured.performance.radius.max() == pytest.approx(radius, rel=1e-6)
    assert measured.growth is None
    assert measured.limits.gain.inside < 1 < measured.limits.gain.outside


def test_single_precision_has_a_spectrum_and_no_fixed_point(xp):
    measured = looped.analyse(lambda h: 0.5 * h, as_kind(xp, START, "float32"))
    assert measured.period.period == 1
    assert "not float64" in measured.why_no_point
    npt.assert_allclose(measured.spectrum.eigenvalues, 0.5, rtol=1e-3)


def test_bad_input_says_what_would_be_right():
    with pytest.raises(InputError, match="k must be"):
        looped.analyse(lambda h: h, START, k=0)
    with pytest.raises(InputError, match="at least 0"):
        looped.analyse(lambda h: h, START, recall=-1.0)


# --- what lies on the boundary --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xp", "j"),
    [
        ("numpy", np.eye(2)), ("torch", -np.eye(2)), ("numpy", np.diag([1.0, 0.3])),
        ("numpy", [[0.0, 1.0], [-1.0, 0.0]]),
        ("torch", [[0.0, 1.0], [-1.0, 0.0]]), ("numpy", [[1.0, 1.0], [0.0, 1.0]]),
    ],
    indirect=["xp"],
)  # fmt: skip
def test_an_eigenvalue_on_the_circle_is_marginal_and_not_stable(xp, j):
    move = as_kind(xp, np.asarray(j, dtype=float))
    measured = looped.analyse(lambda h: h @ move, as_kind(xp, START))
    assert measured.verdict == "undecided"
    assert np.isnan(measured.ms)
    words = " ".join(measured.in_words())
    assert "marginal" in words
    assert "are stable" not in words
    assert "decides neither way" in words


@pytest.mark.slow
@pytest.mark.parametrize(("xp", "controller"), [("numpy", PID(0.5)), ("torch", PID(0.3, 0.02))], indirect=["xp"])
def test_the_boundary_is_that_of_the_controller(xp, controller):
    # lambda = 1 + recall has a pole at 1 under any controller; -3 has one at -1 under a gain of 1/2.
    edge = looped.analyse(lambda h: 1.5 * h, as_kind(xp, START), controller=controller, recall=0.5)
    assert edge.verdict == "undecided"
    assert len(edge.odd_number.undecided) == 2
    assert not edge.odd_number.binds
    assert looped.analyse(lambda h: 1.4 * h, as_kind(xp, START), controller=controller, recall=0.5).verdict == "stable"
    assert (
        looped.analyse(lambda h: 1.6 * h, as_kind(xp, START), controller=controller, recall=0.5).verdict == "unstable"
    )
    half = looped.analyse(lambda h: -3.0 * h, as_kind(xp, START), controller=PID(0.5))
    assert half.verdict == "undecided"


def test_a_mode_that_grows_decides_beside_one_that_is_marginal():
    measured = looped.analyse(lambda h: h @ np.diag([1.0, 2.0, 0.5]), np.ones((1, 3)))
    assert measured.verdict == "unstable"
    words = " ".join(measured.in_words())
    assert "1 eigenvalues of J at the fixed point are unstable" in words
    assert "1 of 3 eigenvalues of J at the fixed point are marginal" in words


def test_a_fixed_point_that_newton_reaches_slowly_is_marginal():
    # tanh has the eigenvalue 1 at 0, and 1 - x^2 at the point x that was found.
    assert looped.analyse(np.tanh, np.ones(2)).verdict == "undecided"


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_an_analysis_scales_with_its_state(xp, scale):
    def f(h):
        return scale * (-1.5 * h / scale + xp.tanh(h / scale) + 1.0)

    measured = looped.analyse(f, as_kind(xp, scale * START))
    assert measured.verdict == "stable"
    npt.assert_allclose(measured.spectrum.eigenvalues, -1.5 + 1 - np.tanh(0.6206252992008818) ** 2, rtol=1e-6)
    assert measured.limits.gain.value == pytest.approx(2 / (1.5 + np.tanh(0.6206252992008818) ** 2), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("xp", "value", "scale"),
    [("numpy", -0.75, 1.0), ("numpy", 0.0, 1.0), ("torch", -0.75, 1e-6), ("numpy", 0.5, 1e6)],
    indirect=["xp"],
)
def test_ms_and_settling_of_a_jordan_block_are_right_or_said_to_be_open(xp, value, scale):
    q, opened = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0], 0
    for size in (1, 2, 6):
        turn = np.linalg.qr(q[:size, :size])[0]
        move = as_kind(xp, turn @ (value * np.eye(size) + np.eye(size, k=1)) @ turn.T)
        measured = looped.analyse(lambda h, move=move: move @ h, as_kind(xp, scale * np.ones(size)), passes=64)
        opened += np.isnan(measured.ms)
        if np.isnan(measured.ms):
            assert "leave open" in " ".join(measured.in_words())
        else:
            assert measured.ms == pytest.approx(2 / (1 + value), rel=0.01)
    assert opened < 3
