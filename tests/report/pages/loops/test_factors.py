"""Common factors of a law's gains: stable on every mode inside the interval, on some mode not outside it."""

from dataclasses import replace

import numpy as np
import pytest

from ctrlattn import PID, FixedAttention, Loop, presets
from ctrlattn.report.pages.loops.factors import stable_factors
from ctrlattn.stability import closed_loop_poles


def scaled(pid, g):
    return replace(pid, kp=g * pid.kp, ki=g * pid.ki, kd=g * pid.kd)


@pytest.mark.parametrize("form", ["printed", "ema"])
@pytest.mark.parametrize(
    ("seed", "spread", "kind"),
    [(1, 0.0, "all"), (2, 0.3, "all"), (3, 0.3, "some"), (4, 0.3, "some"), (11, 0.3, "none")],
)
def test_both_ends_of_the_interval_are_where_stability_ends(seed, spread, kind, form):
    """The small factors too are stable ("all"), or not ("some": the low end lies above 0), or none is."""
    rng = np.random.default_rng(seed)
    real, z = rng.uniform(-0.3, 0.9, 100), 0.3 + spread * rng.normal(size=(30, 2)) @ [1, 1j]
    modes = np.concatenate([real, z, z.conj()]) if spread else real
    pid = PID(*rng.uniform(0, 1, 2), rng.uniform(0, 0.1), form=form)
    loop = Loop(FixedAttention(np.eye(2)), skip=0.0, feedback=1.0, controller=pid)
    interval = stable_factors(loop, modes)

    def stable(g):
        return np.abs(closed_loop_poles(scaled(pid, g), modes)).max() < 1

    if kind == "none":
        assert interval is None
        assert not any(stable(g) for g in np.geomspace(1e-3, 10, 50))
        return
    low, high = interval
    assert (low == 0) == (kind == "all")
    assert all(stable(g) for g in np.linspace(low, high, 12)[1:-1])
    assert stable(high * (1 - 1e-5))
    assert not stable(high * (1 + 1e-5))
    assert low == 0 or (stable(low * (1 + 1e-5)) and not stable(low * (1 - 1e-5)))


def test_closed_form_of_a_proportional_law_and_the_cases_without_an_answer():
    assert stable_factors(presets.get("neutreno"), np.array([0.3])) == pytest.approx(
        (0.0, 1.3 / 0.6)
    )  # |a − 0.6 g| < 1
    assert stable_factors(presets.get("softmax"), np.array([0.3])) is None  # nothing to multiply
    assert stable_factors(presets.get("neutreno"), np.array([-1.5, 0.5])) is None  # −1.5 needs g < 0
