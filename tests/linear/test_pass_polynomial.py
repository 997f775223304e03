"""A mode of a looped network: polynomial, matrix and the response of the loop itself say the same."""

import control
import numpy as np
import numpy.testing as npt
from cases import every_case

from ctrlattn import PID, LTIController, looped
from ctrlattn.linear.mode_polynomial import roots, sensitivity_of, static_gain, step_responses
from ctrlattn.linear.pass_polynomial import ALPHA, pass_matrix, pass_numerator, pass_polynomial, pull

CONTROLLERS = [
    PID(0.4),
    PID(0.4, 0.1, 0.05),
    PID(0.4, 0.1, 0.05, form="ema"),
    LTIController(control.tf([0.5, 0], [1, -0.6], 1)),
    LTIController(control.ss([[0.4, 0.2], [0.1, 0.3]], [[1], [0]], [[0.3, -0.2]], 0.1, 1)),
]


@every_case("controller", CONTROLLERS)
@every_case("eigenvalue", [0.3, -1.2, 2.5, 0.3 + 0.4j])
@every_case("recall", [0.0, 0.8])
def test_the_polynomial_is_the_equation_and_the_matrix_has_its_roots(controller, eigenvalue, recall):
    num, den = controller.fraction()
    z = np.array([0.3 + 0.2j, -1.1, 2.0])
    expected = np.polyval(den, z) * (z - 1) - np.polyval(num, z) * (eigenvalue - 1 - recall)
    p = pass_polynomial(num, den, eigenvalue, recall)
    npt.assert_allclose(np.polyval(p, z) * den[0], expected, rtol=1e-12)
    poles = np.linalg.eigvals(pass_matrix(controller, eigenvalue, recall))
    distance = np.abs(poles[:, None] - roots(p)[None, :])
    assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) < 1e-6


@every_case("controller", CONTROLLERS[:1] + CONTROLLERS[3:])
@every_case("recall", [0.0, 0.5])
def test_a_disturbance_decays_as_one_minus_the_step_response(controller, recall):
    # h' = h + C(z) (F(h) - h + k_r (h_0 - h)) with F(h) = lambda h + b, started off its fixed point by h_0 - h*.
    eigenvalue, b, h0 = -0.4, 2.0, 3.0
    run = looped.iterate(lambda h: eigenvalue * h + b, np.array([h0]), 12, controller, recall).state.ravel()
    rest = (b + recall * h0) / pull(eigenvalue, recall)
    num, den = controller.fraction()
    y = step_responses(pass_numerator(num, eigenvalue, recall), den, ALPHA, 12)
    npt.assert_allclose((run - rest) / (h0 - rest), 1 - y, rtol=1e-9, atol=1e-12)


def test_figures_of_a_mode_take_the_numerator_of_a_pass():
    num = pass_numerator(np.array([0.25]), np.array([-1.0, 0.6]), 0.4)
    assert static_gain(num, np.array([1.0]), ALPHA).tolist() == [1.0, 1.0]  # the loop ends on its fixed point
    # S(-1) = 2/(2 - g w): w = 2.4 and .8
    s = sensitivity_of(num, np.array([1.0]), ALPHA, np.array(-1.0))
    npt.assert_allclose(s, [2 / 1.4, 2 / 1.8], rtol=1e-12)
