"""Attacks against closed forms: a linear classifier, whose best perturbation inside a box is known."""

import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.experiment.attacks import fgsm, noisy, pgd  # noqa: E402  (after the skip)

GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(6, 2, generator=GENERATOR)
X = 0.3 + 0.4 * torch.rand(5, 6, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 1, 0, 1])


def linear(x):
    return x @ W


def worst(eps):
    """Of two classes the loss falls with the margin w_right - w_wrong, so that the corner against it is the worst."""
    margin = W[:, LABELS].T - W[:, 1 - LABELS].T
    return (X - eps * margin.sign()).clamp(0, 1)


def start():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.9])
def test_both_attacks_find_the_worst_corner_of_a_linear_classifier(eps):
    npt.assert_allclose(fgsm(linear, X, LABELS, eps), worst(eps), atol=1e-6)
    npt.assert_allclose(pgd(linear, X, LABELS, eps, steps=10, generator=start()), worst(eps), atol=1e-6)


def test_the_attacks_stay_in_the_ball_and_in_the_range_of_pixels():
    for attacked in (fgsm(linear, X, LABELS, 0.4), pgd(linear, X, LABELS, 0.4, steps=3, generator=start())):
        assert (attacked - X).abs().max() <= 0.4 + 1e-6
        assert attacked.min() >= 0.0
        assert attacked.max() <= 1.0


def test_steps_find_what_one_step_oversteps():
    # The loss of class 0 is largest at 0.6; one whole step from 0.5 ends at 0.9.
    def classify(x):
        return torch.cat([(x - 0.6) ** 2, torch.zeros_like(x)], -1)

    x, label = torch.tensor([[0.5]]), torch.tensor([0])
    once, often = fgsm(classify, x, label, 0.4), pgd(classify, x, label, 0.4, steps=40, generator=start())
    assert once.item() == pytest.approx(0.9)
    assert often.item() == pytest.approx(0.6, abs=0.026)  # within the last step, 2.5 x 0.4 / 40


def test_parameters_get_no_gradient_and_images_keep_their_own():
    network = torch.nn.Linear(6, 2)
    fgsm(network, X, LABELS, 0.1)
    assert network.weight.grad is None
    assert not X.requires_grad


def test_noise_has_its_deviation_and_is_clipped():
    middle = torch.full((20_000,), 0.5)
    noise = noisy(middle, 0.05, torch.Generator().manual_seed(0)) - middle
    assert abs(noise.std().item() / 0.05 - 1) < 0.02
    strong = noisy(middle, 5.0, torch.Generator().manual_seed(0))
    assert (strong.min().item(), strong.max().item()) == (0.0, 1.0)


@pytest.mark.parametrize(("steps", "eps"), [(0, 0.1), (5, -0.1), (5, float("nan"))])
def test_an_attack_that_is_none_is_refused(steps, eps):
    with pytest.raises(ValueError, match="steps >= 1 and eps >= 0"):
        pgd(linear, X, LABELS, eps, steps=steps, generator=start())
