"""A shaped loop has the margin that it promises, on a grid and by trying all gains."""

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, loop_transfer, margins, presets
from ctrlattn.design import (
    loop_shaping,
    performance,
)
from ctrlattn.stability import nu_gap

SHAPES = [(0.5, PID(0.3, 0.3)), (1.0, PID(0.3, 0.3)), (0.0, PID(0.5)), (0.9, PID(0.3, 0.2, 0.1, form="ema"))]


@pytest.mark.slow
@pytest.mark.parametrize(("a", "weight"), SHAPES)
def test_a_shaped_loop_has_the_margin_it_promises(a, weight):
    shaped = loop_shaping(presets.get("neutreno"), a, weight)
    z = np.exp(1j * np.linspace(0, np.pi, 20_001)[1:])
    w = control.ss(*weight.realization(), 1, remove_useless_states=False)(z)
    g, k = w / (z - a), shaped.controller.system(z) / w
    attained = np.min(np.abs(1 + g * k) / np.sqrt((1 + np.abs(g) ** 2) * (1 + np.abs(k) ** 2)))
    assert shaped.margin - 1e-9 <= attained <= shaped.largest + 1e-9
    exact = margins(loop_transfer(shaped.loop, a))
    assert exact.stable
    assert exact.gain_margin >= shaped.gain_margin - 1e-9
    assert 1 / shaped.gain_margin >= exact.gain_reduction - 1e-9
    assert exact.phase_margin >= shaped.phase_margin - 1e-9
    final = performance(shaped.loop, [a]).steady_state_error[0]
    assert final < 1e-9 if weight.ki and weight.form == "printed" else final > 1e-3


@pytest.mark.parametrize(("a", "gain"), [(1.0, 1.0), (0.5, 0.3), (-0.7, 2.0)])
def test_no_proportional_gain_is_more_robust_than_the_formula_says(a, gain):
    """Of a plant of order 1 the optimum is a constant controller: found here by trying all."""
    z = np.exp(1j * np.linspace(0, np.pi, 4001)[1:-1])
    g = gain / (z - a)
    best = 0.0
    for k in np.linspace(-3, 3, 6001):
        if abs(a - gain * k) < 1:
            best = max(best, np.min(np.abs(1 + g * k) / np.sqrt((1 + np.abs(g) ** 2) * (1 + k * k))))
    assert_allclose(loop_shaping(presets.get("neutreno"), a, PID(gain)).largest, best, rtol=1e-3)


@pytest.mark.slow
def test_a_shaped_loop_covers_the_modes_within_its_margin():
    shaped, covered = loop_shaping(presets.get("neutreno"), 0.5, PID(0.3, 0.2)), 0
    weight = control.ss(*PID(0.3, 0.2).realization(), 1, remove_useless_states=False)
    for a in np.linspace(-1.5, 2.5, 41):
        gap = nu_gap(shaped.plant, control.tf(1, [1, -a], 1) * control.tf(weight))
        if gap < shaped.margin - 1e-9:
            covered += 1
            assert performance(shaped.loop, [a]).stable.all()
    assert 5 < covered < 41


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ((0.5j, PID(1.0)), ValueError, "one real mode"),
        ((np.nan, PID(1.0)), ValueError, "finite"),
        ((-1.0, PID(1.0)), ValueError, "z = -1"),
        ((0.5, None), TypeError, "needs a weight"),
    ],
)
def test_shaping_refuses(arguments, error, word):
    with pytest.raises(error, match=word):
        loop_shaping(presets.get("neutreno"), *arguments)
    with pytest.raises(ValueError, match="excess"):
        loop_shaping(presets.get("neutreno"), 0.5, PID(1.0), excess=1.0)
