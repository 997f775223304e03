"""The scene of the odd-number limit: its controllers are what it says, its exact case, and a verdict that can fail."""

import json
from fractions import Fraction

import numpy as np
import pytest


def test_controllers_are_stable_or_not_and_of_positive_static_gain(scene):
    for stable in (True, False):
        laws = scene.controllers(60, 3, stable=stable)
        assert {len(den) - 1 for _, den in laws} >= {1, 2, 3, 4}
        for num, den in laws:
            assert np.polyval(num, 1) / np.polyval(den, 1) > 0
            assert len(num) <= len(den)
            assert all(abs(np.roots(den)) < 1) is stable or len(den) == 1
        assert any(np.polyval(num, 1) < 0 for num, _ in laws) is not stable  # an odd number of poles beyond 1


def test_the_exact_case_is_that_of_its_formula(scene):
    for w in (Fraction(4, 5), Fraction(1, 3), Fraction(7)):
        held, lost = scene.dead_beat(w)
        assert held == [1, 0, 0]
        assert lost == [1, -6, 4]
    # den (z - 1) - w num by hand: (z - 1/2)(z - 1) - 2 (z/3)
    p = scene.characteristic([Fraction(1, 3), Fraction(0)], [Fraction(1), Fraction(-1, 2)], Fraction(2))
    assert p == [1, Fraction(-13, 6), Fraction(1, 2)]
    assert scene.value(p, Fraction(1)) == Fraction(-2, 3)  # -w num(1)


def test_radii_are_those_of_the_polynomial(scene):
    (law,) = scene.controllers(1, 5, stable=True)
    for away, radius in scene.radii([law], 0):
        zeros = np.roots(scene.characteristic(list(law[0]), list(law[1]), away))
        assert radius == pytest.approx(abs(zeros).max(), rel=1e-6)
    shifted = scene.radii([law], 0, recall=1.5)
    assert np.allclose(shifted, scene.radii([law], 0))  # only the distance from 1 + k_r counts


def test_the_error_of_a_run_has_the_pole_of_its_gain(scene):
    run = scene.run_of(1.5, 0.5, 0.0, passes=5)
    assert run == pytest.approx(0.5 * 1.25 ** np.arange(5))  # pole 1 + (1.5 - 1)/2
    recalled = scene.run_of(1.5, 0.5, 1.0, passes=5)  # pole 1 + (1.5 - 2)/2
    assert recalled == pytest.approx(0.5 * 0.75 ** np.arange(5))


def test_the_verdict_follows_the_numbers(scene):
    rows = np.array([[0.5, 1.2], [-0.5, 0.8]])
    runs = {"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 1e-9]}
    good = scene.verdict(rows, rows, 4, 4, [1, 0, 0], [1, -6, 4], runs)
    assert [line.split(":")[0] for line in good if ":" in line].count("holds") == 6
    bad = scene.verdict(
        np.array([[0.5, 0.9], [-0.5, 1.8]]), rows, 3, 4, [1, 0, 1], [1, -6, 5], {**runs, "c": [1.0, 1.0]}
    )
    assert [line.split(":")[0] for line in bad].count("does NOT hold") == 5
    assert "of 1: 1" in bad[1]


def test_the_small_run_holds(scene, tmp_path):
    numbers = scene.main(tmp_path)
    written = json.loads((tmp_path / "odd_number_limit.json").read_text(encoding="utf-8"))
    assert written["verdict"] == numbers["verdict"]
    assert not any(line.startswith("does NOT") for line in numbers["verdict"])
    assert (tmp_path / "odd_number_limit.png").exists()
    assert scene.exact_signs(scene.controllers(20, 1, stable=True), 0) == 20
