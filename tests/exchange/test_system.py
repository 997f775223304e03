"""What other tools hold as systems becomes the same transfer function; what is continuous or unclear is refused."""

import control
import numpy as np
import pytest
import scipy.signal
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn import PID, CausalMean, InputError, Loop, loop_transfer, mode, presets
from ctrlattn.controllers import LTIController
from ctrlattn.design import Spec, tune
from ctrlattn.exchange import System, as_system
from ctrlattn.passes import Passes

OMEGA = np.array([0.01, 0.3, 1.0, 2.5])
Z = np.exp(1j * OMEGA)
LOOP = presets.get("pidformer-ema")


def ratio(num, den):
    return np.polyval(num, Z) / np.polyval(den, Z)


NUM, DEN = [0.3, -0.1, 0.2], [1.0, -0.9, 0.2]
G = ratio(NUM, DEN)


@pytest.mark.parametrize(
    "given",
    [
        (NUM, DEN, 1),
        {"num": NUM, "den": DEN, "Ts": 1.0},
        (np.roots(NUM), np.roots(DEN), NUM[0], 1),
        {"z": np.roots(NUM), "p": np.roots(DEN), "k": NUM[0], "dt": 1},
        (*scipy.signal.tf2ss(NUM, DEN), 1),
        control.tf(NUM, DEN, 1),
        control.ss(control.tf(NUM, DEN, 1)),
        scipy.signal.dlti(NUM, DEN, dt=1),
        scipy.signal.dlti(NUM, DEN, dt=1).to_zpk(),
        scipy.signal.dlti(NUM, DEN, dt=1).to_ss(),
        LTIController(control.tf(NUM, DEN, 1)),
        System(*scipy.signal.tf2ss(NUM, DEN)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_form_is_the_same_transfer_function(given):
    system = as_system(given)
    assert_allclose(system.response(OMEGA)[0, 0], G, rtol=1e-12)
    assert system.dt == 1
    assert_allclose(control.frequency_response(system.to_control(), OMEGA).complex, G, rtol=1e-12)


def test_complex_systems_come_as_they_are():
    poles, zeros, gain = np.array([0.5 + 0.2j, -0.3j]), np.array([0.1 + 0.9j]), 2 - 1j
    expected = gain * np.prod(Z[:, None] - zeros, 1) / np.prod(Z[:, None] - poles, 1)
    for given in ((zeros, poles, gain, 1), (gain * np.poly(zeros), np.poly(poles), 1)):
        system = as_system(given)
        assert system.is_complex
        assert_allclose(system.response(OMEGA)[0, 0], expected, rtol=1e-12)
        with pytest.raises(InputError, match="real"):
            system.to_control()


def test_a_clustered_zpk_keeps_the_digits_that_polynomials_lose():
    poles = np.array([0.999, 0.9991, 0.9992, 0.9993, 0.9994, 0.9995])
    system = as_system(([], poles, 1e-12, 1))
    expected = 1e-12 / np.prod(np.exp(0.01j) - poles)
    assert_allclose(system.response([0.01]).item(), expected, rtol=1e-12)
    lost = 1e-12 / np.polyval(np.poly(poles), np.exp(0.01j))
    assert abs(lost / expected - 1) > 1e-9


def test_several_inputs_and_outputs():
    rng = np.random.default_rng(5)
    a, b, c, d = (rng.standard_normal(shape) for shape in ((4, 4), (4, 3), (2, 4), (2, 3)))
    system = as_system((a, b, c, d, 0.5))
    expected = np.stack([c @ np.linalg.solve(z * np.eye(4) - a, b) + d for z in Z], -1)
    assert_allclose(system.response(OMEGA), expected, rtol=1e-11)
    assert (system.dt, system.inputs, len(system.outputs)) == (0.5, ("u1", "u2", "u3"), 2)
    fractions = {"num": [[[1.0], [2.0, 0.0]]], "den": [[[1.0, -0.5], [1.0, 0.25]]], "dt": 1}
    two = as_system(fractions).response(OMEGA)
    assert_allclose(two[0], [1 / (Z - 0.5), 2 * Z / (Z + 0.25)], rtol=1e-12)


@pytest.mark.parametrize("a", [0.5, 0.3 + 0.4j])
def test_parts_of_a_loop(a):
    for part, system in {
        "closed": mode(LOOP, a),
        "control": loop_transfer(LOOP, a),
        "prediction": loop_transfer(LOOP, a, at="prediction"),
    }.items():
        ours = as_system(LOOP, a=a, part=part)
        assert_array_equal(ours.A, system.A)
        assert_array_equal(ours.D, system.D)
        assert (list(ours.inputs), list(ours.outputs)) == (system.input_labels, system.output_labels)
    controller = as_system(LOOP, part="controller")
    assert_allclose(controller.response(OMEGA)[0, 0], ratio(*LOOP.controller.fraction()), rtol=1e-12)


def test_a_design_is_the_loop_that_it_found():
    design = tune(
        Loop(CausalMean(), skip=0.0, feedback=1.0), [0.2, 0.8], Spec(modulus_margin=0.3), terms="P", curve=False
    )
    assert_array_equal(as_system(design, a=0.8).A, mode(design.loop, 0.8).A)
    passes = Passes(controller=PID(0.3))
    assert as_system(passes, part="controller").response([0.1]).item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (scipy.signal.lti([1.0], [1.0, 1.0]), r"scipy.signal.lti is continuous.*c2d\(G, Ts\)"),
        (control.tf([1.0], [1.0, 1.0]), r"the system is continuous \(its sampling time is 0\).*c2d"),
        (([1.0], [1.0, 0.5], 0), "the system is continuous"),
        ({"num": [1.0], "den": [1.0, 0.5]}, r"the sampling time is missing: give dt \(or Ts\)"),
        (([1.0], [1.0, 0.5], -3), "the sampling time must be positive"),
        (([1.0], [1.0, 0.5], "1"), "the sampling time must be a number"),
        (([1.0, 0.0, 0.0], [1.0, 0.5], 1), "improper"),
        (([0.1, 0.2], [0.5], 1.0, 1), "improper"),
        (([1j, 0.0, 0.0], [1.0, 0.5], 1), "at most as many zeros as poles"),
        (([np.nan], [1.0, 0.5], 1), "finite"),
        (([], [np.inf], 1.0, 1), "must be finite"),
        (([[1.0]], [[1.0], [2.0]], [[1.0]], [[0.0]], 1), "A, B, C, D must be"),
        ({"num": [1.0], "den": [1.0, 0.5], "dt": 1, "inputs": 5}, "inputs must be a list of names, got 5"),
        ({"A": "x", "B": 1, "C": 1, "D": 0, "dt": 1}, "G: A must be numbers"),
        (([[[1j]]], [[[1.0, 0.5]], [[1.0]]], 1), "complex transfer functions have one input"),
        ({"A": 1, "dt": 1}, "a system has A, B, C, D, or num and den"),
        (control.ss([[0.5]], [[1.0]], [[1.0]], [[0.0]], None), "no time base"),
        ("G", "a system is a python-control object"),
        (LOOP, "a loop has a linear system for each eigenvalue of attention: give a"),
        (Passes(), "the controller alone is exported"),
        ([LOOP, LOOP], "."),
    ],
)
def test_what_is_no_discrete_system(given, words):
    with pytest.raises(InputError, match=words):
        as_system(given)


def test_names_fit():
    with pytest.raises(InputError, match="inputs: 2 names for 1"):
        System([[0.5]], [[1.0]], [[1.0]], [[0.0]], inputs=("a", "b"))
    with pytest.raises(InputError, match="no controller to export"):
        as_system(Loop(CausalMean()), part="controller")
    with pytest.raises(InputError, match="unknown part 'open'"):
        as_system(LOOP, a=0.5, part="open")
