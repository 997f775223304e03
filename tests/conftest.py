"""Every test that asks for `xp` runs on numpy and on torch; no test may change global state."""

import numpy as np
import pytest


@pytest.fixture(params=["numpy", "torch"])
def xp(request):
    """The library under test, one of the two array kinds."""
    return pytest.importorskip(request.param)


@pytest.fixture(autouse=True)
def _nothing_global():
    """A test leaves numpy's error handling and torch's default dtype as it found them."""
    import torch

    before = (np.geterr(), torch.get_default_dtype(), torch.is_grad_enabled())
    yield
    assert (np.geterr(), torch.get_default_dtype(), torch.is_grad_enabled()) == before
