"""The scale of a map at 0 and beside it: derivatives that are known, at every size of the map, in every disguise."""

import numpy as np
import numpy.testing as npt
import pytest
import torch
from cases import every_case

from ctrlattn.errors import InputError
from ctrlattn.stability.motion import difference_scale
from ctrlattn.stability.motion.difference_scale import difference_size
from ctrlattn.stability.motion.tangent import Tangent, dense_jacobian

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


@pytest.mark.slow
@every_case("scale", [1e-6, 1.0, 1e3])
@every_case("name", MAPS)
def test_the_derivative_at_zero_is_known_at_every_scale(name, scale):
    f, exact = MAPS[name]
    with np.errstate(all="ignore"):
        found = dense_jacobian(lambda h: scale * f(h / scale), np.zeros(3))[1]
    npt.assert_allclose(found, exact, atol=1e-6 * max(np.abs(exact).max(), 1e-3))


@every_case("scale, away", [(1e-6, 1e-12), (1.0, 1e-17), (1.0, 1e-9), (1e6, 1e-12)])
@every_case("name", SMOOTH_BESIDE)
def test_beside_zero_the_size_of_the_state_is_not_that_of_the_map(name, scale, away):
    f, exact = MAPS[name]
    found = dense_jacobian(lambda h: scale * f(h / scale), np.full(3, away * scale))[1]
    npt.assert_allclose(found, exact, atol=1e-6 * np.abs(exact).max())


@every_case("scale", [1e-6, 1.0, 1e6])
@every_case("f", [np.cbrt, lambda h: np.sqrt(np.abs(h)), lambda h: h * np.log(np.abs(h) + 1e-300)])
def test_a_map_without_a_derivative_is_refused(f, scale):
    with pytest.raises(ArithmeticError, match="not found by differences"):
        difference_size(lambda h: scale * f(h / scale), np.zeros(3))


def test_what_single_precision_inside_of_the_map_hides_is_refused_and_not_0():
    with pytest.raises(ArithmeticError, match="rounding within the map"):
        difference_size(lambda h: np.tanh((h + 1).astype(np.float32)).astype(float), np.zeros(3))


@every_case("size", [1e-6, 0.3, 1e6])
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
    # The map bends within its first few steps: what lies beyond is not asked for.
    assert len(calls) <= 2 * (difference_scale._GLANCES[1] + 2) + 1


def test_rounding_that_is_seen_eight_powers_of_the_step_farther_out_is_seen():
    # Steps of this state fall below the last digit of 1e13, 2e-3, and find the slope 0.5 without what is lost there.
    x = np.array([1e-6, -7e-7])
    npt.assert_allclose(dense_jacobian(lambda h: 0.5 * h + ((h + 1e13) - 1e13), x)[1], 1.5 * np.eye(2), atol=1e-6)


@pytest.mark.parametrize(("gain", "size"), [(np.nan, 2.0), (np.inf, 0.0)])
def test_a_map_that_is_not_finite_at_the_point_is_left_to_who_asked(gain, size):
    assert difference_size(lambda x: gain * (x + 1), np.full(2, size)) == (size or 1.0)


def test_complex_values_of_a_map_are_refused():
    with pytest.raises(InputError, match="real"):
        difference_size(lambda x: 1j * x, np.ones(2))


def test_numbers_of_scales_far_apart_are_known_or_refused():
    # h_i' = s_i tanh(m_i h_i/s_i) with s over twelve decades, each number anywhere from 0 to beyond its own scale.
    rng, refused, count = np.random.default_rng(0), 0, 30
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


def quotients_of(central, right=None, d=None):
    """Quotients that are given, row by row, without a map."""
    quotients = object.__new__(difference_scale._Quotients)
    both = np.array([central, central if right is None else right], dtype=float)
    quotients._measured = dict(enumerate(both.swapaxes(0, 1)))
    quotients.eps, quotients.sure = np.finfo(float).eps, difference_scale._SURE
    quotients.d = 8.0 ** np.arange(len(central)) if d is None else np.array(d)
    return quotients


def test_runs_are_of_three_steps_or_more():
    assert difference_scale._runs(np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)) == [(0, 2), (5, 8)]
    assert difference_scale._runs(np.zeros(4, bool)) == []


def test_steps_are_alike_by_their_relative_difference_or_where_nothing_is_seen_from_the_shortest_on():
    eps = np.finfo(float).eps
    rows = [[0, 0], [eps / 2, 0], [3e-16, 0], [1, 1], [1, 1 + 1e-5], [1, 1.1], [0, 0], [0, 0]]
    alike = difference_scale._alike(np.array(rows), eps)
    assert alike.tolist() == [True, False, False, True, False, False, True]
    # In single precision the quotients are worth 1e3 eps^(2/3) = 0.024.
    single = np.finfo(np.float32).eps
    assert difference_scale._alike(np.array([[1.0], [1.02]]), single).all()
    assert not difference_scale._alike(np.array([[1.0], [1.03]]), single).any()


@every_case(
    "size, low, high",
    [
        (0.0, -56, 15),
        (1.5, -56, 15),
        (1.5 * 8.0**30, -56, 45),
        (1.5 * 8.0**-100, -127, 15),  # log_8 is -99.8, cut to -99
        (1.5 * 2.0**-1000, -320, 15),
        (1.5 * 2.0**960, -56, 320),
    ],
)
def test_steps_reach_as_far_out_and_in_as_the_state_lies(size, low, high):
    steps = difference_scale._steps(size)
    npt.assert_array_equal(steps, 8.0 ** np.arange(low, high + 1, dtype=float))


def test_central_and_right_quotients_of_a_cubic_map_in_closed_form():
    x, d = np.array([0.5, -2.0]), np.array([0.1, 0.2, 0.5])
    quotients = difference_scale._Quotients(lambda x: x**3, x, x**3, d, 3)
    v = quotients.directions
    npt.assert_allclose(np.abs(v).max(axis=1), 1 / (np.pi / 3 + np.arange(3)), rtol=1e-14)
    central = 3 * x**2 * v + d[:, None, None] ** 2 * v**3
    npt.assert_allclose(quotients.central, central.reshape(3, 6), rtol=1e-12)
    right = central + 3 * x * d[:, None, None] * v**2
    npt.assert_allclose(quotients.right, right.reshape(3, 6), rtol=1e-12)


@every_case(
    "rows, confirmed",
    [
        ([1, 1, 1, 1, 1 + 9e-7, 1], True),
        ([1, 1, 1, 1, 1, 1 + 2e-6], False),  # one beside it is off
        ([1, 1, 1, 1, 1 - 2e-6, 1], False),
        ([0, 0, 0, 0, 0, 0], False),  # a quotient of 0 may be one that rounding hides
        ([1, 2, 4, 8, 1, 1], False),  # it is left at once
    ],
)
def test_the_size_of_the_state_is_confirmed_by_two_steps_beside_its_own(rows, confirmed):
    assert quotients_of(np.array(rows)[:, None]).confirmed() == confirmed


@every_case(
    "rows, small",
    [
        ([[3e-5], [1e-5], [2.0], [2e-5], [4e-5]], True),
        ([[3e-5], [1e-5], [2.0], [2e-5], [2e-4]], False),
        ([[0.0], [0.0], [5e-5], [9e-5], [1e-5], [3.0], [0.0], [0.0]], True),  # the first three that are seen
        ([[0.0], [0.0], [5e-5], [9e-5], [3.0], [1e-5], [0.0], [0.0]], False),
        ([[0.0], [0.0], [0.0], [0.0]], True),
        ([[0.0, 0.0], [8e-5, 8e-5], [0.0, 0.0], [0.0, 0.0]], False),  # by their length: 1.1e-4
    ],
)
def test_a_first_step_is_small_where_it_and_what_is_seen_first_are(rows, small):
    assert quotients_of(rows).small() == small


def test_the_plateau_nearest_to_the_usual_step_or_the_step_whose_neighbours_differ_least():
    level = np.array([9, 1 + 3e-6, 1 + 1e-6, 1 + 8e-7, 1 + 7e-7, 1 + 4e-7, 1 - 2e-5, 5, 7])[:, None]
    quotients = quotients_of(level)
    quotients.jumps = lambda last: False
    # Inner steps 2 to 5; the gaps are 2e-6, 2e-7, 1e-7, 3e-7 and 2e-5: worst of both sides 2e-6, 2e-7, 3e-7, 2e-5.
    assert quotients.plateau(0.0) == 3
    assert quotients.plateau(8.0**4) == 4
    assert quotients.plateau(8.0**5) == 4
    assert quotients.plateau(8.0**1) == 3
    quotients.jumps = lambda last: last == 6
    assert quotients.plateau(0.0) is None
    # Where the right quotient is another one, there is no derivative.
    halves = quotients_of(level, right=8.0 ** np.arange(9)[:, None])
    halves.jumps = lambda last: False
    assert halves.plateau(0.0) is None
    # A right quotient that is off by 1 % of its length is that of a bend; one that stays off is that of a kink.
    near = quotients_of(level, right=level * (1 + np.array([0, 9e-3, -9e-3] * 3))[:, None])
    near.jumps = lambda last: False
    assert near.plateau(0.0) == 3
    kink = quotients_of(level, right=2 * level)
    kink.jumps = lambda last: False
    assert kink.plateau(0.0) == 3
    rough = quotients_of(level, right=level * (1 + 2e-2 * (-1.0) ** np.arange(9))[:, None])
    rough.jumps = lambda last: False
    assert rough.plateau(0.0) is None


def test_a_plateau_up_to_the_last_step_is_left_by_nothing():
    quotients = quotients_of(np.array([3.0, 1.0, 1.0, 1.0, 1.0])[:, None])
    quotients.jumps = None  # not asked
    assert quotients.plateau(8.0**3) == 3


def test_noise_of_a_constant_map_is_a_derivative_of_0_where_it_is_below_1e_4_and_none_above():
    """Quotients at eps^(1/3) of |x| = 1 are at most the noise over 6e-6; no step has a plateau."""
    x = np.array([0.5, -1.0, 0.25])

    def noise(size):
        return lambda x: 1 + size * np.sin(1e30 * x)

    assert difference_size(noise(1e-11), x) == 1.0
    with pytest.raises(ArithmeticError, match="not found by differences of 3e-51 to 4e\\+13"):
        difference_size(noise(1e-7), x)


@every_case(
    "turning, monotone, turns",
    [(5, 0, False), (6, 0, False), (7, 0, True), (20, 42, False), (24, 38, False), (25, 37, True), (0, 62, False)],
)
def test_rounding_turns_at_most_steps_and_at_more_than_six(turning, monotone, turns):
    """Numbers that stand still, that go up by 1, and that go up and down: turns are counted among those that move."""
    rises = np.concatenate([np.ones(monotone), (-1.0) ** np.arange(turning + 1)])[: difference_scale._SAMPLES - 1]
    values = 100.0 + np.cumsum(np.concatenate([np.zeros(difference_scale._SAMPLES - len(rises)), rises]))
    given = iter(values)
    quotients = quotients_of([[1.0]])
    quotients._quotients = lambda length: np.array([[next(given)], [0.0]])
    assert quotients._turns(1.0) == turns


def test_a_state_that_grows_by_little_keeps_the_step_of_a_sharp_map():
    tangent, unit = Tangent(np.ones(1), None), np.eye(1)
    for x in (1.0, 1.0 + 3e-7, 1.0 - 3e-7):
        moved = tangent.advance(lambda h: np.tanh(1e6 * (h - 1)) + h, np.array([x]), unit)[1]
        npt.assert_allclose(moved, [[1 + 1e6 / np.cosh(1e6 * (x - 1)) ** 2]], rtol=1e-4)
