"""Each analysis is the function of its room; many gains at once are each cell by itself."""

from dataclasses import replace

import numpy as np
import pytest

from ctrlattn import PID, InputError, loop_transfer, margins, presets, simulate, stability_interval
from ctrlattn.design.performance import performance
from ctrlattn.frequency.tokens import mean_cosine
from ctrlattn.stability.modes.regions import unstable_share
from ctrlattn.sweep.analyses import ANALYSES, GainCells, chosen, cost
from ctrlattn.sweep.cell import Cell, recorded_modes
from ctrlattn.sweep.probe import hit_rate

LOOP = presets.get("pidformer-ema")


def cell(**tables):
    return Cell({"loop": {"preset": "pidformer-ema"}, "recording": {"source": "minilm-l6", "layer": 1}, **tables})


def of_cell(name, made, **options):
    return ANALYSES[name].of_cell(made, chosen({name: options})[name])


def test_each_analysis_is_the_function_of_its_room():
    low, high = stability_interval(LOOP.controller)
    assert of_cell("interval", cell()) == (high - low, low, high)
    m = margins(loop_transfer(LOOP, 0.5))
    expected = (m.gain_margin, m.phase_margin, m.delay_margin, m.modulus_margin)
    assert of_cell("margins", cell(), mode=0.5) == expected
    worst = performance(LOOP, [0.1, 0.6]).worst()
    assert of_cell("settling", cell(), modes=[0.1, 0.6]) == (worst["settling"],)
    assert of_cell("peak_sensitivity", cell(), modes=[0.1, 0.6]) == (1 / worst["modulus_margin"],)
    modes = recorded_modes("minilm-l6", 1, None)
    assert of_cell("unstable_share", cell()) == (float(unstable_share(LOOP, modes)),)
    assert of_cell("settling", cell()) == (performance(LOOP, modes).worst()["settling"],)


def test_the_tokens_are_those_of_the_simulation():
    made = cell(simulation={"layers": 3, "tokens": 5, "features": 4, "seed": 7})
    x = np.random.default_rng(7).standard_normal((5, 4))
    state = simulate(LOOP, x, 3).state[-1]
    expected = (float(mean_cosine(state)), float(np.sqrt(np.mean(state**2))))
    np.testing.assert_allclose(of_cell("tokens", made), expected, rtol=1e-14)
    automaton = Cell({"loop": {"preset": "prediction-error"}, "simulation": {"layers": 4, "seed": 2}})
    rate = hit_rate(presets.get("prediction-error"), 4, draws=30, features=8, seed=2)
    assert of_cell("hit_rate", automaton, draws=30, features=8) == (rate,)


def test_a_state_that_leaves_all_floats_is_no_number():
    diverging = Cell({"loop": {"preset": "residual", "skip": 1e300}, "simulation": {"layers": 5}})
    with pytest.raises(ArithmeticError, match="not finite after 5 layers"):
        of_cell("tokens", diverging)


def test_an_unstable_loop_has_no_end_and_an_infinite_peak():
    wild = Cell({"loop": {"preset": "neutreno", "controller": {"kind": "pid", "kp": 9.0}}})
    assert of_cell("settling", wild, modes=[0.5]) == (np.inf,)
    assert of_cell("peak_sensitivity", wild, modes=[0.5]) == (np.inf,)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["printed", "ema"])
@pytest.mark.parametrize("name", ["interval", "settling", "peak_sensitivity", "unstable_share"])
def test_many_gains_at_once_are_each_cell_by_itself(form, name):
    """480 random cells over both laws and all four analyses, cells with terms that are 0 among them."""
    rng = np.random.default_rng(11)
    gains = rng.uniform([-0.5, -0.1, -1.1], [2, 2, 1.1], (60, 3))
    gains[::5, 1], gains[::9, 2], gains[3::40] = 0, 0, 0
    options = chosen({name: {"modes": [0.1, 0.5, 0.9]} if "modes" in ANALYSES[name].options else {}})[name]
    base = {"preset": f"pidformer-{form}"}
    made = Cell({"loop": base, "recording": {"source": "minilm-l6", "layer": 3, "head": 2}})
    values, sure = ANALYSES[name].of_gains(GainCells(made, gains), options)
    assert sure.mean() > 0.95
    for g, row in zip(gains[sure], values.T[sure], strict=True):
        single = Cell(made.tables)
        object.__setattr__(single, "configuration", replace(made.configuration, loop=replace(
            made.loop, controller=PID(*g, form=form))))  # fmt: skip
        np.testing.assert_allclose(row, ANALYSES[name].of_cell(single, options), rtol=1e-9, atol=1e-9)


def test_outer_modes_are_a_part_of_the_recording():
    fewer = of_cell("settling", cell(), outer=4)[0]
    assert 0 < fewer <= of_cell("settling", cell())[0]


def test_costs_are_numbers_that_depend_on_the_modes():
    assert cost("settling", {"modes": [0.1] * 4, "outer": 0}, together=True) == 4 * cost(
        "settling", {"modes": [0.1], "outer": 0}, together=True
    )
    assert cost("margins", {}, together=True) == cost("margins", {}, together=False) > 0


def test_every_output_has_a_name_of_its_own_and_says_what_is_better():
    outputs = [output for analysis in ANALYSES.values() for output in analysis.outputs]
    assert len({output.name for output in outputs}) == len(outputs)
    assert {output.better for output in outputs} == {"higher", "lower"}
    with pytest.raises(InputError, match="at least one analysis"):
        chosen({})
