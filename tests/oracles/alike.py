"""Two passes of one network whose weights lie elsewhere in memory: BLAS may add in another order at another address."""

import torch


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two results are the same to 100 roundings of the largest one; that weights are the same is another test.

    >>> alike(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-6])), alike(torch.ones(1), torch.ones(1) + 1e-3)
    (True, False)
    """
    return torch.allclose(a, b, rtol=0.0, atol=100 * torch.finfo(b.dtype).eps * float(b.detach().abs().max()))
