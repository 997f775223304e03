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


def test_the_table_has_sixty_systems_and_its_script_makes_them_again():
    assert len(ROWS) == 60
    again = table.rows()
    assert list(again) == list(ROWS)
    assert [name for name in again if table.doubles(again[name]) != ROWS[name]["system"]] == []


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
