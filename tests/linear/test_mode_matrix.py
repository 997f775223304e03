"""The matrix of one mode: its poles are those of the polynomial, its controller that of the fraction."""

import control
import numpy as np
import systems
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, LTIController, gain_intervals, stability_interval, stability_set
from ctrlattn.linear.mode_matrix import controller_realization, exact_poles, given_fraction, mode_matrix
from ctrlattn.linear.mode_polynomial import mode_polynomial
from ctrlattn.stability import closed_loop_poles, is_stable

CONTROLLERS = {
    "none": None,
    "proportional": PID(0.6),
    "printed": PID(0.8, 0.5, 0.05),
    "ema": PID(0.8, 0.5, 0.05, form="ema"),
    "fraction": LTIController(control.tf([0.3, 0.1], [1.0, -0.4, 0.2], 1)),
    "state space": control.ss([[0.5, 0.1], [0.0, 0.3]], [[1.0], [0.4]], [[0.2, 0.6]], [[0.1]], 1),
}


@every_case("name", CONTROLLERS)
@every_case("alpha", [0.3, -1.2, 0.4 + 0.5j])
def test_eigenvalues_are_the_roots_of_the_mode_polynomial(name, alpha):
    controller = CONTROLLERS[name]
    law = PID() if controller is None else LTIController(controller) if name == "state space" else controller
    p = mode_polynomial(*law.fraction(), alpha)
    poles = np.linalg.eigvals(mode_matrix(controller, alpha))
    assert_allclose(np.poly(poles), p, atol=1e-12)
    assert mode_matrix(controller, np.array([[alpha, 0.0]])).shape == (1, 2, len(p) - 1, len(p) - 1)


@every_case("kind", ["wide", "slow", "slower", "repeated", "integrator"])
def test_the_controller_keeps_its_response_and_its_exact_poles(kind):
    system = systems.siso(kind, 6, "tf", seed=2)
    law = LTIController(system)
    num, den = given_fraction(law)
    assert den.tolist() == system.den[0][0].tolist()  # monic as given
    assert np.trim_zeros(num, "f").tolist() == system.num[0][0].tolist()
    g = controller_realization(law)
    assert_allclose(g.response(0.7)[0, 0], np.polyval(num, np.exp(0.7j)) / np.polyval(den, np.exp(0.7j)), rtol=1e-8)
    # At a root p(z) = 0 holds in exact arithmetic; in doubles to the rounding of its terms.
    for pole in exact_poles(law, 0.37):
        terms = [(pole - 0.37) * np.polyval(den, pole), np.polyval(num, pole)]
        size = (abs(pole) + 0.37) * np.polyval(np.abs(den), abs(pole)) + np.polyval(np.abs(num), abs(pole))
        assert abs(sum(terms)) < 1e-14 * size


def test_exact_poles_of_a_cluster_and_of_a_state_space():
    law = control.tf([0.3 * 0.05**6], np.poly([0.95] * 6), 1)
    for alpha in (0.8, 0.9, 1.1):
        eigenvalues = np.linalg.eigvals(mode_matrix(law, alpha))
        assert_allclose(np.abs(exact_poles(law, alpha)).max(), np.abs(eigenvalues).max(), rtol=1e-7)
    assert exact_poles(CONTROLLERS["state space"], 0.5) is None
    assert given_fraction(CONTROLLERS["state space"]) is None


class LeakyIntegral:
    """gain z/(z - forget) as somebody outside of the package writes it: four methods, no base class."""

    def __init__(self, gain, forget):
        self.gain, self.forget = gain, forget

    def init(self, e):
        return (0 * e,)

    def step(self, e, state):
        s = self.forget * state[0] + e
        return self.gain * s, (s,)

    def realization(self):
        a, b = np.array([[self.forget]]), np.array([[1.0]])
        return a, b, self.gain * a, self.gain * b

    def fraction(self):
        return np.array([self.gain, 0.0]), np.array([1.0, -self.forget])


@every_case("gain, forget", [(0.2, 0.8), (-0.4, 0.3), (1.5, -0.6)])
def test_a_controller_of_somebody_elses_class_is_its_transfer_function(gain, forget):
    own, same = LeakyIntegral(gain, forget), LTIController(control.tf([gain, 0.0], [1.0, -forget], 1))
    assert stability_set(own) == stability_set(same)
    assert stability_interval(own) == stability_interval(same)
    alpha = np.array([-0.5, 0.2, 0.9])
    assert np.array_equal(is_stable(own, alpha), is_stable(same, alpha))
    assert_allclose(np.sort(closed_loop_poles(own, 0.4)), np.sort(closed_loop_poles(same, 0.4)), atol=1e-15)
    loops = (Loop(CausalMean(), skip=0.0, feedback=1.0, controller=c) for c in (own, same))
    first, second = (gain_intervals(loop, ("feedback", "skip"), [0.2, 0.7], 0.5) for loop in loops)
    assert first == second


@every_case("gain", [0.5, -2.0, 0.3 - 0.4j])
@every_case("name", CONTROLLERS)
def test_a_gain_multiplies_the_error(name, gain):
    """(z - alpha) den + g num, for one gain and one alpha, and for a grid of both."""
    controller = CONTROLLERS[name]
    num, den = (LTIController(controller) if name == "state space" else controller or PID()).fraction()
    for alpha in (0.3, -1.2 + 0.2j):
        p = np.polyadd(np.polymul([1.0, -alpha], den), gain * np.asarray(num))
        assert_allclose(np.poly(np.linalg.eigvals(mode_matrix(controller, alpha, gain))), p, atol=1e-12)
    grid = mode_matrix(controller, np.array([0.1, 0.2]), np.array([[gain], [1.0], [2.0]]))
    assert grid.shape[:2] == (3, 2)
    assert_allclose(grid[0, 1], mode_matrix(controller, 0.2, gain))
    assert_allclose(grid[1, 0], mode_matrix(controller, 0.1))
