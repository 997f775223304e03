"""The outline of a stable set: its winding number about a mode says whether the poles of the mode are inside."""

import numpy as np
import pytest

from ctrlattn import PID, CausalMean, Loop, LTIController, presets
from ctrlattn.plots.outline import compound_path, stable_polygons
from ctrlattn.stability.modes.regions import mode_radius


def laws(count):
    import control

    rng = np.random.default_rng(3)
    yield from (
        presets.get(name) for name in ("softmax", "neutreno", "pidformer-printed", "pidformer-ema", "comparator")
    )
    for k in range(count):
        kp, ki, kd = rng.uniform(-0.4, 1.2, 3) * [1, 1, 0.4]
        pole = rng.uniform(0.3, 0.97) * np.exp(1j * rng.uniform(0, 3.1))
        den = np.real(np.poly([pole, np.conj(pole), rng.uniform(-0.9, 0.9)]))
        law = (
            PID(kp, ki, kd),
            PID(kp, ki, kd, form="ema"),
            LTIController(control.tf(rng.uniform(-1, 1, 3), den, 1)),
        )[k % 3]
        yield Loop(CausalMean(), skip=float(rng.uniform(-0.5, 1)), feedback=float(rng.choice([-1, 1])), controller=law)


LOOPS = [*laws(18)]


@pytest.mark.parametrize("loop", [*LOOPS[:9], *(pytest.param(loop, marks=pytest.mark.slow) for loop in LOOPS[9:])])
def test_inside_the_outline_is_stable_and_outside_is_not(loop):
    rng = np.random.default_rng(0)
    a = rng.uniform(-3, 3, 1500) + 1j * rng.uniform(-3, 3, 1500)
    turns = np.zeros(len(a))
    for polygon in stable_polygons(loop):
        to = polygon[:, None] - a
        turns += np.round(np.angle(np.roll(to, -1, axis=0) / to).sum(axis=0) / (2 * np.pi))
    radius = mode_radius(loop, a)
    clear = np.abs(radius - 1) > 2e-3  # the chords of the outline are not the curve
    np.testing.assert_array_equal((turns > 0)[clear], (radius < 1)[clear])
    assert set(turns[clear]) <= {0.0, 1.0}


def test_no_outline_where_no_mode_decides_or_none_is_stable():
    frozen = Loop(CausalMean(), skip=0.5, feedback=0.0)
    assert stable_polygons(frozen) == []
    assert stable_polygons(Loop(CausalMean(), controller=PID(0.8, -0.5, 0.0))) == []  # an integral of the wrong sign


def test_the_corner_of_the_printed_law_is_the_end_of_its_interval():
    loop = presets.get("pidformer-printed")
    (polygon,) = stable_polygons(loop)
    assert polygon.real.min() == pytest.approx(0.15, abs=1e-3)
    assert polygon.real.max() == pytest.approx(1 + 0.8 + 0.5 * 0.05 / 1.05, abs=1e-3)
    assert len(compound_path([polygon]).vertices) == len(polygon) + 1
