"""The closed loop of a mode: state matrix, exact polynomial and response say the same."""

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import InputError, LTIController
from ctrlattn.controllers import PID
from ctrlattn.linear.mode_matrix import mode_matrix
from ctrlattn.stability.modes.closed_loop import (
    controller_response,
    known_controller,
    mode_pencil,
    pencil_in_alpha,
)

CONTROLLERS = [
    PID(0.8, 0.5, 0.05),
    PID(0.8, 0.5, 0.05, form="ema"),
    LTIController(control.tf([0.3, 0.1], [1, -0.4, 0.2], 1)),
    LTIController(control.ss([[0.4, 0.2], [0.1, 0.3]], [[1], [0]], [[0.3, -0.2]], 0.1, 1)),
]


@every_case("controller", CONTROLLERS)
@every_case("alpha", [0.3, -1.2, 0.3 + 0.4j])
def test_matrix_and_polynomial_have_the_same_poles(controller, alpha):
    g = mode_pencil(controller, alpha).p
    top = np.array([complex(float(x), float(y)) for x, y in zip(g.re, g.im, strict=True)])
    expected = np.roots(top)
    poles = np.linalg.eigvals(mode_matrix(controller, alpha))
    distance = np.abs(poles[:, None] - expected[None, :])
    assert_allclose(distance.min(axis=0), 0, atol=1e-7)
    assert_allclose(distance.min(axis=1), 0, atol=1e-7)


@every_case("controller", CONTROLLERS)
def test_a_pencil_in_alpha_is_the_mode_of_each_alpha(controller):
    g, fixed = pencil_in_alpha(controller), mode_pencil(controller, 0.375).p
    p = np.array([float(x + y * 0.375) for x, y in zip(g.p.re, g.q.re, strict=True)])
    assert_allclose(p / p[0], np.array([float(x) for x in fixed.re]) / float(fixed.re[0]), atol=1e-14)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_response(controller):
    num, den = controller.fraction()
    w = np.array([0.3, 1.0, np.pi])
    z = np.exp(1j * w)
    assert_allclose(controller_response(controller, w), np.polyval(num, z) / np.polyval(den, z), rtol=1e-12)


def test_no_controller_is_refused_by_name():
    with pytest.raises(InputError, match="stability_set needs a controller"):
        known_controller(None, "stability_set")
