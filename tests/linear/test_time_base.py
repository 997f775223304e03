"""One rule for the time of a system: every function gives for dt = None what it gives for dt = 0."""

from dataclasses import replace

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import (
    PID,
    CausalMean,
    Loop,
    complementary_sensitivity,
    crossings,
    disk_margin,
    frequency_response,
    h2_norm,
    hankel_singular_values,
    hinf_norm,
    linearize,
    loop_margins,
    loop_transfer,
    margins,
    mode,
    rms_norm,
    sensitivity,
)
from ctrlattn.controllers import as_controller
from ctrlattn.errors import InputError
from ctrlattn.frequency import gang_of_four
from ctrlattn.linear import token_system
from ctrlattn.linear.time_base import is_continuous
from ctrlattn.stability import (
    balanced_truncation,
    circle_criterion,
    limit_cycles,
    nu_gap,
    numerical_radius,
    sector_form,
)


def cycles(g):
    """(1, amplitude, frequency) of an oscillation with -3 tanh(2 v); (0, 0, 0) where there is none."""
    orbits = limit_cycles(g, lambda v: 3 * np.tanh(2 * v), np.geomspace(1e-2, 1e2, 40))
    return [1.0, *orbits[0][:2]] if orbits else [0.0, 0.0, 0.0]


# 1/(s + .4) of continuous time; 1/(z + .4) in discrete time: stable in both, and different in each.
ANSWERS = {
    "frequency_response": lambda g: frequency_response(g, [0.0, 0.3]).complex,
    "margins": lambda g: [margins(g).gain_margin, margins(g).modulus_margin],
    "crossings": lambda g: crossings(g).gain_factor,
    "disk_margin": lambda g: disk_margin(g).margin,
    "loop_margins": lambda g: [loop_margins(g)[0].disk.margin, loop_margins(g)[0].classical.gain_margin],
    "hinf_norm": hinf_norm,
    "h2_norm": h2_norm,
    "hankel_singular_values": hankel_singular_values,
    "circle_criterion": lambda g: list(circle_criterion(g, 0.0, 0.4))[1:],
    "balanced_truncation": lambda g: balanced_truncation(g, 0).error_bound,
    "limit_cycles": cycles,
}


def plant(kind, dt):
    fraction = control.tf([1.0], [1.0, 0.4], dt)
    return fraction if kind == "tf" else control.ss([[-0.4]], [[1.0]], [[1.0]], [[0.0]], dt)


@every_case("kind", ["tf", "ss"])
@every_case("name", ANSWERS)
def test_no_time_base_is_continuous_and_any_sampling_time_is_discrete(name, kind):
    answer = ANSWERS[name]
    continuous, discrete = answer(plant(kind, 0)), answer(plant(kind, 1))
    assert_allclose(answer(plant(kind, None)), continuous)
    assert_allclose(answer(plant(kind, True)), discrete)
    if name != "frequency_response":  # its frequencies are in rad per unit of time
        assert_allclose(answer(plant(kind, 0.1)), discrete)
    assert not np.array_equal(continuous, discrete)


@every_case("name", ANSWERS)
@every_case("make", [lambda: control.ss([], [], [], [[0.5]]), lambda: control.tf([0.5], [1.0])])
def test_a_static_gain_needs_no_time_base(make, name):
    static = make()
    expected = ANSWERS[name](control.ss([], [], [], [[0.5]], 0))
    if name == "h2_norm":
        assert expected == np.inf  # white noise of continuous time through a direct term
    assert_allclose(ANSWERS[name](static), expected)


def test_the_rule_agrees_with_python_control_where_it_has_to_choose():
    g = plant("tf", None)
    assert_allclose(frequency_response(g, [0.3]).complex, control.frequency_response(g, [0.3]).complex)
    assert_allclose(margins(3 * g).phase_margin, control.stability_margins(3 * g)[1], rtol=1e-6)
    assert_allclose(h2_norm(g), control.norm(g, 2))
    assert_allclose(control.norm(g, "inf"), hinf_norm(plant("tf", True)), rtol=1e-5)  # its one exception


def test_flags_decide_without_a_time_base_and_contradict_with_one():
    assert not is_continuous(plant("ss", None), "q", False)
    assert is_continuous(plant("ss", None), "q", True)
    with pytest.raises(InputError, match=r"q: continuous=True contradicts the system, which is discrete \(dt = 0.1\)"):
        is_continuous(plant("ss", 0.1), "q", True)
    with pytest.raises(InputError, match=r"q: continuous=False contradicts the system, which is continuous \(dt = 0\)"):
        is_continuous(plant("ss", 0), "q", False)


@pytest.mark.slow
@every_case("dt", [None, 0, True])
@every_case("kind", ["ss", "tf"])
def test_a_static_gain_is_one_of_discrete_time_too(kind, dt):
    gain = control.ss([], [], [], [[0.5]], dt) if kind == "ss" else control.tf([0.5], [1], dt)
    assert_allclose(as_controller(gain).realization()[3], [[0.5]])
    assert_allclose(nu_gap(gain, control.tf([1.0], [1.0], 1)), 0.5 / np.sqrt((1 + 0.5**2) * 2))


def test_a_static_gain_beside_an_integrator_over_depth():
    # (1, 0) at the pole z = 1 of the integrator, (P, 1)/|(P, 1)| of the gain: their angle there
    gain = control.ss([], [], [], [[0.5]])
    assert_allclose(nu_gap(gain, control.tf([1.0], [1.0, -1.0], 1)), 1 / np.sqrt(1 + 0.5**2))


@pytest.mark.parametrize("kind", ["tf", "ss"])
def test_a_controller_over_depth_needs_a_time_base(kind):
    for dt in (None, 0):
        with pytest.raises(InputError, match="discrete"):
            as_controller(plant(kind, dt))
    for dt in (True, 1):
        assert_allclose(as_controller(plant(kind, dt)).fraction()[1], [1.0, 0.4])


@every_case("dt", [None, 0, True, 0.1])
def test_a_reduced_system_has_the_time_base_of_the_given_one(dt):
    assert balanced_truncation(plant("ss", dt), 1).system.dt == dt


def test_quantities_of_discrete_time_refuse_a_system_without_time_base():
    with pytest.raises(InputError, match="continuous"):
        nu_gap(plant("tf", None), plant("tf", None))
    with pytest.raises(InputError, match="discrete time"):
        numerical_radius(plant("ss", None))


@pytest.mark.parametrize("pid", [None, PID(0.4, 0.2, 0.1)])
def test_every_system_made_of_a_loop_has_a_layer_as_its_step(pid):
    loop = Loop(CausalMean(), skip=0.5, feedback=-0.3, controller=pid)
    made = {
        "mode": mode(loop, 0.6),
        "mode, complex": mode(loop, 0.6 + 0.1j),
        "control": loop_transfer(loop, 0.6),
        "prediction": loop_transfer(loop, 0.6, at="prediction"),
        "tokens": token_system(loop, 3),
        "linearize": linearize(loop, np.ones((2, 2))),
        "T": complementary_sensitivity(loop, 0.6),
        "S": sensitivity(loop, 0.6),
        **gang_of_four(loop, 0.6),
        "sector form": sector_form(replace(loop, normalizer=rms_norm), tokens=3, lowest=0.5)[0],
    }
    assert {name: system.dt for name, system in made.items()} == dict.fromkeys(made, 1)
