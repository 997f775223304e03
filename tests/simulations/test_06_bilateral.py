"""The bilateral scene: equalities at small size, the spectrum of a known image, the loops' verdicts, end to end."""

import json
import runpy
import sys
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from numpy.testing import assert_allclose

SCRIPT = Path(__file__).parents[2] / "simulations" / "06_bilateral.py"


@pytest.fixture(scope="module")
def numbers(scene, tmp_path_factory):
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("bilateral") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene, "NOISES", (0.1,))  # one of three, on both images
        patch.setattr(scene, "PIECE", slice(9, 20))
        result = scene.main(folder, seed=3)
    assert sorted(p.name for p in folder.iterdir()) == ["bilateral.json", "bilateral.png"]
    assert json.loads((folder / "bilateral.json").read_text(encoding="utf-8")) == {"run": ANY, **result}
    return result


def test_the_oracle_is_the_formula_on_two_pixels(scene):
    # One neighbour that counts, at distance d: y = w x_2 / (1 + w) from x_1 = 0, w = exp(-d^2/2s^2) exp(-1/2s_p^2).
    w = np.exp(-(0.2**2) / (2 * scene.SIGMA**2) - 1 / (2 * scene.SPATIAL**2))
    far = scene.textbook(np.array([[0.0, 0.2]]), scene.table(scene.SPATIAL), constant_values=1e6)
    assert_allclose(far, [[0.2 * w / (1 + w), 0.2 / (1 + w)]], rtol=1e-14)


def test_predictor_textbook_and_library_agree(numbers):
    equal = numbers["equal"]
    assert max(equal["textbook"].values()) < 1e-10
    assert min(equal["bins"].values()) < 1e-6
    # The bins are the only difference: ten times as many, a tenth of it.
    assert_allclose(np.diff(np.log10(list(equal["bins"].values()))), -1.0, atol=0.25)


def test_the_librarys_spatial_gaussian_is_right_or_explained(numbers):
    for differences in numbers["equal"]["gaussian"].values():
        assert min(differences["predictor"], differences["misread"]) < 1e-6


def test_a_misread_table_of_a_box_is_a_box(scene):
    assert_allclose(scene.table(None, misread=True), 1.0, atol=1e-12)
    # Row r of the misread table starts r entries too early in a table of width + 1: its centre is elsewhere.
    assert np.unravel_index(np.argmax(scene.table(1.0)), (9, 9)) == (scene.RADIUS, scene.RADIUS)
    assert np.unravel_index(np.argmax(scene.table(1.0, misread=True)), (9, 9)) == (scene.RADIUS + 2, 1)


def test_attention_lacks_the_bias_by_key_and_nothing_else(numbers):
    row = numbers["causal"]
    assert row["equal norms"] < 1e-12
    assert row["with the bias"] < 1e-12
    assert row["bias"] > 0.1


def test_boxes_denoise_alike_and_the_draws_that_choose_never_test(scene, numbers):
    for scores in numbers["denoising"].values():
        assert abs(scores["predictor, box"]["mean"] - scores["scikit-image, box"]["mean"]) < 1e-3
        assert scores["predictor"]["mean"] > scores["noisy"]["mean"] + 2
        itself = scores["blur"]["over blur"]
        assert [itself["mean"], itself["low"], itself["high"]] == [0.0, 0.0, 0.0]
    assert scene.SELECTION != scene.TEST


def test_the_interval_is_students(scene):
    # Two draws 1 apart: mean 0.5, standard error 0.5, t(0.975, 1) = tan(0.475 pi).
    half = 0.5 * np.tan(0.475 * np.pi)
    over = scene.interval([0.0, 1.0])
    assert_allclose([over["mean"], over["low"], over["high"]], [0.5, 0.5 - half, 0.5 + half], rtol=1e-12)


def test_only_a_window_makes_the_spectrum_negative(numbers):
    for name, s in numbers["spectrum"].items():
        assert s["imaginary"] < 1e-12
        assert s["methods"] < 1e-12
        assert s["high"] == pytest.approx(1.0, abs=1e-12)
        assert (s["low"] < -1e-5) == ("box" in name or "cut" in name)


def test_a_flat_image_has_the_windows_dirichlet_kernel(scene):
    """On equal gray values the filter is a moving average; its most negative eigenvalue is near that of the box."""
    frequency = np.linspace(0, np.pi, 1000)
    for radius in (1, 2):
        spectrum = scene.spectra(np.full((24, 24), 0.5))[0][f"box, radius {radius}"]
        response = (1 + 2 * sum(np.cos(k * frequency) for k in range(1, radius + 1))) / (2 * radius + 1)
        assert spectrum["low"] == pytest.approx(response.min(), rel=0.05)


def test_frozen_modes_are_the_modes_of_the_loop(numbers):
    loops = numbers["feedback"]
    for r in [*(loop["frozen"] for loop in loops["loops"].values()), *loops["edge"].values()]:
        assert r["modes"] < 1e-9
        inside = r["stable for"][0] < r["alpha"][0] and r["alpha"][1] < r["stable for"][1]
        assert inside == (r["radius"] < 1) or r["radius"] == pytest.approx(1.0, abs=1e-9)
    assert loops["edge"]["no window"]["growth"] < 1 < loops["edge"]["box, radius 2"]["growth"]


def test_feedback_minus_one_sharpens_and_the_sign_decides(numbers):
    contrast = {name: loop["contrast"] for name, loop in numbers["feedback"]["loops"].items()}
    assert all(np.diff(contrast["sharpening"]) > 0)
    assert all(np.diff(contrast["smoothing"]) < 0)
    halo = numbers["feedback"]["halo"]
    assert halo["bilateral"] < halo["linear"] / 2


def test_where_a_loop_settles_is_told_by_the_jacobian_not_by_the_frozen_spectrum(numbers):
    loops = numbers["feedback"]["loops"]
    full, half = loops["sharpening, held"], loops["half sharpening, held"]
    assert max(full["frozen"]["radius"], half["frozen"]["radius"]) < 1
    assert full["radius"] > 1
    assert full["last step"] > 1e-2
    assert half["radius"] < 1
    assert half["last step"] < 1e-6


def test_without_scikit_image_it_says_so_in_one_line(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.delitem(sys.modules, "stage.bilateral")  # it looks for the library when it is loaded
    monkeypatch.delitem(sys.modules, "stage.bilateral_picture")
    monkeypatch.setattr(sys, "argv", ["scene", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.strip().count("\n") == 0
    assert "scikit-image" in told
    assert not (tmp_path / "out").exists()
