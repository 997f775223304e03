"""Presets as networks: each is built, and learns."""

import pytest

torch = pytest.importorskip("torch")

from ctrlattn import presets  # noqa: E402
from ctrlattn.nn import configuration  # noqa: E402

NETWORKS = ("softmax", "neutreno", "pidformer-printed", "pidformer-ema", "comparator")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_preset_is_a_network(name, vit):
    options, loop = configuration(name), presets.get(name)
    model = vit(**options)
    attention = model.blocks[0].attn
    assert attention.controller is loop.controller
    assert attention.tracking.reference_gain == loop.reference_gain
    assert model.blocks[0].stream.feedback == (-1.0 if name == "comparator" else 1.0)
    assert torch.isfinite(model(torch.ones(2, 1, 8, 8))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_it_learns(name, vit):
    model = vit(seed=2, **configuration(name))
    generator = torch.Generator().manual_seed(3)
    images, labels = torch.randn(16, 1, 8, 8, generator=generator), torch.arange(16) % 4
    for image, label in zip(images, labels.tolist(), strict=True):  # one pixel of every patch is bright: which?
        image[0, label // 2 :: 2, label % 2 :: 2] += 3.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2  # chance is log 4 = 1.386
