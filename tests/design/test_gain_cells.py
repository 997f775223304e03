"""Worst figures of many gains are those of `performance`, one controller at a time."""

from dataclasses import replace

import numpy as np
import pytest

from ctrlattn import PID, InputError, presets
from ctrlattn.design.gain_cells import worst_of_gains
from ctrlattn.design.performance import MEASURES, performance


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "modes"),
    [("printed", np.linspace(-0.2, 0.9, 4)), ("ema", np.array([0.2 + 0.3j, 0.2 - 0.3j, 0.5, -0.1]))],
)
def test_worst_figures_are_those_of_one_controller_at_a_time(form, modes):
    rng = np.random.default_rng(0)
    gains = rng.uniform([0, 0, -0.3], [1, 1, 0.3], (100, 3))
    gains[::7, 1], gains[::11, 2], gains[3::50] = 0, 0, 0
    loop = presets.get(f"pidformer-{form}")
    worst = worst_of_gains(loop, modes, gains, form)
    each = [performance(replace(loop, controller=PID(*g, form=form)), modes).worst() for g in gains]
    for name in MEASURES:
        np.testing.assert_allclose(worst[name], [w[name] for w in each], rtol=1e-9, atol=1e-12)
    assert 0.2 < np.mean(np.isfinite(worst["settling"])) < 1


def test_a_proportional_gain_has_its_closed_form():
    """x' = (a - P) x: S is largest at z = -1 or 1, and x settles at 2 % when |a - P|^k <= .02."""
    gains = np.array([[0.2, 0, 0], [0.5, 0, 0], [0.9, 0, 0]])
    worst = worst_of_gains(presets.get("neutreno"), [0.5], gains)
    p = gains[:, 0]
    np.testing.assert_allclose(worst["modulus_margin"], [min(1 + g / (z - 0.5), 9) if z > 0 else abs(1 + g / (z - 0.5))
                               for g, z in zip(p, (-1, -1, -1), strict=True)], rtol=1e-9)  # fmt: skip
    pole = np.abs(0.5 - p)
    expected = [np.ceil(np.log(0.02) / np.log(r)) if r else 1 for r in pole]
    np.testing.assert_array_equal(worst["settling"], expected)


def test_what_is_not_asked_for_is_not_computed():
    gains = np.array([[0.6, 0.0, 0.0]])
    assert list(worst_of_gains(presets.get("neutreno"), [0.5], gains, measures=["settling"])) == ["settling"]
    with pytest.raises(InputError, match="did you mean 'settling'"):
        worst_of_gains(presets.get("neutreno"), [0.5], gains, measures=["setling"])
