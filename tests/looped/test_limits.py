"""Largest gains and smallest recalls: closed forms, and the loop that runs beside them."""

import control
import numpy as np
import pytest
import torch

from ctrlattn import PID, InputError, LTIController, looped
from ctrlattn.arrays import like
from ctrlattn.looped.limits import scaled
from ctrlattn.stability import pass_poles, stable_gains


def as_kind(xp, x):
    return like(x, xp.zeros(1, dtype=xp.float64))


def of_matrix(xp, j, **options):
    move, x = as_kind(xp, np.asarray(j, dtype=float).T), as_kind(xp, np.array([[0.4, -0.2]]))

    def f(h):
        return h @ move + 0.3  # x is no fixed point of it: the limits are about J alone

    return looped.limits(f, x, looped.spectrum(f, x), **options)


@pytest.mark.parametrize("recall", [0.0, 1.0])
@pytest.mark.parametrize("j", [np.diag([-3.0, 0.5]), [[0.2, -1.5], [1.5, 0.2]], [[-2.0, 1.0], [0.0, -2.0]]])
def test_the_largest_gain_is_the_radius_of_the_disk(xp, j, recall):
    found = of_matrix(xp, j, recall=recall).gain
    w = 1 + recall - np.linalg.eigvals(j)
    assert found.value == pytest.approx(min(2 * w.real / np.abs(w) ** 2), rel=1e-6)
    assert found.inside < 1 < found.outside


def test_the_smallest_recall_for_any_gain_is_where_the_largest_real_part_is(xp):
    found = of_matrix(xp, np.diag([2.5, -1.0]))
    assert np.isnan(found.gain.value)
    assert found.least_recall.value == pytest.approx(1.5)
    assert found.least_recall.eigenvalue == pytest.approx(2.5)
    assert found.least_recall.inside < 1 < found.least_recall.outside
    assert found.odd_number.above == pytest.approx([2.5])
    pair = of_matrix(xp, [[1.8, -1.0], [1.0, 1.8]])
    assert pair.least_recall.value == pytest.approx(0.8, abs=1e-8)
    assert not pair.odd_number.binds


def test_the_smallest_recall_for_a_given_gain(xp):
    # Poles 1 - g (1 + k - lambda): stable for 1.5 < k < 2/.3 - 2 with lambda = 2.5 and -1.
    found = of_matrix(xp, np.diag([2.5, -1.0]), controller=PID(0.3)).recall
    assert found.value == pytest.approx(1.5)
    assert found.inside < 1 < found.outside
    nothing = of_matrix(xp, np.diag([2.5, -1.0]), controller=PID(1.0)).recall
    assert np.isnan(nothing.value)
    enough = of_matrix(xp, np.diag([0.5, -0.5])).recall
    assert enough.value == 0
    assert np.isnan(enough.outside)


@pytest.mark.parametrize(
    "controller", [PID(0.3, 0.05), PID(0.3, 0.0, 0.1), LTIController(control.tf([0.4, 0], [1, -0.5], 1))]
)
def test_controllers_with_memory_run_beside_their_limits(xp, controller):
    found = of_matrix(xp, [[-1.5, 0.7], [-0.7, 0.2]], controller=controller).gain
    assert found.inside < 1 < found.outside
    num, den = controller.fraction()
    for mode in np.linalg.eigvals([[-1.5, 0.7], [-0.7, 0.2]]):
        for side, stable in ((1 - 1e-6, True), (1 + 1e-6, False)):
            p = np.polysub(np.polymul(den, [1, -1]), side * found.value * np.asarray(num) * (mode - 1))
            if stable:
                assert np.abs(np.roots(p)).max() < 1


def test_a_bent_network_follows_its_spectrum_near_x():
    g = torch.Generator().manual_seed(0)
    w = 2.6 * torch.randn(12, 12, generator=g, dtype=torch.float64) / 12**0.5

    def f(h):
        return torch.tanh(h @ w)

    x = torch.zeros(2, 12, dtype=torch.float64)
    found = looped.limits(f, x, looped.spectrum(f, x))
    assert found.least_recall.value == pytest.approx(np.linalg.eigvals(w).real.max() - 1)
    assert found.least_recall.inside < 1 < found.least_recall.outside


@pytest.mark.slow
def test_a_linear_map_never_contradicts_its_whole_spectrum():
    # Beside a limit poles may be 1e-5 from the circle, while lengths swing by more in each pass.
    rng = np.random.default_rng(5)
    for count in range(15):
        n = int(rng.integers(1, 6))
        j = rng.choice([0.3, 1.0, 3.0]) * rng.standard_normal((n, n)) - rng.choice([0, 1]) * np.eye(n)
        gains = (rng.uniform(0.05, 1), *(rng.uniform(0.01, 0.5, 2) * rng.integers(0, 2, 2)))
        f, x, recall = (lambda h, j=j: h @ j.T), np.zeros((1, n)), float(rng.choice([0, 0.5, 2]))
        spectrum, controller = looped.spectrum(f, x), PID(*gains) if count % 5 else None
        found = looped.limits(f, x, spectrum, controller=controller, recall=recall, passes=40)
        if np.isfinite(found.gain.value):
            poles = [pass_poles(scaled(PID(1.0) if controller is None else controller, g), spectrum.eigenvalues, recall)
                     for g in (0.95 * found.gain.value, 1.05 * found.gain.value)]  # fmt: skip
            for side, expected in zip((found.gain.inside, found.gain.outside), poles, strict=True):
                assert side <= np.abs(expected).max() + 1e-7
            assert found.gain.outside == pytest.approx(np.abs(poles[1]).max(), abs=1e-7)


@pytest.mark.parametrize("use", [0, 1])
def test_the_largest_gain_of_several_intervals_is_that_of_the_controller_in_use(use):
    law = LTIController(control.tf([0.83, -0.67, 0.12], [1, -1.42, 0.9], 1))
    x = np.zeros((1, 1))
    spectrum = looped.spectrum(lambda h: 0.2 * h, x)
    intervals = [pair for pair in stable_gains(law, spectrum.eigenvalues) if pair[1] > 0]
    assert len(intervals) == 2  # below .52 and from 1.70 to 5.12
    factor = 0.5 * sum(intervals[use])
    found = looped.limits(lambda h: 0.2 * h, x, spectrum, controller=scaled(law, factor))
    assert found.gain.value == pytest.approx(intervals[use][1] / factor, rel=1e-6)
    between = looped.limits(lambda h: 0.2 * h, x, spectrum, controller=law)  # .52 < 1 < 1.70: no interval holds it
    assert between.gain.value == pytest.approx(intervals[1][1], rel=1e-6)


def test_a_spectrum_that_leaves_out_what_decides_is_contradicted_by_the_loop():
    j = np.diag([-1.0, -5.0])
    whole = looped.spectrum(lambda h: h @ j, np.zeros((1, 2)))
    part = whole._replace(eigenvalues=whole.eigenvalues[1:], vectors=whole.vectors[:, 1:], errors=whole.errors[1:])
    assert part.eigenvalues[0] == pytest.approx(-1.0)
    with pytest.raises(ArithmeticError, match="the loop contradicts it"):
        looped.limits(lambda h: h @ j, np.zeros((1, 2)), part)


def test_a_factor_of_a_controller_is_a_factor_of_its_response():
    for controller in (
        PID(0.3, 0.2, 0.1),
        PID(0.3, 0.2, 0.1, form="ema"),
        LTIController(control.ss(0.5, 1, 0.2, 0.1, 1)),
    ):
        num, den = controller.fraction()
        times, same = scaled(controller, 3.0).fraction()
        z = np.exp(0.7j)
        ratio = (np.polyval(times, z) / np.polyval(same, z)) / (np.polyval(num, z) / np.polyval(den, z))
        assert ratio == pytest.approx(3.0)


def test_a_spectrum_of_another_state_is_refused():
    spectrum = looped.spectrum(lambda h: 0.5 * h, np.zeros(2))
    for measured in (None, spectrum.eigenvalues, spectrum):
        with pytest.raises(InputError, match="measured must be what"):
            looped.limits(lambda h: 0.5 * h, np.zeros(3), measured)
    with pytest.raises(InputError, match="seed must be"):
        looped.limits(lambda h: 0.5 * h, np.zeros(2), spectrum, seed=-1)
