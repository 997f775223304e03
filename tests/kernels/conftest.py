"""Systems on which compiled code and its plain reference are compared."""

import numpy as np
import pytest

from ctrlattn.linear.realization import Realization


@pytest.fixture
def stable_system():
    return draw


def draw(seed):
    """Of 2 to 9 states whose units lie up to six decades apart."""
    rng = np.random.default_rng([7, seed])
    n, inputs, outputs = rng.integers(2, 10), rng.integers(1, 4), rng.integers(1, 4)
    a = rng.standard_normal((n, n))
    if seed % 2:
        a = a * 10.0 ** rng.uniform(-3, 3, (n, 1)) / 10.0 ** rng.uniform(-3, 3, (1, n))
    continuous = bool(rng.integers(2))
    values = np.linalg.eigvals(a)
    a = a - np.eye(n) * (values.real.max() + 0.1) if continuous else 0.9 * a / np.abs(values).max()
    b, c, d = (rng.standard_normal(shape) for shape in ((n, inputs), (outputs, n), (outputs, inputs)))
    return Realization(a, 10.0 ** rng.uniform(-6, 6) * b, c, d, continuous)
