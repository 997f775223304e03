"""Modes with a pole on the circle: each puts one there, and the closed form of memories in a row has them all."""

from itertools import pairwise

import control
import numpy as np
import systems
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID
from ctrlattn.linear.mode_matrix import exact_poles, mode_matrix
from ctrlattn.stability.modes.critical import critical_modes


@every_case("order", [1, 2, 4, 7])
@every_case("kind", systems.DISCRETE)
def test_every_critical_mode_has_a_pole_on_the_circle(kind, order):
    for form in ("tf", "modal"):
        controller = systems.siso(kind, order, form, seed=order)
        critical = critical_modes(controller)
        assert len(critical) >= 1
        for alpha in critical:
            poles = (
                exact_poles(controller, alpha) if form == "tf" else np.linalg.eigvals(mode_matrix(controller, alpha))
            )
            assert np.abs(np.abs(poles) - 1).min() < 1e-6 * max(1.0, abs(alpha))


@every_case("gain", [0.3, -0.2, 2.0])
@every_case("order, pole", [(2, 0.9), (4, 0.95), (6, 0.95)])
def test_none_is_missed_between_two_neighbours(order, pole, gain):
    """The number of poles inside the circle is constant on each segment: 9 points of each agree."""
    controller = control.tf([gain * (1 - pole) ** order], np.poly([pole] * order), 1)
    critical = critical_modes(controller)
    for low, high in pairwise(critical):
        inside = {int(np.sum(np.abs(exact_poles(controller, a)) < 1)) for a in np.linspace(low, high, 11)[1:-1]}
        assert len(inside) == 1


def test_the_ends_of_the_pid_law_and_a_pole_of_the_controller_at_an_end():
    assert_allclose(critical_modes(PID(0.5)), [-0.5, 1.5])
    # The integral is infinite at z = 1: only z = -1, P + I/2 - 1, is left of the two ends.
    assert_allclose(critical_modes(PID(0.5, 0.2))[0], -0.4)
    assert np.all(np.abs(critical_modes(PID(0.5, 0.2))) < 10)


@every_case("finer", [1, 3])
@every_case("k", [0.3, 0.6, 1.1, 3.0, 50.0, -0.2, -0.8, -4.0])
def test_two_delays_in_closed_form(k, finer):
    """alpha(w) = e^{iw} + k e^{-2iw} is real at the ends, 1 + k and k - 1, and where 2 k cos w = 1: there 1/k - k."""
    expected = [1 + k, k - 1] + [1 / k - k] * (abs(k) > 0.5)
    assert_allclose(critical_modes(control.tf([k], [1, 0, 0], 1), finer=finer), np.sort(expected), rtol=1e-9)


def test_a_pole_of_the_controller_at_minus_1_leaves_the_other_end():
    """alpha(1) = 1 + .4/2, and (z - alpha)(z + 1) + .4 has its roots on the circle at no other end."""
    critical = critical_modes(control.tf([0.4], [1, 1], 1))
    assert np.min(np.abs(critical - 1.2)) < 1e-12
    assert np.all(np.abs(critical) < 100)
