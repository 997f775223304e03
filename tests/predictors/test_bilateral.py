"""The bilateral filter against its textbook form, and as dot-product attention."""

import math
import os
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
import small_commands
from cases import every_case

from ctrlattn import BilateralFilter, SoftmaxAttention
from ctrlattn.arrays import like, softmax, to_numpy
from ctrlattn.predictors import bilateral as module

N, D = 6, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def literal_filter(x, positions, h, *, causal=False, radius=None, spatial=None):
    """Tomasi and Manduchi's weighted mean, every distance computed as it is written."""
    out = np.zeros_like(x)
    for i in range(len(x)):
        total = 0.0
        for j in range(i + 1 if causal else len(x)):
            offset = np.abs(np.subtract(positions[i], positions[j]))
            if radius is not None and offset.max() > radius:
                continue
            exponent = -((x[i] - x[j]) @ (x[i] - x[j])) / h**2
            exponent -= 0.0 if spatial is None else offset @ offset / spatial**2
            total += math.exp(exponent)
            out[i] += math.exp(exponent) * x[j]
        out[i] /= total
    return out


LINE, IMAGE = [(i,) for i in range(12)], [(i // 4, i % 4) for i in range(12)]


@every_case("offset", [0.0, 1e3])
@every_case("causal", [False, True])
@every_case("radius", [None, 0, 2, 2.5])
@every_case("spatial", [None, 1.7])
@every_case("grid", [None, (3, 4)])
def test_the_filter_is_the_textbooks(xp, offset, causal, radius, spatial, grid):
    x = draws(12, 2) + offset
    expected = literal_filter(x, IMAGE if grid else LINE, 0.9, causal=causal, radius=radius, spatial=spatial)
    predictor = BilateralFilter(0.9, causal=causal, radius=radius, spatial_bandwidth=spatial, grid=grid)
    npt.assert_allclose(to_numpy(predictor(as_kind(xp, x))), expected, rtol=1e-10, atol=1e-12)
    weights = to_numpy(predictor.weights(as_kind(xp, x)))
    assert weights.shape == (1, 12, 12)
    npt.assert_allclose(weights[0] @ x, expected, rtol=1e-10, atol=1e-12)
    npt.assert_allclose(weights.sum(-1), 1.0, rtol=1e-14)


@every_case("causal", [False, True])
def test_a_common_offset_changes_nothing_but_is_added(xp, causal):
    # Distances as 2 x.x' - |x|^2 would lose 5 more digits here; the offset itself costs 1e6 times the machine epsilon.
    x, predictor = draws(8, 3), BilateralFilter(1.0, causal=causal)
    moved = to_numpy(predictor(as_kind(xp, x + 1e6))) - 1e6
    npt.assert_allclose(moved, predictor(x), atol=2e-9)


def test_equal_norms_make_it_dot_product_attention():
    # softmax(-|x_i - x_j|^2 / h^2) = softmax(2 x_i.x_j / h^2)
    x = draws(8, 3)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    for causal in (False, True):
        attention = SoftmaxAttention(causal=causal, temperature=0.7**2 / 2)
        npt.assert_allclose(BilateralFilter(0.7, causal=causal)(x), attention(x), rtol=1e-12, atol=1e-14)


def test_a_window_of_radius_zero_is_the_identity(xp):
    x = as_kind(xp, draws(5, 2))
    npt.assert_allclose(to_numpy(BilateralFilter(1.0, radius=0)(x)), to_numpy(x), rtol=1e-14)


def test_a_wide_range_kernel_is_a_gaussian_blur():
    x = draws(9, 1)
    i = np.arange(9.0)
    blur = softmax(-((i[:, None] - i) ** 2) / 1.5**2) @ x
    npt.assert_allclose(BilateralFilter(1e7, spatial_bandwidth=1.5)(x), blur, atol=1e-12)


@every_case(
    "options, message",
    [
        ({"bandwidth": 0.0}, "bandwidth must be positive"),
        ({"bandwidth": math.nan}, "bandwidth must be finite"),
        ({"spatial_bandwidth": -1.0}, "spatial_bandwidth must be positive"),
        ({"radius": -1}, "radius must not be negative"),
        ({"radius": math.nan}, "radius must not be negative"),
        ({"grid": 3}, "grid must be .* got 3"),
        ({"grid": (3, 0)}, "width of the grid must be a whole number of at least 1, got 0"),
        ({"grid": (2.5, 2)}, "height of the grid must be a whole number of at least 1, got 2.5"),
        ({"radius": "wide"}, "radius must be a number, got 'wide'"),
        ({"grid": (2, 2, 2)}, "grid must be"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BilateralFilter(**{"bandwidth": 1.0, **options})


@every_case("n, causal", [(13, True), (13, False), (11, False)])
def test_an_image_of_another_size_is_refused(n, causal):
    with pytest.raises(ValueError, match=rf"grid \(3, 4\) has 12 pixels, the signal has {n} tokens"):
        BilateralFilter(1.0, causal=causal, grid=(3, 4))(draws(n, 2))


@every_case("weights, causal", [(1, False), (30, True), (30, False), (200, True)])
@every_case("radius", [None, 0, 1.5, 2, 40, math.inf])
@every_case("grid", [None, (4, 6)])
def test_a_filter_in_blocks_is_the_filter_at_once(xp, weights, causal, radius, grid):
    x = as_kind(xp, draws(2, 24, 3))
    predictor = BilateralFilter(0.9, causal=causal, radius=radius, spatial_bandwidth=1.7, grid=grid)
    whole = predictor(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_WEIGHTS", 2 * weights)
        assert len(list(predictor._blocks(x))) > 1
        npt.assert_allclose(to_numpy(predictor(x)), to_numpy(whole), rtol=1e-13, atol=1e-14)


def test_a_filter_in_blocks_has_the_gradient_of_the_filter_at_once(monkeypatch):
    torch = pytest.importorskip("torch")
    gradients = []
    for weights in (module._WEIGHTS, 50):
        monkeypatch.setattr(module, "_WEIGHTS", weights)
        x = torch.tensor(draws(24, 3), requires_grad=True)
        y = BilateralFilter(0.9, causal=True, radius=2, grid=(4, 6))(x)
        gradients.append(torch.autograd.grad((y**3).sum(), x)[0])
    npt.assert_allclose(*gradients, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@every_case("side, radius", [(96, 3), (64, None)])
def test_an_image_takes_the_memory_of_its_windows(side, radius):
    """16,384 pixels with a window of 7 by 7 took more than 4.5 GB, since every pair had a weight."""
    x, predictor = draws(side * side, 3), BilateralFilter(0.9, radius=radius, grid=(side, side))
    tracemalloc.start()
    predictor(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * module._WEIGHTS  # bytes: a few arrays of one block


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked after all imports")
def test_an_image_with_its_gradient_takes_the_memory_of_its_windows(tmp_path):
    """A process that is forked has a peak of its own, which begins with what it has."""
    torch = pytest.importorskip("torch")

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

    def gradient():
        torch.set_num_threads(1)
        before, x = peak(), torch.rand(96 * 96, 3, dtype=torch.float64, requires_grad=True)
        (BilateralFilter(0.9, radius=3, grid=(96, 96))(x) ** 2).sum().backward()
        sys.stdout.write(f"{peak() - before}")
        sys.stdout.flush()

    done = small_commands.finish(small_commands.start(gradient, tmp_path / "said"), tmp_path / "said", 120.0)
    assert done.code == 0, done.stderr
    assert 20 < float(done.stdout) < 500  # MB; 9,216 x 9,216 weights alone are 679
