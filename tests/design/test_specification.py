"""What is asked of a loop, how far it is met, and the table of a design."""

import numpy as np
import pytest

from ctrlattn import PID, CausalMean, InputError, InputTypeError, Loop
from ctrlattn.design import Design, InfeasibleError, Performance, Spec, performance


def test_a_slack_of_0_just_meets_and_1_is_twice_as_good():
    spec = Spec(modulus_margin=0.4, settling=10, steady_state_error=0.2)
    exact = spec.slack({"modulus_margin": 0.4, "settling": 10, "steady_state_error": 0.2})
    twice = spec.slack({"modulus_margin": 0.8, "settling": 0, "steady_state_error": 0.0})
    half = spec.slack({"modulus_margin": 0.2, "settling": 15, "steady_state_error": 0.3})
    assert [float(value) for value in exact.values()] == [0.0, 0.0, 0.0]
    assert [float(value) for value in twice.values()] == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(list(half.values()), [-0.5, -0.5, -0.5])


@pytest.mark.parametrize(("name", "unit"), [("settling", 1.0), ("overshoot", 0.05), ("steady_state_error", 0.01)])
def test_a_requirement_of_0_is_measured_in_its_own_unit(name, unit):
    spec = Spec(**{name: 0.0})
    assert float(spec.slack({name: 2 * unit})[name]) == pytest.approx(-2.0)
    assert float(spec.slack({name: 0.0})[name]) == 1.0


def test_an_error_below_rounding_is_none_unless_none_is_allowed():
    assert float(Spec(steady_state_error=1e-3).slack({"steady_state_error": 1e-12})["steady_state_error"]) == 1.0
    assert float(Spec(steady_state_error=0.0).slack({"steady_state_error": 1e-12})["steady_state_error"]) < 1.0


def test_the_slack_of_an_unstable_loop_is_minus_infinity_where_the_figure_is_infinite():
    slack = Spec(settling=10, modulus_margin=0.5).slack({"settling": np.array([np.inf]), "modulus_margin": np.zeros(1)})
    assert slack["settling"][0] == -np.inf
    assert slack["modulus_margin"][0] == -1.0


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, InputError, "at least one of"),
        ({"modulus_margin": 1.5}, InputError, r"modulus_margin must be in \(0, 1\]"),
        ({"disk_margin": 0.0}, InputError, r"disk_margin must be in \(0, 2\]"),
        ({"settling": -1}, InputError, "settling must be not negative"),
        ({"overshoot": "small"}, InputTypeError, "overshoot must be a number"),
        ({"settling": np.nan}, InputError, "settling"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, error, message):
    with pytest.raises(error, match=message):
        Spec(**asked)


def test_a_design_is_a_table_whose_worst_mode_and_slack_are_those_of_its_certificate():
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.4))
    figures = performance(loop, [0.0, 0.5, 1.0])
    design = Design(PID(0.4), loop, Spec(modulus_margin=0.3, settling=40), figures, None)
    lines = repr(design).split("\n")
    assert lines[0] == "Design: PID(kp=0.4)"
    assert lines[1].split() == ["requirement", "limit", "worst", "mode", "slack"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert set(rows) == {"modulus_margin", "settling"}
    for name, (limit, worst, slack, *binds) in rows.items():
        assert float(limit) == design.spec.asked()[name]
        assert float(worst) == pytest.approx(figures.worst()[name], rel=1e-3)
        assert float(slack.rstrip("%")) / 100 == pytest.approx(design.slack[name], abs=1e-3)
        assert (binds == ["binds"]) == (name == design.binding)
    assert isinstance(figures, Performance)


def test_what_binds_is_kept_beside_the_message():
    error = InfeasibleError("no gains were found", "settling")
    assert error.why == "settling"
    assert str(error) == "no gains were found. Not met: settling"
