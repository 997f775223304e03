"""The spectral radius of a pass and its gradient, against autograd through the exact eigenvalues; Hutchinson's sum."""

import pytest

torch = pytest.importorskip("torch")

from ctrlattn import InputError  # noqa: E402
from ctrlattn.nn.modules.pass_radius import pass_radius, squared_norm  # noqa: E402


def exact(weights, h, f):
    jacobian = torch.autograd.functional.jacobian(lambda x: f(x, weights), h, create_graph=True)
    radius = torch.linalg.eigvals(jacobian).abs().max()
    return radius, torch.autograd.grad(radius, weights)[0]


def curved(h, weights):
    return torch.tanh(h @ weights) + 0.3 * h


@pytest.mark.slow
def test_radius_and_gradient_are_those_of_the_exact_eigenvalue():
    settled = 0
    for seed in range(2):
        g = torch.Generator().manual_seed(seed)
        weights = (torch.randn(6, 6, generator=g, dtype=torch.float64) / 6**0.5).requires_grad_()
        h = torch.randn(2, 6, generator=g, dtype=torch.float64)
        measured = pass_radius(lambda x, w=weights: curved(x, w), h, rounds=400, generator=g)
        for row in range(2):
            if measured.residual[row] > 1e-8:  # three moduli that are nearly equal
                continue
            settled += 1
            radius, gradient = exact(weights, h[row], curved)
            assert measured.radius[row].item() == pytest.approx(radius.item(), rel=1e-7)
            mine = torch.autograd.grad(measured.radius[row], weights, retain_graph=True)[0]
            assert torch.allclose(mine, gradient, atol=1e-5 * gradient.abs().max().item())
    assert settled >= 3


def test_a_complex_pair_and_a_shear_are_measured_too():
    turn = torch.tensor([[0.0, -0.9], [0.9, 0.0]], dtype=torch.float64)
    shear = torch.tensor([[0.5, 40.0], [0.0, 0.25]], dtype=torch.float64)
    h = torch.ones(1, 2, dtype=torch.float64)
    assert pass_radius(lambda x: x @ turn, h).radius.item() == pytest.approx(0.9, rel=1e-12)
    assert pass_radius(lambda x: x @ shear, h, rounds=60).radius.item() == pytest.approx(0.5, rel=1e-9)
    one = pass_radius(lambda x: -3 * x, torch.ones(4, 1))
    assert one.radius.tolist() == [3.0] * 4


def test_samples_do_not_mix_and_no_gradient_reaches_the_state():
    scale = torch.tensor([[[1.0]], [[3.0]]], dtype=torch.float64, requires_grad=True)
    h = torch.ones(2, 3, 4, dtype=torch.float64, requires_grad=True)
    radius = pass_radius(lambda x: scale * x * torch.linspace(0.1, 0.5, 4), h, rounds=200).radius
    assert radius.tolist() == pytest.approx([0.5, 1.5], rel=1e-6)
    radius.sum().backward()
    assert h.grad is None
    assert scale.grad.ravel().tolist() == pytest.approx([0.5, 0.5], rel=1e-6)


@pytest.mark.slow
def test_a_pair_that_has_not_settled_says_so():
    flat = torch.diag(torch.tensor([1.0, 0.99, 0.98, 0.97, 0.96], dtype=torch.float64))
    few, many = (pass_radius(lambda x: x @ flat, torch.ones(1, 5, dtype=torch.float64), rounds=r) for r in (1, 900))
    assert few.residual.item() > 1e-3
    assert many.residual.item() < 1e-6


def test_hutchinsons_sum_is_the_squared_norm_on_average():
    g = torch.Generator().manual_seed(0)
    weights = torch.randn(5, 5, generator=g, dtype=torch.float64)
    h = torch.zeros(3, 5, dtype=torch.float64)
    many = squared_norm(lambda x: x @ weights, h, probes=20_000, generator=g)
    assert many.tolist() == pytest.approx([weights.square().sum().item()] * 3, rel=0.03)
    diagonal = torch.tensor([1.0, -2.0, 3.0])
    assert squared_norm(lambda x: diagonal * x, torch.ones(2, 3), generator=g).tolist() == [14.0, 14.0]


def test_counts_below_one_are_refused():
    with pytest.raises(InputError, match="rounds"):
        pass_radius(lambda x: x, torch.ones(1, 2), rounds=0)
    with pytest.raises(InputError, match="probes"):
        squared_norm(lambda x: x, torch.ones(1, 2), probes=0)
