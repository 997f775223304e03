"""Exponents over passes: those of known maps lie in their intervals, and what digits do not tell is left open."""

import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import PID, InputError, looped
from ctrlattn.arrays import like
from ctrlattn.looped.exponents import _agreement
from ctrlattn.stability import Exponents, pass_poles


def as_kind(xp, x):
    return like(x, xp.zeros(1, dtype=xp.float64))


def linear(xp, matrix):
    move = as_kind(xp, matrix)
    return lambda h: move @ h


def bent(xp, w):
    w = as_kind(xp, w)
    return lambda h: xp.tanh(h @ w)


W = np.random.default_rng(0).standard_normal((3, 3)) / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("xp", "controller"),
    [("numpy", None), ("numpy", PID(0.3, 0.1)), ("torch", PID(0.4))],
    indirect=["xp"],
)
def test_at_a_fixed_point_the_largest_exponent_is_the_log_of_the_largest_pole(xp, controller):
    f, h = bent(xp, W), as_kind(xp, np.random.default_rng(1).standard_normal((1, 3)))
    point = looped.fixed_point(f, h)
    poles = pass_poles(controller, looped.spectrum(f, point.x).eigenvalues)
    largest = looped.exponents(f, point.x, 100, controller=controller)
    assert largest.values[0] == pytest.approx(np.log(np.abs(poles).max()), abs=1e-6)
    assert largest.high[0] - largest.low[0] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("xp", "k"), [("numpy", 2), ("torch", 1)], indirect=["xp"])
def test_the_exponents_of_chaotic_maps_are_known(xp, k):
    def henon(h):
        return xp.stack([1 - 1.4 * h[0] ** 2 + h[1], 0.3 * h[0]])

    known = [0.41922, np.log(0.3) - 0.41922]
    found = looped.exponents(henon, as_kind(xp, np.array([0.1, 0.1])), 128, k)
    assert len(found.running) > 128  # it went on by itself
    assert np.all((found.low <= known[:k]) & (known[:k] <= found.high))
    assert np.all(np.abs(found.values - known[:k]) <= 0.1)


@pytest.mark.filterwarnings("error")
def test_a_state_that_overflows_inside_of_the_map_is_told_without_a_warning():
    with pytest.raises(InputError, match="no longer finite after step 2 of 105"):
        looped.exponents(lambda h: h * np.exp(50 * np.abs(h)), np.ones(2), 5)


def jordan(rng):
    """(matrix, exponents): a Jordan block, a cluster, or separate eigenvalues, coupled by 1e-6 to 1e6, most turned."""
    size, coupling, value = int(rng.integers(1, 7)), 10.0 ** rng.uniform(-6, 6), rng.uniform(0.3, 1.5)
    near = value + 10.0 ** rng.uniform(-12, -1) * rng.standard_normal(size)
    values = [np.full(size, value), -near, rng.uniform(0.3, 1.5, size)][int(rng.integers(3))]
    above = [np.eye(size, k=1), np.triu(rng.standard_normal((size, size)), 1)][int(rng.integers(2))]
    matrix, q = np.diag(values) + coupling * above, np.linalg.qr(rng.standard_normal((size, size)))[0]
    matrix = [matrix.T.copy(), q @ matrix @ q.T, q @ matrix @ q.T][int(rng.integers(3))]
    return matrix, np.sort(np.log(np.abs(values)))[::-1]


@pytest.mark.slow
@pytest.mark.parametrize(("xp", "seed"), [("numpy", 0), ("numpy", 2), ("numpy", 3), ("torch", 4)], indirect=["xp"])
def test_exponents_of_jordan_blocks_and_clusters_lie_in_their_intervals_or_are_open(xp, seed):
    rng, given, count = np.random.default_rng(seed), 0, 3
    for _ in range(count):
        matrix, exact = jordan(rng)
        x = as_kind(xp, rng.choice([0.0, 1e-6, 1.0, 1e6]) * rng.standard_normal(len(matrix)))
        k = int(rng.integers(1, len(matrix) + 1))
        try:
            found = looped.exponents(linear(xp, matrix), x, 40, k)
        except InputError:  # it runs away, as it may for |lambda| > 1
            continue
        assert np.all((found.low <= exact[:k]) & (exact[:k] <= found.high))
        known = ~np.isnan(found.values)
        assert np.all(np.abs(found.values - exact[:k])[known] <= 0.1)
        assert known.all() != bool(found.why)
        given += known.all()
    assert given


def test_a_large_block_whose_rounding_decides_is_open_and_says_so(xp):
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    block = q @ (0.74 * np.eye(6) + 230.0 * np.eye(6, k=1)) @ q.T
    found = looped.exponents(linear(xp, block), as_kind(xp, np.ones(6)), 40)
    assert np.isnan(found.values[0])
    assert found.low[0] <= np.log(0.74) <= found.high[0]
    assert "1 of 1 Lyapunov exponents are open" in found.why


def test_a_block_beside_its_turning_growth_is_given_by_its_eigenvalue(xp):
    # The run alone, t^5 beside .7^t, is off by 5/t; the eigenvalue is known to delta^(1/6).
    block = 0.7 * np.eye(3) + 0.2 * np.eye(3, k=1)
    found = looped.exponents(linear(xp, block), as_kind(xp, np.ones(3)), 40, 2)
    npt.assert_allclose(found.values, np.log(0.7), atol=1e-2 if xp is np else 1e-4)
    assert np.all(found.low < found.values)
    assert np.all(found.values < found.high)


@pytest.mark.slow
def test_what_annihilates_has_no_finite_exponent(xp):
    assert np.all(looped.exponents(lambda h: 0 * h, as_kind(xp, np.zeros(2)), 5, 2).values == -np.inf)
    one = looped.exponents(linear(xp, np.diag([0.5, 0.0])), as_kind(xp, np.ones(2)), 20, 2)
    assert one.values[0] == pytest.approx(np.log(0.5))
    assert one.values[1] == one.low[1] == -np.inf
    assert -40 < one.high[1] < -15  # what rounding may hide


def test_a_run_and_eigenvalues_that_contradict_each_other_are_open():
    run = Exponents(np.array([0.2, -1.0]), np.array([0.1, -1.1]), np.array([0.3, -0.9]), np.full((9, 2), 0.2), "")
    found = _agreement(run, np.exp([-0.3, -1.0]), np.full(2, 1e-9))
    assert np.isnan(found.values[0])
    assert found.low[0] == pytest.approx(-0.3)
    assert found.high[0] == 0.3
    assert found.values[1] == pytest.approx(-1.0)
    assert found.high[1] - found.low[1] < 1e-8
    assert "number 1 lies between -0.3 and -0.3" in found.why
    above = _agreement(run, np.exp([0.8, -1.0]), np.full(2, 1e-9))
    assert np.isnan(above.values).tolist() == [True, False]
    assert (above.low[0], above.high[0]) == pytest.approx((0.1, 0.8))


@pytest.mark.slow
def test_a_derivative_that_changes_is_not_taken_for_one_matrix():
    # On its orbit of period 2 the logistic map has two derivatives; ln|4 + 2 g - g^2|/2 is neither's.
    found = looped.exponents(lambda h: 3.2 * h * (1 - h), np.array([0.3]), 200)
    assert found.values[0] == pytest.approx(np.log(abs(4 + 6.4 - 3.2**2)) / 2, abs=1e-6)
    assert found.low[0] < found.values[0] < found.high[0]


def test_torch_states_of_networks_need_no_jacobian():
    entries = torch.linspace(0.1, 0.9, 401, dtype=torch.float64)
    found = looped.exponents(lambda h: entries * h, torch.zeros(401, dtype=torch.float64), 60, transient=60)
    assert found.low[0] <= np.log(0.9) <= found.high[0]


@pytest.mark.parametrize("bad", [{"passes": 0}, {"k": 3}, {"most": 0}, {"transient": -1}])
def test_bad_counts(bad):
    given = {"passes": 5, "k": 1, **bad}
    with pytest.raises(InputError, match="must be a whole number"):
        looped.exponents(lambda h: 0.5 * h, np.ones(2), **given)
