"""Fixed points: linear ones in closed form, numbers that are known, large networks; basins with known edges."""

import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import PID, InputError, looped
from ctrlattn.arrays import like, to_numpy
from ctrlattn.looped import rest


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


@pytest.mark.parametrize("recall", [0.0, 0.7])
@pytest.mark.parametrize("eigenvalues", [[0.0, 0.0], [0.5, -0.5], [3.0, -2.0], [15.0, 0.99]])
def test_the_fixed_point_of_an_affine_pass(xp, eigenvalues, recall):
    j, b, h = np.diag(eigenvalues) + np.array([[0, 0.4], [0, 0]]), np.array([1.0, -0.5]), np.array([[0.2, 0.6]])
    move, bias = as_kind(xp, j.T), as_kind(xp, b)
    point = looped.fixed_point(lambda h: h @ move + bias, as_kind(xp, h), recall=recall)
    exact = np.linalg.solve((1 + recall) * np.eye(2) - j, b + recall * h[0])
    npt.assert_allclose(to_numpy(point.x)[0], exact, rtol=1e-8)
    assert point.residual <= 1e-10 * max(1, np.abs(exact).max())


def test_a_constant_is_its_own_fixed_point_and_of_the_identity_the_start_is_one(xp):
    c, h = as_kind(xp, np.array([[1.0, 2.0]])), as_kind(xp, np.zeros((1, 2)))
    npt.assert_allclose(looped.fixed_point(lambda h: c + 0 * h, h).x, c, atol=1e-10)
    identity = looped.fixed_point(lambda h: 1.0 * h, c)
    npt.assert_array_equal(identity.x, c)
    assert identity.iterations == 0


@pytest.mark.slow
@pytest.mark.parametrize("recall", [0.0, 0.4])
def test_a_network_of_many_tokens_rests_where_its_error_vanishes(recall):
    g = torch.Generator().manual_seed(0)
    d, n = 16, 10
    wq, wk, w1, w2 = (torch.randn(d, d, generator=g, dtype=torch.float64) / d**0.5 for _ in range(4))

    def f(h):
        a = torch.softmax((h @ wq) @ (h @ wk).T / d**0.5, -1)
        h = 0.6 * h + 0.5 * a @ h
        return 0.6 * torch.nn.functional.layer_norm(h + 0.5 * torch.tanh(h @ w1) @ w2, (d,)) + bias

    h, bias = torch.randn(2, n, d, generator=g, dtype=torch.float64)
    point = looped.fixed_point(f, h, recall=recall)
    error = f(point.x) - point.x + recall * (h - point.x)
    npt.assert_allclose(float(error.abs().max()), point.residual, rtol=0, atol=1e-14)  # rounding is all that is left
    assert point.residual <= 1e-10 * float(point.x.abs().max())


def test_what_newton_misses_from_afar_anderson_brings_near(xp):
    # arctan: Newton's method overshoots from |h| > 1.39 and needs its damping; e = -arctan(h).
    point = looped.fixed_point(lambda h: h - xp.arctan(h), as_kind(xp, np.array([12.0, -3.0])))
    npt.assert_allclose(point.x, as_kind(xp, np.zeros(2)), atol=1e-10)


def test_a_loop_without_a_fixed_point_is_refused_with_the_residual_that_was_reached():
    with pytest.raises(ArithmeticError, match=r"residual max \|e\| reached 1"):
        looped.fixed_point(lambda h: h + 1.0 + h**2, np.array([0.3]))
    # With recall it has one: 1 + h^2 + k (h_0 - h) = 0.
    point = looped.fixed_point(lambda h: h + 1.0 + h**2, np.array([0.3]), recall=4.0)
    npt.assert_allclose(point.x, 2 - np.sqrt(4 - 2.2), rtol=1e-10)


def test_a_start_of_its_own_leads_to_another_fixed_point():
    def f(h):
        return h - (h - 1) * (h - 2)

    npt.assert_allclose(looped.fixed_point(f, np.array([0.9])).x, 1.0, rtol=1e-10)
    npt.assert_allclose(looped.fixed_point(f, np.array([0.9]), start=np.array([2.3])).x, 2.0, rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"h": np.ones(2, dtype=np.float32)}, "needs float64"),
        ({"recall": -0.1}, "at least 0"),
        ({"tol": 0.0}, "tol must be positive"),
        ({"start": np.ones(3)}, "must be shaped as h"),
    ],
)
def test_bad_input_says_what_would_be_right(change, says):
    given = {"h": np.ones(2), **change}
    with pytest.raises(InputError, match=says):
        looped.fixed_point(lambda h: 0.5 * h, given.pop("h"), **given)


# --- scales: s f(h/s) has the fixed points of f times s ------------------------------------------------------------

SCALES = [1e-8, 1e-6, 1e-3, 1e3, 1e6]


def conjugated(f, scale):
    return lambda h: scale * f(h / scale)


@pytest.mark.parametrize("scale", SCALES)
def test_a_fixed_point_scales_with_its_state(xp, scale):
    for f, start, exact in (
        (xp.cos, [0.1, 2.0], 0.7390851332151607),
        (lambda h: -1.5 * h + xp.tanh(h) + 1.0, [0.4, -3.0], 0.6206252992008818),  # 1 - 2.5 h + tanh h = 0
        (lambda h: 0.5 * h, [1.0, -1.0], 0.0),
    ):
        point = looped.fixed_point(conjugated(f, scale), as_kind(xp, scale * np.array(start)))
        npt.assert_allclose(to_numpy(point.x) / scale, exact, atol=1e-9)
        assert point.residual <= 1e-10 * scale * max(np.abs(start))


def test_a_state_of_size_1e_8_is_not_at_rest_because_it_is_small(xp):
    # Its error is 1e-8 itself: the old bound of 1e-10 was near, and one of 1e-12 far below it.
    for size in (1e-8, 1e-12, 1e-100):
        point = looped.fixed_point(lambda h: -2.0 * h, as_kind(xp, np.full(3, size)))
        assert float(abs(point.x).max()) <= 1e-10 * size


def test_a_slow_loop_is_not_at_rest_because_it_moves_little():
    # e = 1e-7 (2 - h) is far below 1e-5 of the state everywhere, and the fixed point is 2.
    h = torch.ones(2, dtype=torch.float64)
    for rate in (1e-3, 1e-7, 1e-11):
        point = looped.fixed_point(lambda h, rate=rate: h + rate * (2.0 - h), h)
        npt.assert_allclose(point.x, 2.0, rtol=1e-4)
        assert float(abs(point.off).max()) <= 1e-5 * 2


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_loop_that_slows_down_on_its_way_out_has_no_fixed_point(scale):
    for f in (lambda h: h + 1 / h**2, lambda h: h + 1 / h, lambda h: h + 1.0):
        with pytest.raises(ArithmeticError, match="no fixed point found"):
            looped.fixed_point(conjugated(f, scale), scale * np.array([1.0, 2.0]))


@pytest.mark.parametrize("size", [2, 1500])  # with the Jacobian, and with its products alone
def test_an_error_that_rounding_has_swallowed_far_out_is_none_of_zero(size, monkeypatch):
    """At 4e5 of its start h + 1/h^2 is h in doubles: on some processors Anderson's acceleration went as far."""
    scale = 2.0**-20
    far = scale * (4e5 + np.arange(size))
    monkeypatch.setattr(rest._RestEquation, "warmed", lambda self, x: (far, 150))
    f = conjugated(lambda h: h + 1 / h**2, scale)
    assert np.array_equal(f(far), far)
    with pytest.raises(ArithmeticError, match="no fixed point found"):
        looped.fixed_point(f, scale * np.linspace(1.0, 2.0, size))


@pytest.mark.parametrize("scale", SCALES)
def test_a_line_of_fixed_points_leads_nowhere(xp, scale):
    # J - I is rounding on the line: a step that divided by it would leave.
    turn = as_kind(xp, np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0])
    h = as_kind(xp, scale * np.linspace(1.0, 2.0, 4))
    point = looped.fixed_point(lambda h: (h @ turn) @ turn.T, h)
    npt.assert_allclose(point.x, h, rtol=1e-6)


def test_a_multiple_fixed_point_says_how_far_it_may_be():
    point = looped.fixed_point(
        torch.tanh, torch.ones(1, dtype=torch.float64)
    )  # h - h^3/3: Newton goes a third of the way at a time
    assert abs(point.x[0]) <= 1e-4
    npt.assert_allclose(3 * point.off, -point.x, rtol=1e-3)


# --- basins -------------------------------------------------------------------------------------------------------


def cubic(h):
    return 0.5 * h + h**3  # |h| < sqrt(1/2) comes back to 0


def test_the_basin_of_a_cubic_ends_where_its_other_fixed_points_are(xp):
    edge = np.sqrt(0.5)
    near = looped.basin(cubic, as_kind(xp, np.zeros(1)), [0.5 * edge, 0.99 * edge, 1.01 * edge], starts=20)
    assert near.returned.tolist() == [20, 20, 0]
    assert near.low[0] == pytest.approx(0.025 ** (1 / 20), rel=1e-9)  # Clopper and Pearson, all return
    assert near.high[2] == pytest.approx(1 - 0.025 ** (1 / 20), rel=1e-9)
    assert near.high[0] == 1
    assert near.low[2] == 0


@pytest.mark.slow
def test_a_gain_changes_the_basin_and_not_the_point(xp):
    # h' = h + g (F(h) - h) with F = -2 h + h^3: not stable at g = 1, stable at g = 1/2.
    def f(h):
        return -2.0 * h + h**3

    x = as_kind(xp, np.zeros(2))
    assert looped.basin(f, x, [0.1]).returned.tolist() == [0]
    assert looped.basin(f, x, [0.1], controller=PID(0.5)).returned.tolist() == [32]


def test_recall_leads_back_to_its_reference_and_not_to_the_start():
    # h' = 2 h - k (h - 1): its fixed point is k/(k - 1), stable for k = 2.
    x = np.array([2.0])
    came_back = looped.basin(lambda h: 2.0 * h, x, [0.5], recall=2.0, reference=np.ones(1), controller=PID(0.5))
    assert came_back.returned.tolist() == [32]
    assert looped.basin(lambda h: 2.0 * h, x, [0.5], reference=np.ones(1)).returned.tolist() == [0]


def test_a_radius_must_be_positive():
    with pytest.raises(InputError, match="radii must be"):
        looped.basin(cubic, np.zeros(1), [0.0])


@pytest.mark.parametrize("size", [1e150, 1e300, 1.7e308])
def test_a_derivative_too_large_for_its_singular_values_is_no_fixed_point_and_no_error_of_numpy(xp, size):
    h = as_kind(xp, np.linspace(1, 2, 6).reshape(2, 3))
    steep = as_kind(xp, size * (np.ones((3, 3)) - 2 * np.eye(3)))

    def f(h):
        return h @ steep + 1.0

    refused, residual = "", 0.0
    try:
        residual = looped.fixed_point(f, h).residual
    except ArithmeticError as error:
        refused = str(error)
    # Where it is not refused, a point so near to 0 is one to the digits asked for.
    assert "no fixed point found" in refused or (refused == "" and residual <= 1e-10 * 2)


def test_singular_values_that_do_not_converge_are_no_step(monkeypatch):
    def diverging(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", diverging)
    monkeypatch.setattr(np.linalg, "lstsq", diverging)
    with pytest.raises(ArithmeticError, match="no fixed point found"):
        looped.fixed_point(lambda h: 2.0 * h + 1.0, np.ones(3))


@pytest.mark.parametrize("tol", [0.0, -1.0, np.nan])
def test_a_tolerance_of_a_basin_is_positive(tol):
    with pytest.raises(InputError, match="tol must be"):
        looped.basin(lambda h: 0.5 * h, np.zeros(2), [0.5], tol=tol)
