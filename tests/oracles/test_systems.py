"""The generators say what they make: poles where the kind has them, the same system for the same seed."""

import control
import numpy as np
import pytest
import systems
from hypothesis import given, settings
from numpy.testing import assert_allclose


def poles(system):
    return np.sort_complex(np.roots(system.den[0][0]) if hasattr(system, "den") else np.linalg.eigvals(system.A))


def at(system, z):
    return complex(np.squeeze(system(z, warn_infinite=False)))


@pytest.mark.parametrize("kind", systems.KINDS)
@pytest.mark.parametrize("form", systems.FORMS)
def test_a_kind_has_its_poles(kind, form):
    system = systems.siso(kind, 5, form, 3)
    again = systems.siso(kind, 5, form, 3)
    assert np.array_equal(poles(system), poles(again))
    growth = poles(system).real if system.dt == 0 else np.abs(poles(system)) - 1
    if kind in systems.BEYOND:
        assert growth.max() == pytest.approx(0.1, abs=1e-9)
    elif kind in systems.MARGINAL:
        assert growth.max() == pytest.approx(0.0, abs=1e-6)  # a pole that comes twice moves as a root
    else:
        assert growth.max() < 0
    assert len(poles(system)) == 5


def test_the_twelve_plants_are_sampled_without_a_change_of_their_gain_at_low_frequencies():
    assert len(systems.PLANTS) == 12
    for name, (num, den) in systems.PLANTS.items():
        system = systems.sampled(name, 0.01, "dense")
        w = 0.03
        expected = np.polyval(num, 1j * w) / np.polyval(den, 1j * w)
        assert_allclose(at(system, np.exp(1j * w * system.dt)), expected, rtol=2e-2, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(systems.loops(kinds=systems.STABLE, order=systems.st.integers(1, 6)))
def test_scaled_and_permuted_states_are_the_same_system(loop):
    z = 0.3 + 1.1j if loop.dt == 0 else 1.05 * np.exp(0.4j)
    if isinstance(loop, control.TransferFunction):
        assert_allclose(at(systems.times(loop, 1e6), z), 1e6 * at(loop, z), rtol=1e-6)
        return
    for same in (systems.states_scaled(loop, 1e-4), systems.states_permuted(loop, 5)):
        assert_allclose(at(same, z), at(loop, z), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(systems.square_loops(order=systems.st.integers(1, 6)), systems.sampled_plants())
def test_square_loops_are_square_and_sampled_plants_have_their_time(loop, plant):
    assert loop.ninputs == loop.noutputs > 1
    assert plant.dt > 0
    assert plant.ninputs == plant.noutputs == 1
