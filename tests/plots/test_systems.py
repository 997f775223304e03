"""What a plot takes: a Loop opened or closed, frequencies that reach every pole, one time base."""

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop
from ctrlattn.plots import systems

LOOP = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.6))


def test_frequencies_reach_the_poles_of_random_systems():
    rng = np.random.default_rng(5)
    for _ in range(20):
        distance = 10.0 ** -rng.uniform(1, 8)
        angle = rng.uniform(0.1, 3.0)
        pole = (1 - distance) * np.exp(1j * angle)
        system = control.ss(control.tf([1.0], np.poly([pole, pole.conj()]).real, 1))
        w, values = systems.response(system, None, "test")
        peak = abs(system(np.exp(1j * angle)))
        assert np.max(np.abs(values)) > 0.9 * peak
        assert np.min(np.abs(w - angle)) < 0.5 * distance + 1e-9


def test_a_loop_is_opened_at_its_controller_or_closed():
    z = np.exp(0.7j)
    opened, closed = systems.open_loops(LOOP, 0.5, "t")[""], systems.closed_loops({"P": LOOP}, 0.5, "t")["P"]
    assert_allclose(opened(z), 0.6 / (z - 0.5), rtol=1e-12)
    assert_allclose(closed(z), 0.6 / (z + 0.1), rtol=1e-12)


@pytest.mark.parametrize(("dt", "base"), [(True, 1.0), (1, 1.0), (0.25, 0.25), (0, None), (None, None)])
def test_sampling_time(dt, base):
    assert systems.sampling({"": control.tf([1], [1, 0.5], dt)}, "t") == base


def test_a_system_without_sampling_time_is_of_one_layer_and_shares_axes_with_a_loop():
    assert len(systems.open_loops({"a": LOOP, "b": control.tf([1], [1, 0.5], True)}, 0.5, "t")) == 2
