"""Small networks, from a seed."""

import pytest


def _vit(seed=0, **options):
    import torch

    from ctrlattn.nn import ControlledViT

    torch.manual_seed(seed)
    sizes = {"image": 8, "patch": 2, "channels": 1, "classes": 4, "dim": 12, "depth": 3, "heads": 3}
    return ControlledViT(**{**sizes, **options})


def _lm(seed=0, **options):
    import torch

    from ctrlattn.nn import ControlledLM

    torch.manual_seed(seed)
    sizes = {"dim": 12, "depth": 3, "heads": 3, "hidden": 24, "dropout": 0.0}
    return ControlledLM(11, **{**sizes, **options}).double().eval()


@pytest.fixture
def vit():
    """Makes a vision transformer of three layers."""
    return _vit


@pytest.fixture
def lm():
    """Makes a language model of three layers, in float64."""
    return _lm
