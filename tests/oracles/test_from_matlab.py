"""The calls of docs/howto/from_matlab.md give the numbers of Octave: from_matlab.json, made by from_matlab.m."""

import json
from pathlib import Path

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import (
    disk_margin,
    frequency_response,
    h2_norm,
    hankel_singular_values,
    hinf_norm,
    margins,
    stability,
)
from ctrlattn.linear import poles

OCTAVE = json.loads(Path(__file__).with_name("from_matlab.json").read_text(encoding="utf-8"))
G = control.tf([0.4, -0.1], [1, -1.3, 0.4], 1)
T = control.feedback(G, 1)
W = np.array([0.1, 0.5, 1.0, 2.0])


def sample():
    plant = control.sample_system(control.ss(control.tf([1], [1, 1, 1])), 0.5, "zoh")
    response = frequency_response(plant, W / 0.5).complex
    return np.stack([response.real, response.imag], -1)


def margin():
    m = margins(G)
    return m.gain_margin, m.phase_margin, m.phase_crossover, m.gain_crossover


def response():
    return frequency_response(G, W).complex


def locus():
    return [np.sort(np.abs(control.feedback(k * G, 1).poles())) for k in (0.5, 1, 2, 4)]


def lqr():
    a, b = np.array([[0.9, 0.2], [0.0, 0.7]]), np.array([[0.0], [1.0]])
    return control.dlqr(a, b, np.eye(2), 0.5)[0].ravel()


def gramian():
    system = control.ss([[0.9, 0.2], [0.0, 0.7]], [[0.0], [1.0]], [[1.0, 0.0]], [[0.0]], 1)
    return np.trace(stability.controllability_gramian(system))


CALLS = {
    "pole": lambda: np.sort(poles(control.ss(G)).real),
    "zero": lambda: G.zeros().real.item(),
    "dcgain": lambda: float(G.dcgain()),
    "margin": margin,
    "mag": lambda: np.abs(response()),
    "phase": lambda: np.degrees(np.unwrap(np.angle(response()))),
    "nyquist": lambda: np.stack([response().real, response().imag], -1),
    "step": lambda: control.step_response(G, np.arange(9)).outputs,
    "impulse": lambda: control.impulse_response(G, np.arange(9)).outputs,
    "closed": lambda: np.sort(np.abs(T.poles())),
    "rlocus": locus,
    "sensitivity": lambda: hinf_norm(control.feedback(1, G)),
    "disk": lambda: disk_margin(G).margin,
    "norm2": lambda: h2_norm(T),
    "norminf": lambda: hinf_norm(T),
    "hsvd": lambda: hankel_singular_values(T),
    "c2d": sample,
    "dlqr": lqr,
    "gram": gramian,
}


@pytest.mark.parametrize("name", CALLS)
def test_the_numbers_are_those_of_octave(name):
    tolerance = 1e-5 if name == "disk" else 1e-8  # disk_margin searches to 1e-6
    assert_allclose(CALLS[name](), OCTAVE[name], rtol=tolerance, atol=1e-8)


def test_every_answer_of_octave_is_compared():
    assert set(CALLS) == set(OCTAVE) - {"octave", "control"}
