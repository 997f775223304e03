"""The scale of a map at 0 and beside it: derivatives that are known, at every size of the map, in every disguise."""

import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn.errors import InputError
from ctrlattn.stability.motion import difference_scale
from ctrlattn.stability.motion.difference_scale import difference_size
from ctrlattn.stability.motion.tangent import dense_jacobian

A = np.random.default_rng(0).standard_normal((3, 3))
B = np.random.default_rng(1).standard_normal((3, 3))
SHIFT = np.array([0.4, -1.1, 0.8])
BENT = A * (1 - np.tanh(SHIFT) ** 2)[:, None]
UNIT, NOTHING = np.eye(3), np.zeros((3, 3))

# (F with F'(0) as given): smooth ones, ones that round x away beside a constant, and ones with a second plateau.
MAPS = {
    "linear": (lambda h: A @ h, A),
    "saturating": (lambda h: np.tanh(A @ h), A),
    "shifted": (lambda h: np.tanh(A @ h + SHIFT), BENT),
    "shifted back": (lambda h: np.tanh(A @ h + SHIFT) - np.tanh(SHIFT), BENT),
    "residual": (lambda h: h + np.tanh(A @ h + SHIFT) - np.tanh(SHIFT), UNIT + BENT),
    "perceptron": (lambda h: h + B @ (np.tanh(A @ h + SHIFT) - np.tanh(SHIFT)), UNIT + B @ BENT),
    "logarithm": (lambda h: np.log(1 + h), UNIT),
    "root": (lambda h: np.sqrt(1 + h), UNIT / 2),
    "exponential": (lambda h: np.exp(h) - 1, UNIT),
    "softmax": (lambda h: np.exp(h) / np.exp(h).sum(), UNIT / 3 - 1 / 9),
    "far constant": (lambda h: (h + 1e8) - 1e8, UNIT),
    "rounded": (lambda h: np.round(h, 12), UNIT),
    "norm": (lambda h: h + h / np.sqrt(np.mean(h * h) + 1e-5), UNIT * (1 + 1e-5**-0.5)),
    "ripple": (lambda h: 0.5 * h + 1e-9 * np.sin(1e6 * h), 0.501 * UNIT),
    "wave": (lambda h: 0.5 * h + np.sin(h), 1.5 * UNIT),
    "dead zone": (lambda h: np.sign(h) * np.maximum(np.abs(h) - 1, 0), NOTHING),
    "swish": (lambda h: h / (1 + np.exp(-h)), UNIT / 2),
    "cubic": (lambda h: h**3, NOTHING),
    "even": (np.cos, NOTHING),
    "saturated": (lambda h: np.tanh(h + 20), NOTHING),
    "zero": (lambda h: 0 * h, NOTHING),
    "constant": (lambda h: 0 * h + 3, NOTHING),
    "kink": (lambda h: np.maximum(h, 0), UNIT),
}
SMOOTH_BESIDE = (
    "shifted",
    "shifted back",
    "residual",
    "perceptron",
    "logarithm",
    "exponential",
    "linear",
    "saturating",
)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", MAPS)
def test_the_derivative_at_zero_is_known_at_every_scale(name, scale):
    f, exact = MAPS[name]
    with np.errstate(all="ignore"):
        found = dense_jacobian(lambda h: scale * f(h / scale), np.zeros(3))[1]
    npt.assert_allclose(found, exact, atol=1e-6 * max(np.abs(exact).max(), 1e-3))


@pytest.mark.parametrize("away", [1e-17, 1e-12, 1e-9])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", SMOOTH_BESIDE)
def test_beside_zero_the_size_of_the_state_is_not_that_of_the_map(name, scale, away):
    f, exact = MAPS[name]
    found = dense_jacobian(lambda h: scale * f(h / scale), np.full(3, away * scale))[1]
    npt.assert_allclose(found, exact, atol=1e-6 * np.abs(exact).max())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("f", [np.cbrt, lambda h: np.sqrt(np.abs(h)), lambda h: h * np.log(np.abs(h) + 1e-300)])
def test_a_map_without_a_derivative_is_refused(f, scale):
    with pytest.raises(ArithmeticError, match="not found by differences"):
        difference_size(lambda h: scale * f(h / scale), np.zeros(3))


def test_what_single_precision_inside_of_the_map_hides_is_refused_and_not_0():
    with pytest.raises(ArithmeticError, match="rounding within the map"):
        difference_size(lambda h: np.tanh((h + 1).astype(np.float32)).astype(float), np.zeros(3))


@pytest.mark.parametrize("size", [1e-6, 0.3, 1e6])
def test_the_size_of_the_state_counts_where_quotients_confirm_it(size):
    assert difference_size(lambda h: size * np.tanh(A @ h / size), size * np.array([0.5, -1.0, 0.25])) == size


def test_one_number_and_torch_have_scales_too():
    for scale in (1e-6, 1.0, 1e6):
        found = dense_jacobian(lambda h, s=scale: s * (np.exp(h / s) - 1), np.zeros(1))[1]
        npt.assert_allclose(found, [[1.0]], rtol=1e-6)
        size = difference_size(lambda h, s=scale: s * torch.tanh(h / s), torch.zeros(2, dtype=torch.float64))
        assert size < 1e3 * scale


def test_a_map_that_refuses_far_states_is_asked_near():
    def bounded(h):
        if np.max(np.abs(h)) > 1e-3:
            raise ValueError("outside")
        return np.tanh(A @ h)

    npt.assert_allclose(dense_jacobian(bounded, np.zeros(3))[1], A, rtol=1e-8)


def test_few_evaluations_confirm_a_state_of_its_own_size():
    calls = []

    def counted(h):
        calls.append(1)
        return np.tanh(A @ h)

    difference_size(counted, np.array([0.5, -1.0, 0.25]))
    assert len(calls) <= 2 * (difference_scale._OUTWARD + 2) + 1


@pytest.mark.parametrize(("gain", "size"), [(np.nan, 2.0), (np.inf, 0.0)])
def test_a_map_that_is_not_finite_at_the_point_is_left_to_who_asked(gain, size):
    assert difference_size(lambda x: gain * (x + 1), np.full(2, size)) == (size or 1.0)


def test_complex_values_of_a_map_are_refused():
    with pytest.raises(InputError, match="real"):
        difference_size(lambda x: 1j * x, np.ones(2))


def test_numbers_of_scales_far_apart_are_known_or_refused():
    # h_i' = s_i tanh(m_i h_i/s_i) with s over twelve decades, each number anywhere from 0 to beyond its own scale.
    rng, refused, count = np.random.default_rng(0), 0, 60
    for _ in range(count):
        n = int(rng.integers(2, 5))
        s, m = 10.0 ** rng.uniform(-6, 6, n), rng.uniform(-2, 2, n)
        y = rng.standard_normal(n) * 10.0 ** rng.uniform(-4, 0, n) * (rng.uniform(size=n) < 0.8)
        try:
            found = dense_jacobian(lambda h, s=s, m=m: s * np.tanh(m * h / s), s * y)[1]
        except ArithmeticError as error:
            refused += "scales too far apart" in str(error)
            continue
        npt.assert_allclose(np.diag(found), m / np.cosh(m * y) ** 2, rtol=2e-4)
        assert np.all(found == np.diag(np.diag(found)))
    assert 0 < refused < count // 4


def test_a_small_number_is_no_reason_to_refuse_a_map_of_one_scale():
    w = np.random.default_rng(1).standard_normal((4, 4))
    for small in (0.0, 1e-300, 1e-12, 1e-5):
        x = np.array([1.0, small, -0.5, small])
        found = dense_jacobian(lambda h: np.tanh(h @ w), x)[1]
        npt.assert_allclose(found, ((1 - np.tanh(x @ w) ** 2) * w).T, atol=1e-8)
    # The last numbers of f round as 1e8 does, and no step of their own is better than that of all.
    x = np.array([1e8, 1e-3])
    npt.assert_allclose(dense_jacobian(lambda h: h + h.sum(), x)[1], np.eye(2) + 1, atol=1e-6)


def test_a_small_number_that_needs_a_step_of_its_own_is_refused():
    s = np.array([1e6, 1e-6])
    with pytest.raises(ArithmeticError, match="too far apart for differences: steps of 4 suit all, and 1 of 2 numbers"):
        dense_jacobian(lambda h: s * np.tanh(h / s), s * [0.7, 0.05])


@pytest.mark.parametrize("sharp", [1e2, 1e6])
def test_a_map_that_is_sharper_than_its_state_is_large_has_steps_of_its_own(sharp):
    # The size of x is 1, and the map bends within 1/sharp.
    x = np.array([1.0, 1.0 + 0.3 / sharp])
    found = dense_jacobian(lambda h: np.tanh(sharp * (h - 1)) + h, x)[1]
    npt.assert_allclose(np.diag(found), 1 + sharp / np.cosh(sharp * (x - 1)) ** 2, rtol=1e-4)
