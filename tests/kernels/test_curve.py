"""The compiled search against the plain one, and the nearest point against a dense grid."""

import numpy as np
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import curve
from ctrlattn.kernels.boundary import memory_of
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import samples, start_grid
from ctrlattn.stability.boundary_search import zeros as plain_zeros

NOISE = 1e-13


def system(n, seed):
    rng = np.random.default_rng([n, seed])
    a = np.triu(rng.standard_normal((n, n)), -1)
    return 0.95 * a / np.abs(np.linalg.eigvals(a)).max(), rng.standard_normal((n, 1)), rng.standard_normal((1, n))


def plain(transfer, continuous):
    """The response and the functions of the compiled search, in numpy."""

    def response(w):
        values = transfer.at(w)[0, 0]
        return np.where(np.isfinite(values), values, np.inf)

    def functions(w, values):
        with np.errstate(all="ignore"):
            size = np.abs(values)
            sine = np.where(np.isfinite(size) & (size > 0), values.imag / size, 0.0)
            level = np.where(np.isfinite(size), (size - 1) / (size + 1), 1.0)
        base = w / (1 + w * w) if continuous else np.sin(w)
        near = [np.where(np.abs(f) < NOISE, 0.0, f / scale) for f, scale in ((sine, base), (level, 1.0))]
        return np.stack([*near, np.minimum(np.abs(1 + values), 1e300)])

    return response, functions


@every_case("seed", range(12))
@every_case("continuous", [False, True])
def test_the_search_is_the_plain_one(seed, continuous):
    a, b, c = system(2 + seed % 9, seed=seed)
    if continuous:
        a = a - np.eye(len(a))
    transfer = BoundaryTransfer(a, b, 3 * c, np.zeros((1, 1)), continuous)
    response, functions = plain(transfer, continuous)
    w = start_grid(np.linalg.eigvals(a), continuous=continuous)
    expected = samples(response, functions, w)
    end = np.inf if continuous else np.pi
    points = curve.refined(transfer.sides, w, end, memory_of(transfer.sides))
    assert points[[0, -1], 3].tolist() == [0.0, end]
    grid = points[1:-1, 3]
    assert np.all(np.diff(grid) >= 0)
    # Rounding may halve a step once more; nearly all points are the same, and what they show is.
    common, i, j = np.intersect1d(grid, expected.w, return_indices=True)
    assert len(common) > 0.95 * max(len(grid), len(expected.w))
    seen, plainly = points[1:-1][i, :3].T, expected.functions[:, j]
    assert_allclose(seen[2], plainly[2], rtol=1e-9)
    assert_allclose(seen, plainly, rtol=1e-9, atol=1e-8)
    found = curve.searched(transfer.sides, w, end)
    values = response(found[0])
    assert_allclose(found[1], values, rtol=1e-9, atol=1e-12 * np.abs(values).max())
    assert found[0][:2].tolist() == [0.0, end]
    for which, crossed in ((0, found[0][2 : 2 + found[2]]), (1, found[0][2 + found[2] :])):
        assert_allclose(np.sort(crossed), np.sort(plain_zeros(response, functions, expected, which)), rtol=1e-9)


def test_a_smooth_curve_needs_no_more_than_a_halving_and_noise_ends():
    transfer = BoundaryTransfer(np.zeros((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), np.array([[0.5]]), False)
    w = np.linspace(0.1, 3, 30)
    points = curve.refined(transfer.sides, w, np.pi, memory_of(transfer.sides))
    assert_allclose(points[:, 3], [0.0, *np.linspace(0.1, 3, 59), np.pi])
    assert_allclose(points[:, :3], np.array([0.0, -1 / 3, 1.5]) * np.ones((61, 1)))
    w, values, crossed, least, _ = curve.searched(transfer.sides, w, np.pi)
    assert (w.tolist(), values.tolist(), crossed, least) == ([0.0, np.pi], [0.5, 0.5], 0, 1.5)


@every_case("seed", range(8))
def test_the_closest_point_is_no_farther_than_any_of_a_dense_grid(seed):
    a, b, c = system(2 + seed, seed=100 + seed)
    transfer = BoundaryTransfer(a, b, c, np.zeros((1, 1)), False)
    w = np.linspace(0, np.pi, 200)
    distance = np.abs(1 + transfer.at(w)[0, 0])
    points = np.stack([0 * w, 0 * w, distance, w], axis=1)
    least, at = curve.closest(transfer.sides, points, memory_of(transfer.sides))
    dense = np.linspace(0, np.pi, 20001)
    assert least <= np.abs(1 + transfer.at(dense)[0, 0]).min() * (1 + 1e-12)
    assert_allclose(np.abs(1 + transfer.at(np.array([at]))[0, 0, 0]), least, rtol=1e-12)
