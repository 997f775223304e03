"""N(a z) - N(0) = k_a (N(z) - N(0)): norms of every kind are told from maps and from functions of several tokens."""

import pytest
import torch

from ctrlattn.checkpoints.trace.norms import forgets_size

Z = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))


def filled(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return module


class Made(torch.nn.Module):
    """A function as a module."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *args):
        return self.f(*args)


NORMS = {
    "layer": filled(torch.nn.LayerNorm(6)),
    "root mean square": filled(torch.nn.RMSNorm(6)),
    "length one": Made(lambda z: z / z.norm(dim=-1, keepdim=True).clamp_min(1e-12)),
    "with its scale": Made(lambda z: (torch.nn.functional.normalize(z, dim=-1), z.norm())),
    "a large constant": Made(lambda z: z / (z.pow(2).mean(-1, keepdim=True) + 0.1).sqrt()),
}
OTHERS = {
    "a map": filled(torch.nn.Linear(6, 6)),
    "nothing": torch.nn.Identity(),
    "zero": Made(torch.zeros_like),
    "bounded": torch.nn.Tanh(),
    "of the whole text": Made(lambda z: z / z.norm().clamp_min(1e-12)),
    "of the running mean": Made(lambda z: torch.nn.functional.normalize(z.cumsum(-2) - z, dim=-1)),
    "two arguments": Made(lambda z, w: z),
    "no tensor": Made(lambda z: {"z": z}),
    "infinite": Made(lambda z: z.exp()),
    "other shape": Made(lambda z: torch.nn.functional.normalize(z[..., :3], dim=-1)),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm(name):
    given = NORMS[name].forward(Z)
    assert forgets_size(NORMS[name], Z, (given[0] if isinstance(given, tuple) else given).detach())


@pytest.mark.parametrize("name", OTHERS)
def test_no_norm(name):
    module = OTHERS[name]
    n = Z if name in ("two arguments", "no tensor", "other shape") else module(Z).detach()
    assert not forgets_size(module, Z, n)


def test_what_it_returned_must_be_its_own():
    n = NORMS["layer"](Z).detach()
    assert not forgets_size(NORMS["layer"], Z, n.flip(-1))


def test_a_feature_that_is_zero_is_no_reason_against_a_norm():
    z = Z.clone()
    z[..., 2] = 0
    bent = Made(
        lambda z: z / (z.pow(2).mean(-1, keepdim=True) + 100).sqrt()
    )  # its largest element counts, not the least
    assert forgets_size(bent, z, bent(z))
