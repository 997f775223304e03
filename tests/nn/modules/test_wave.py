"""The loop of second order swings as its characteristic polynomial says."""

import math

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.modules.wave import wave  # noqa: E402


def test_a_wave_is_its_characteristic_polynomial():
    a, t = 0.3, 0.7
    states = wave(lambda x: a * x, torch.ones(1, 1, dtype=torch.float64), 40, t).flatten().numpy()
    npt.assert_allclose(states[2:], (2 - t**2 * (1 - a)) * states[1:-1] - states[:-2], rtol=0, atol=1e-12)
    poles = np.roots([1.0, -(2 - t**2 * (1 - a)), 1.0])
    npt.assert_allclose(abs(poles), 1.0, rtol=1e-12)
    still = wave(torch.tanh, torch.ones(2, 3), 5, 0.0)
    npt.assert_array_equal(still, np.ones((6, 2, 3)))
    with pytest.raises(ValueError, match="a finite step"):
        wave(torch.tanh, torch.ones(2, 3), 5, math.inf)
