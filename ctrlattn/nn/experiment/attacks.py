"""x + s n, x + eps sign(grad loss), and repeated sign steps in the ball of radius eps: noise, FGSM and PGD on images.

All of them keep pixels in [0, 1]. Perturbations are measured in pixel values, before the network normalises its input.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from ctrlattn.errors import InputError

Classify = Callable[[torch.Tensor], torch.Tensor]


def noisy(images: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Return clip(x + s n, 0, 1), where n is standard normal and s the deviation.

    >>> noisy(torch.full((2,), 0.5), 0.0, torch.Generator()).tolist()
    [0.5, 0.5]
    """
    draw = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    return (images + deviation * draw).clamp(0.0, 1.0)


def fgsm(classify: Classify, images: torch.Tensor, labels: torch.Tensor, eps: float) -> torch.Tensor:
    """Return clip(x + eps sign(grad_x loss), 0, 1).

    Parameters
    ----------
    classify : callable
        images -> logits (N, classes).
    images : (N, ...), in [0, 1]
    labels : (N,)
    eps : float

    References
    ----------
    Goodfellow, Shlens, Szegedy, arXiv 1412.6572, section 4.

    Examples
    --------
    >>> x, label = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    >>> fgsm(lambda x: x, x, label, 0.25).tolist()
    [[0.25, 0.75]]
    """
    return (images + eps * _direction(classify, images, labels)).clamp(0.0, 1.0)


def pgd(
    classify: Classify,
    images: torch.Tensor,
    labels: torch.Tensor,
    eps: float,
    *,
    steps: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Take steps of 2.5 eps/steps along the sign of the gradient from a random start, within eps of x and in [0, 1].

    Parameters
    ----------
    classify, images, labels, eps : see fgsm
    steps : int
    generator : torch.Generator
        Source of the random start, which is uniform in the ball.

    Raises
    ------
    InputError
        steps is below 1, or eps is below 0.

    References
    ----------
    Madry et al., arXiv 1706.06083, section 2.1.

    Examples
    --------
    >>> x, label = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    >>> pgd(lambda x: x, x, label, 0.25, steps=5, generator=torch.Generator().manual_seed(0)).tolist()
    [[0.25, 0.75]]
    """
    if steps < 1 or not eps >= 0:
        raise InputError(f"an attack needs steps >= 1 and eps >= 0, got {steps} and {eps}")
    start = torch.rand(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    low, high = (images - eps).clamp(min=0.0), (images + eps).clamp(max=1.0)
    x = torch.clamp(images + eps * (2 * start - 1), low, high)
    for _ in range(steps):
        x = torch.clamp(x + 2.5 * eps / steps * _direction(classify, x, labels), low, high)
    return x


def _direction(classify: Classify, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sign of the gradient of the loss with respect to the images; the parameters get no gradient."""
    x = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(cross_entropy(classify(x), labels, reduction="sum"), x)
    return gradient.sign()
