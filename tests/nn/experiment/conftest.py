"""A data set of 120 small images, and settings that train on it in a second."""

import numpy as np
import pytest

SMALL = {"epochs": 2, "depth": 2, "dim": 8, "heads": 2, "batch": 16}


def _corners():
    """Which quarter of the image is bright: 64 to train, 16 to check, 40 to test."""
    from ctrlattn.nn.experiment.data import images

    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    pixels = 0.3 * rng.random((120, 4, 4))
    for pixel, label in zip(pixels, labels, strict=True):
        pixel[2 * (label // 2) : 2 * (label // 2) + 2, 2 * (label % 2) : 2 * (label % 2) + 2] += 0.6
    return images("corners", pixels, labels, train=64, valid=16)


@pytest.fixture
def corners():
    """Makes the data set, each time anew."""
    return _corners


@pytest.fixture
def settings():
    """Makes the settings of one short run."""
    from ctrlattn.nn.experiment.settings import RunSettings

    return lambda arm="softmax", seed=0, **changes: RunSettings(arm, seed, **{**SMALL, **changes})


@pytest.fixture
def small_data(monkeypatch):
    """The small data set, and the same in the place of what a plan names."""
    from ctrlattn.nn.experiment import comparison

    monkeypatch.setattr(comparison, "load", lambda name: _corners())
    return _corners()
