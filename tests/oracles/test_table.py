"""The toolbox against sixty systems whose answers are known to 200 digits; the values stand in table.json."""

import math

import numpy as np
import pytest
import table

from ctrlattn import stability

ROWS = table.load()


def answers(name, loop):
    margins = stability.margins(loop)
    values = {key: getattr(margins, key) for key in table.MARGINS}
    if "hinf" in ROWS[name]["truth"]:
        values |= {
            "hinf": stability.hinf_norm(loop), "h2": stability.h2_norm(loop),
            "hankel": stability.hankel_singular_values(loop),
        }  # fmt: skip
    return values


@pytest.mark.slow
def test_the_table_has_sixty_systems_and_its_script_makes_them_again():
    """To the bit where arithmetic alone makes them; BLAS and LAPACK round the rest as the processor has it."""
    assert len(ROWS) == 60
    again = {name: table.doubles(loop) for name, loop in table.rows().items()}
    assert list(again) == list(ROWS)
    exact = [name for name in again if not table.through_lapack(name)]
    assert len(exact) == 13
    assert [name for name in exact if again[name] != ROWS[name]["system"]] == []
    assert {name: table.distance(again[name], ROWS[name]["system"]) for name in again} == pytest.approx(
        dict.fromkeys(again, 0.0), abs=1e-12
    )


def test_a_system_that_differs_is_far_away():
    """A coefficient moved by a billionth of the largest one is no rounding; a leading zero is none either."""
    loop = {"num": [1.0, 2.0], "den": [1.0, 3.0, 5.0], "dt": 1}
    assert table.distance({**loop, "num": [0.0, 1.0, 2.0]}, loop) == 0.0
    assert table.distance({**loop, "num": [1.0, 2.0 + 5e-9]}, loop) == pytest.approx(1e-9)
    assert table.distance({**loop, "dt": 0}, loop) == math.inf
    matrices = {"A": [[1.0, 0.0], [0.0, 4.0]], "B": [[1.0], [0.0]], "C": [[1.0, 1.0]], "D": [[0.0]], "dt": 0}
    assert table.distance({**matrices, "B": [[1.0], [1e-9]]}, matrices) == pytest.approx(1e-9)
    assert table.distance({**matrices, "C": [[1.0]]}, matrices) == math.inf
    assert table.distance(loop, matrices) == math.inf


@pytest.mark.parametrize("name", ROWS)
def test_every_value_is_the_true_one(name):
    row = ROWS[name]
    values = answers(name, table.system(row["system"]))
    assert set(values) == set(row["truth"])
    wrong = {}
    for key, value in values.items():
        spread = float(row["spread"][key])
        truth = np.atleast_1d(np.asarray(row["truth"][key], dtype=float))
        tolerance = 1e-6 + (10 * spread if key != "gain_reduction" else 0.0)
        size = float(np.max(np.abs(truth[np.isfinite(truth)]), initial=0.0))  # of Hankel values: the largest
        absolute = tolerance * size if key == "hankel" else (1e-9 if key == "gain_reduction" else 0.0)
        if not np.allclose(np.atleast_1d(value), truth, rtol=tolerance, atol=absolute):
            wrong[key] = (value, row["truth"][key])
    assert wrong == {}


@pytest.mark.parametrize("name", ROWS)
def test_the_modulus_margin_is_the_disk_margin_of_skew_one(name):
    truth = float(ROWS[name]["truth"]["modulus_margin"])
    disk = stability.disk_margin(table.system(ROWS[name]["system"]), skew=1.0)
    assert disk.margin == pytest.approx(truth, rel=1e-5 + 10 * float(ROWS[name]["spread"]["modulus_margin"]))


@pytest.mark.parametrize("name", [name for name in ROWS if "hinf" in ROWS[name]["truth"]])
def test_no_hankel_value_is_above_the_peak(name):
    hankel, peak = ROWS[name]["truth"]["hankel"], float(ROWS[name]["truth"]["hinf"])
    assert math.isinf(peak) or max(hankel, default=0.0) <= peak * (1 + 1e-12)
