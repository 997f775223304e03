"""The pronoun task: the criterion by hand, the stored configuration on fresh draws, the scene end to end."""

import json
from unittest.mock import ANY

import numpy as np


def test_both_sentences_must_be_right_and_the_pronoun_does_not_compete(scene):
    words = scene.FIRST_PAIR.words
    scores = np.zeros((2, len(words)))
    scores[0, words.index("КАШУ")] = scores[1, words.index("МАША")] = 1.0
    scores[:, words.index("ОНА")] = 9.0
    assert [bool(v) for v in scene.judge(scene.FIRST_PAIR, scores)[:2]] == [True, True]
    scores[:, words.index("ЕСТ")] = 2.0
    assert [bool(v) for v in scene.judge(scene.FIRST_PAIR, scores)[:2]] == [True, False]
    assert [bool(v) for v in scene.judge(scene.FIRST_PAIR, scores[[0, 0]])[:2]] == [False, False]


def test_the_notes_own_logits_solve_the_task(scene):
    solved, strict, _ = scene.judge(scene.FIRST_PAIR, np.array(scene.CLAIMED_LOGITS))
    assert solved
    assert strict


def test_negative_feedback_solves_draws_that_did_not_choose_it(scene):
    minus, plus = (scene.success(scene.FIRST_PAIR, c, draws=150, seed=7) for c in (scene.MINUS, scene.PLUS))
    assert minus["low"] > 0.95
    assert plus["high"] < minus["low"]


def test_selection_and_test_draws_differ(scene):
    chosen, tested = (scene.sample(scene.FIRST_PAIR, scene.MINUS, 1, 32, (0, s)) for s in (scene.SELECTION, scene.TEST))
    assert np.max(np.abs(chosen - tested)) > 1e-3


def test_the_search_finds_the_stored_configuration_again(scene, monkeypatch):
    monkeypatch.setattr(scene, "SPACE", (("mean",), (0.03, 0.3), (0.3,), (0.2, 0.8)))
    *score, chosen = scene.search(-1.0, True, True, seed=0, draws=20)
    assert chosen == scene.MINUS
    assert score[0] == 1.0


def test_where_the_mechanism_ends(scene):
    orders = {group: {p.name: p for p in scene.GROUPS[group]} for group in ("order", "no verb")}

    def solved(group, name):
        return scene.success(orders[group][name], scene.MINUS, draws=40, seed=1)["solved"]

    # The word before the candidates: the verb's relations outweigh it, an earlier pronoun cancels it.
    assert solved("order", "_ ПОТОМУ ЧТО МАША ЕСТ КАШУ") < 0.2
    assert solved("no verb", "_ ПОТОМУ ЧТО МАША ЕСТ КАШУ") > 0.9
    assert solved("no verb", "_ ОНА ПОТОМУ ЧТО МАША ЕСТ КАШУ") < 0.1


def test_the_scene_writes_its_figure_and_its_numbers(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "SMALL", (3, 1))
    numbers = scene.main(tmp_path / "out", seed=3)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["pronoun.json", "pronoun.png"]
    assert json.loads((tmp_path / "out" / "pronoun.json").read_text(encoding="utf-8")) == {"run": ANY, **numbers}
    shares = [r for group in scene.GROUPS for of in numbers[group].values() for r in of.values()]
    assert all(0 <= r["low"] <= r["solved"] <= r["high"] <= 1 and r["strict"] <= r["solved"] for r in shares)
    assert len(numbers["unseen"]["-1"]) >= 10
    for seen in numbers["observed"].values():
        np.testing.assert_allclose(np.sum(list(seen["attention"].values()), -1), 1.0, rtol=1e-12)
