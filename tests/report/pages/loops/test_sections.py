"""Sections on transients, exponents and design against second computations, for causal and bidirectional attention."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import FixedAttention, presets, signals, simulate
from ctrlattn.frequency import sensitivity_peaks, sensitivity_response
from ctrlattn.report.pages.loops import average_mode, design, exponents, frequency, transients
from ctrlattn.report.pages.loops.material import Material, named_loops
from ctrlattn.report.words import number
from ctrlattn.stability import closed_loop_poles


def recording(causal, seed=4, layers=2, heads=2, n=5):
    rng = np.random.default_rng(seed)
    scores = rng.random((layers, heads, n, n)) + 0.05
    scores = np.tril(scores) if causal else scores
    d = 4 * heads
    arrays = {
        "attention": scores / scores.sum(-1, keepdims=True),
        "embedding": rng.standard_normal((n, d)),
        "attention_out": rng.standard_normal((layers, n, d)),
        "mlp_out": rng.standard_normal((layers, n, d)),
    }
    return signals.dataset(arrays, tokens=list("abcde")[:n], attrs={"model": "toy", "norm": "pre", "causal": causal})


@pytest.fixture(params=[True, False], ids=["causal", "bidirectional"], scope="module")
def material(request):
    return Material(named_loops(None, {}), {"toy": [recording(int(request.param))]})


def test_amplification_is_that_of_the_simulated_loop(material):
    """Every unit disturbance at rest, simulated: the columns of the map whose norm is asked."""
    for name in ("softmax", "neutreno", "pidformer-printed", "pidformer-ema"):
        growth, stable = transients.amplification(material.loops[name], material)
        assert growth.shape == (4, material.layers + 1)
        for i, matrix in enumerate(material.texts[0]["attention"].to_numpy().astype(float).reshape(-1, 5, 5)):
            loop = replace(material.loops[name], predictor=FixedAttention(matrix))
            push = np.zeros((material.layers + 1, 5, 5))
            push[0] = np.eye(5)  # one column a token; layer 0 itself moves nothing, all being at rest
            run = simulate(loop, np.zeros((5, 5)), material.layers + 1, reference=np.zeros((5, 5)), disturbance=push)
            assert_allclose(growth[i], [np.linalg.norm(x, 2) for x in run.state[1:]], rtol=1e-9)
            poles = closed_loop_poles(loop.controller, loop.skip + loop.feedback * np.linalg.eigvals(matrix))
            assert stable[i] == (np.abs(poles).max() <= 1 + 1e-9)


def test_transients_says_what_it_counted(material):
    section = transients.sections(material)[0]
    assert_allclose(section.numbers["automaton_growth"][[1, 5]], [1.657, 7.621], atol=0.02)
    assert section.numbers["automaton_radius_after_disturbance"] > 1.1
    assert {picture.name for picture in section.pictures} >= {"pseudospectrum", "automaton-growth", "disturbance"}
    assert [row[0] for row in section.tables[0].rows] == list(material.linear)
    largest = max(row["largest_peak"] for row in section.numbers["loops"].values() if row["stable_share"] > 0)
    assert f"grow {number(largest, 1)} times" in section.title


@pytest.mark.slow
def test_exponents_of_the_recorded_layers_add_up_to_their_determinants(material):
    """Whatever the order of the chain, all its exponents add up to the mean of ln |det J| over its layers."""
    section = exponents.sections(material)[0]
    matrices = material.texts[0]["attention"].to_numpy().astype(float)
    for name, jacobians in {"softmax": matrices, "neutreno": matrices - 0.6 * np.eye(5)}.items():
        volume = np.linalg.slogdet(jacobians)[1].sum(axis=1).mean()
        assert_allclose(np.sum(section.numbers[name]), volume, rtol=1e-7)
        assert section.variables[f"exponents_{list(material.linear).index(name)}"][1].shape == (2, 10)
    assert section.numbers["pidformer-printed"].shape == (exponents.LARGEST,)
    tops = {name: estimates[0] for name, estimates in section.numbers.items()}
    assert [row[2] for row in section.tables[0].rows] == [number(np.exp(top)) for top in tops.values()]
    growing = [name for name, top in tops.items() if top > 1e-6]
    assert all((name in section.title) == (name in growing) for name in tops) or len(growing) in (0, len(tops))


@pytest.mark.slow
def test_gains_of_the_region_leave_all_modes_stable(monkeypatch, material, short_search):
    monkeypatch.setattr(design, "FIRST", design.FIRST[::8])
    monkeypatch.setattr(design, "refine_slices", lambda first, regions, slices_of: (first, regions))  # for a picture
    section = design.sections(material)[0]
    spectrum = material.spectra["toy"]
    assert section.numbers["gains_confirmed_on_all_modes"]["printed law"] > 0.9
    for law, name in design.LAWS.items():
        numbers = section.numbers["designed"][law]
        if "not_met" in numbers:
            continue
        assert numbers["modulus_margin"] >= design.MARGIN - 1e-6
        pid = replace(presets.get(name).controller, kp=numbers["kp"], ki=numbers["ki"], kd=numbers["kd"])
        assert np.abs(closed_loop_poles(pid, spectrum)).max() < 1
    assert any("kp" in numbers for numbers in section.numbers["designed"].values())
    assert {picture.name for picture in section.pictures} >= {"gain-regions", "trade-off", "disk-margin"}


@pytest.mark.slow
def test_a_report_without_linear_loops(monkeypatch):
    monkeypatch.setattr(design, "FIRST", design.FIRST[::8])  # the designed gains are no matter here
    monkeypatch.setattr(design, "MODES", 4)
    monkeypatch.setattr(design, "refine_slices", lambda first, regions, slices_of: (first, regions))
    material = Material(named_loops(["prediction-error-rms"], {}), {"toy": [recording(1)]})
    assert len(transients.sections(material)[0].sentences) == 1
    assert exponents.sections(material)[0].pictures == ()
    names = {picture.name for picture in design.sections(material)[0].pictures}
    assert "disk-margin" not in names


def test_the_worst_peak_is_no_grid_point():
    """Near the edge the peak of a complex mode lies between two frequencies of the picture's grid."""
    loop = presets.get("neutreno")
    edge = 0.6 + np.exp(1.2345j) * 0.9999  # closed-loop pole alpha - kp at modulus 0.9999
    worst = frequency.worst_case(loop, np.array([0.2, edge]))
    exact = sensitivity_peaks(loop.controller, edge)
    assert_allclose(worst["ms"], exact.ms, rtol=1e-6)
    on_grid = np.abs(sensitivity_response(loop.controller, edge, average_mode.OMEGA)).max()
    assert on_grid < 0.5 * exact.ms
