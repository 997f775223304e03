"""Eigenvalues of one pass: closed forms, both array kinds, the matrix-free way against the formed Jacobian."""

import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import PID, InputError, looped
from ctrlattn.arrays import like
from ctrlattn.stability import pass_poles


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


MATRICES = {
    "constant": np.zeros((2, 2)),
    "identity": np.eye(2),
    "pair": np.array([[0.3, -0.8], [0.8, 0.3]]),
    "defective": np.array([[0.5, 1.0], [0.0, 0.5]]),
    "flip": np.array([[0.0, 1.0], [1.0, 0.0]]),
}
EIGENVALUES = {
    "constant": [0, 0], "identity": [1, 1], "pair": [0.3 + 0.8j, 0.3 - 0.8j], "defective": [0.5, 0.5], "flip": [1, -1],
}  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
def test_the_whole_spectrum_of_a_linear_pass(xp, name):
    move = as_kind(xp, MATRICES[name].T)
    found = looped.spectrum(lambda h: h @ move + 1.0, as_kind(xp, np.array([[0.3, -0.7]])))
    assert found.whole
    npt.assert_allclose(found.eigenvalues, EIGENVALUES[name], atol=1e-5 if name == "defective" else 1e-9)
    assert found.residuals.max() <= 1e-8 * max(found.norm, 1e-300)


def network(n=40, d=16, seed=0, dtype=torch.float64):
    """One layer of attention and a bent map with residual connections, 640 numbers, far from linear."""
    g = torch.Generator().manual_seed(seed)
    wq, wk, wv, w1, w2 = (torch.randn(d, d, generator=g, dtype=torch.float64).to(dtype) / d**0.5 for _ in range(5))

    def f(h):
        a = torch.softmax((h @ wq) @ (h @ wk).transpose(-1, -2) / d**0.5, -1)
        h = h + 0.5 * a @ (h @ wv)
        return h + 0.5 * torch.tanh(h @ w1) @ w2

    return f, torch.randn(n, d, generator=g, dtype=torch.float64).to(dtype)


@pytest.fixture(scope="module")
def formed():
    """(J, its eigenvalues) of the network, by dense algebra."""
    f, h = network()
    jacobian = torch.func.jacrev(f)(h).reshape(640, 640).numpy()
    return jacobian, np.linalg.eigvals(jacobian)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["LM", "LR", "critical"])
def test_the_part_that_matters_is_that_of_the_formed_jacobian(which, formed):
    f, h = network()
    part = looped.spectrum(f, h, 6, which=which, controller=PID(0.4), recall=0.3)
    jacobian, every = formed
    score = {
        "LM": np.abs(every), "LR": every.real, "critical": np.abs(pass_poles(PID(0.4), every, 0.3)).max(-1),
    }[which]  # fmt: skip
    expected = every[np.argsort(-score, kind="stable")[: len(part.eigenvalues)]]
    distance = np.abs(part.eigenvalues[:, None] - expected[None, :])
    assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) < 1e-7
    assert not part.whole
    assert part.products < 640
    residuals = np.linalg.norm(jacobian @ part.vectors - part.vectors * part.eigenvalues, axis=0)
    npt.assert_allclose(part.residuals, residuals, atol=1e-11)


def test_single_precision_answers_to_its_own_digits():
    exact = looped.spectrum(*network(), 6)
    single = looped.spectrum(*network(dtype=torch.float32), 6)
    distance = np.abs(single.eigenvalues[:, None] - exact.eigenvalues[None, :]).min(axis=1)
    assert distance.max() < 1e-3
    assert single.residuals.max() <= 1e-5 * single.norm


def test_a_numpy_map_is_differentiated_by_differences():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((30, 30)) / 5
    found = looped.spectrum(lambda h: np.tanh(h @ w), rng.standard_normal((10, 30)) / 10, 4, which="LR")
    assert not found.whole
    assert found.residuals.max() <= 1e-8 * found.norm


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"which": "SM"}, 'which must be "LM", "LR" or "critical"'),
        ({"k": 0}, "k must be"),
        ({"k": 7}, "k must be a whole number in 1 ... 6"),
        ({"recall": -1.0}, "at least 0"),
    ],
)
def test_bad_input_says_what_would_be_right(change, says):
    with pytest.raises(InputError, match=says):
        looped.spectrum(lambda h: 0.5 * h, np.ones((2, 3)), **{"k": 2, **change})


def test_the_whole_spectrum_of_a_large_state_is_refused_before_any_work():
    def never(h):
        raise AssertionError

    with pytest.raises(InputError, match="say how many, k"):
        looped.spectrum(never, np.ones(2001))


def test_a_jacobian_that_is_not_finite_is_refused():
    with pytest.raises(ArithmeticError, match="no derivative at this point"):
        looped.spectrum(torch.sqrt, torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("options", [{"tol": np.nan}, {"tol": -1.0}, {"tol": "small"}, {"seed": -1}])
def test_a_tolerance_that_bounds_nothing_is_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        looped.spectrum(lambda h: 0.5 * h, np.zeros(2), **options)


@pytest.mark.slow
def test_eigenvalues_of_maps_of_many_scales_lie_within_their_errors_or_are_refused():
    rng, given, count = np.random.default_rng(0), 0, 20
    for _ in range(count):
        n = int(rng.integers(1, 5))
        s, m = 10.0 ** rng.uniform(-6, 6, n), rng.uniform(-2, 2, n)
        y = rng.standard_normal(n) * 10.0 ** rng.uniform(-4, 0, n) * (rng.uniform(size=n) < 0.8)
        try:
            found = looped.spectrum(lambda h, s=s, m=m: s * np.tanh(m * h / s), s * y)
        except ArithmeticError:
            continue
        exact = m / np.cosh(m * y) ** 2
        off = np.abs(found.eigenvalues[:, None] - exact)
        assert np.all(off.min(axis=1) <= found.errors)
        assert np.all((off - found.errors[:, None]).min(axis=0) <= 0)
        given += 1
    assert given > 0.8 * count
