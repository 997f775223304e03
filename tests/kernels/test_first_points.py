"""The first points of a search and the suggestions of pencils, compiled, against plain numpy."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import first_points as kernel
from ctrlattn.linear.lapack import on_contiguous
from ctrlattn.stability.boundary_search import MIDDLE, OFFSETS, PER_DECADE, distinct, start_grid
from ctrlattn.stability.robustness.level_sets import NEAR, pencil_crossings
from ctrlattn.stability.robustness.loop_curve import _BESIDE, _REAL_AXIS, real_axis_pencil


@pytest.fixture
def single(stable_system):
    def draw(seed):
        g = stable_system(seed)
        into, out = (np.abs(m).max() for m in (g.b, g.c))
        return g._replace(b=g.b[:, :1] / into, c=g.c[:1] / out, d=(seed % 3 == 0) * g.d[:1, :1])

    return draw


def first_points(poles, seeds, continuous):
    poles = np.asarray(poles, dtype=complex)
    return kernel.first_points(poles, continuous, PER_DECADE, MIDDLE, OFFSETS, np.array(seeds, dtype=float), _BESIDE)


def is_near(points, w):
    """Whether each of the points lies, to the last digits, at one of w."""
    return np.array([np.abs(x / w - 1).min(initial=np.inf) < 1e-12 for x in points])


@every_case("seed", range(20))
def test_the_points_are_those_of_the_plain_grid(seed, single):
    g = single(seed)
    poles = np.append(np.linalg.eigvals(g.a), [0.0, 0.0])
    w = start_grid(poles, continuous=g.continuous)
    seeds = np.array([0.5 * w[0], 1.3 * w[0], 0.7 * w[-1], 2.0 * w[-1]])  # the first and the last are beyond the grid
    plain = distinct(np.concatenate([w, np.multiply.outer(1 + _BESIDE, seeds[1:3]).ravel()]))
    found = first_points(poles, seeds, g.continuous)
    assert is_near(found, plain).all()
    assert is_near(plain, found).all()


@every_case("continuous", [False, True])
@every_case("share", [0.29, 0.31])
def test_a_pole_is_approached_where_it_is_nearer_to_the_boundary_than_to_its_ends(share, continuous):
    w = 1.05
    pole = w * (-share + 1j) if continuous else (1 - share * w) * np.exp(1j * w)
    found = np.sort(first_points([pole, pole.conjugate()], [], continuous))
    plain = start_grid(np.array([pole, pole.conjugate()]), continuous=continuous)
    assert_allclose(distinct(found), plain, rtol=1e-12)
    assert is_near([w], found).all() == (share < 0.3)


@pytest.mark.parametrize("continuous", [False, True])
def test_without_poles_the_ends_are_approached(continuous):
    found = np.sort(first_points([], [], continuous))
    assert_allclose(found, start_grid(np.zeros(0), continuous=continuous), rtol=1e-12)
    assert found[0] > 0
    assert continuous or found[-1] < np.pi


@every_case("seed", range(40))
def test_the_pencils_suggest_what_plain_numpy_does(seed, single):
    g = single(seed)
    found, converged = on_contiguous(kernel.suggested, g[:4], g.continuous, _REAL_AXIS, NEAR)
    assert converged
    plain = np.concatenate([real_axis_pencil(g), pencil_crossings(g, 1.0)])
    end = np.inf if g.continuous else np.pi
    # Those on the axis itself; eigenvalues next to an end, or at the edge of what is tried, are a matter of rounding.
    for these, others in ((plain, found), (found, plain)):
        inner = these[(these > 1e-6) & (these < min(end - 1e-6, 1e6))]
        seen = np.array([np.abs(others / w - 1).min(initial=np.inf) < 1e-5 for w in inner], dtype=bool)
        response = np.array([value_at(g, w) for w in inner], dtype=complex)
        is_crossing = np.minimum(np.abs(response.imag), np.abs(np.abs(response) - 1)) < 1e-7 * np.abs(response)
        assert (seen | ~is_crossing).all()


def value_at(g, w):
    point = 1j * w if g.continuous else np.exp(1j * w)
    return (g.c @ np.linalg.solve(point * np.eye(len(g.a)) - g.a, g.b) + g.d).item()


@pytest.mark.parametrize(
    ("a", "b", "continuous", "expected"),
    [
        (np.diag([-1.0] * 3) + np.diag([1.0, 1.0], 1), 12.0, True, [3**0.5, (12 ** (2 / 3) - 1) ** 0.5]),
        (np.array([[0.9, 1.0], [0.0, 0.9]]), 0.04, False, [np.arccos((1 + 0.81 - 0.04) / 1.8)]),
    ],
)
def test_both_pencils_have_the_crossings_of_closed_forms(a, b, continuous, expected):
    """12/(s + 1)^3 is real at the root of 3 and of size 1 at that of 12^(2/3) - 1; |e^{iw} - .9| = .2 at the third."""
    n = len(a)
    found, converged = kernel.suggested(
        a, b * np.eye(n)[:, -1:], np.eye(1, n), np.zeros((1, 1)), continuous, 1e-2, NEAR
    )
    assert converged
    for w in expected:
        assert np.abs(found - w).min() < 1e-5
