"""The stable interval of each loop: by closed form, and by the eigenvalues of a recursion that is written out here."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq

from ctrlattn import checkpoints

KP, KI, KD, G = 0.8, 0.5, 0.05, 0.3


def radius_of_the_leaky_law(a):
    """v' = a v + u with e = -v; u = kp e + ki s + kd (e_1 - e_2), s' = g e + (1 - g) s; states v, s, e_1, e_2."""
    return np.abs(
        np.linalg.eigvals(
            [[a - KP, KI, KD, -KD], [-G, 1 - G, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
        )
    ).max()


def leaky_ends():
    """Both ends of the one interval of a fine grid on which the radius is below 1."""
    grid = np.linspace(-4, 4, 4001)
    changes = np.flatnonzero(np.diff([radius_of_the_leaky_law(a) < 1 for a in grid]))
    assert len(changes) == 2
    return [brentq(lambda a: radius_of_the_leaky_law(a) - 1, grid[i], grid[i + 1], xtol=1e-13) for i in changes]


ENDS = {
    "residual": (-2.0, 0.0),  # |1 + a| < 1
    "comparator": (0.0, 2.0),  # |1 - a| < 1
    "softmax": (-1.0, 1.0),  # |a| < 1
    "neutreno": (-0.4, 1.6),  # |a - .6| < 1
    "pidformer-printed": (KP + KI / 2 + 2 * KD - 1, 1 + KP + KI * KD / (1 + KD)),  # Jury's conditions
    "pidformer-ema": leaky_ends(),
}


@pytest.fixture
def part(network, text):
    return checkpoints.feedback_profile(network("gpt2"), text(1)[0], parts=["attention"])


def test_stable_intervals(part):
    assert list(part["preset"].to_numpy()) == list(ENDS)
    for name, ends in ENDS.items():
        assert_allclose(part["stable_interval"].sel(preset=name), ends, rtol=0, atol=1e-9, err_msg=name)


def test_a_real_mode_outside_the_interval_is_an_unstable_one(part):
    modes = part["attention_eigenvalue"].to_numpy()
    assert_allclose(modes.imag, 0.0, atol=1e-12)  # causal: the diagonal of the matrix
    for name, (low, high) in ENDS.items():
        inside = (modes.real > low - 1e-9) & (modes.real < high + 1e-9)
        assert_allclose(part["unstable_share"].sel(preset=name), 1 - inside.mean(-1), atol=1e-12, err_msg=name)
