"""A study of a repeated span: forecast by its eigenvalues, losses of `repeat` by every law, kept and not made again."""

import numpy as np
import pytest

from ctrlattn import PID
from ctrlattn.checkpoints import evaluate, loop_study, repeat
from ctrlattn.checkpoints.measure import loop_study as module
from ctrlattn.checkpoints.measure.loop_study import Reach, counts_up_to
from ctrlattn.checkpoints.measure.span import SpanModes


def reach(*eigenvalues, recall=0.0, rest=0.0):
    values = np.array(eigenvalues, dtype=complex)
    return Reach((2, 4), SpanModes(values, np.zeros(len(values)), 9, rest), recall)


@pytest.mark.slow
def test_losses_are_those_of_the_repeated_network(network, text, tmp_path, monkeypatch, short_search):
    whole, ids = network("gpt2"), text(3, 3)  # its products with J are made in blocks
    said = []
    options = {"layers": (1, 3), "passes": 2, "controller": PID(0.25), "scan": True, "runs": tmp_path / "runs"}
    study = loop_study(whole, ids, **options, progress=lambda step, done, total: said.append(step))
    assert list(study.losses) == ["naive", "damped", "recall", "tuned", "asked", "once"]
    laws = study.laws
    want = {
        ("naive", 2): {"passes": 2},
        ("damped", 2): {"passes": 2, "controller": PID(0.5)},
        ("recall", 2): {"passes": 2, "controller": laws["recall"].controller, "recall": laws["recall"].recall},
        ("asked", 1): {"passes": 1, "controller": PID(0.25)},
        ("once", 2): {"passes": 1, "controller": PID(0.5)},
    }
    for (name, k), law in want.items():
        assert study.losses[name][k].loss == evaluate(repeat(whole, layers=(1, 3), **law), ids).loss
    assert study.losses["naive"][1].loss == study.intact.loss == evaluate(whole, ids).loss
    first_loss = next(i for i, step in enumerate(said) if step.startswith("loss"))
    assert any("layers 1 to 2: " in step for step in said[:first_loss])  # the forecast comes before
    assert [r.layers for r in study.scan] == [(1, 3)]
    monkeypatch.setattr(module, "evaluate", lambda *_: pytest.fail("measured again"))
    again = loop_study(whole, ids, **{**options, "scan": False})
    assert {n: {k: e.loss for k, e in each.items()} for n, each in again.losses.items()} == {
        n: {k: e.loss for k, e in each.items()} for n, each in study.losses.items()
    }


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, "", "[]", '{"window_losses": [1.0]}', '{"window_losses": [1e999], "tokens": 3}',
     '{"window_losses": "a", "tokens": 3}', '{"window_losses": [], "tokens": 3}',
     '{"window_losses": [1], "tokens": null}',
     '{"window_losses": [' + "9" * 5000 + '], "tokens": 3}', "\xff"],
)  # fmt: skip
def test_a_damaged_file_of_a_loss_is_measured_again(network, text, tmp_path, content):
    """It was a traceback of whatever its bytes led to."""
    (tmp_path / "naive.json").write_bytes(content.encode("latin-1"))
    evaluation = evaluate(network(), text(2))
    again = module._evaluation_of(tmp_path, "naive", lambda: evaluation)
    assert again is evaluation
    stored = module._evaluation_of(tmp_path, "naive", lambda: pytest.fail("measured again"))
    assert (stored.loss, stored.tokens) == (evaluation.loss, evaluation.tokens)


def test_the_law_with_recall_is_stable_on_what_was_measured():
    from ctrlattn.stability import passes_stable

    for eigenvalues in ((3.3, -15.0, 2 + 4j, 2 - 4j), (0.5,), (1.2, 0.1), (-30.0, 1.0)):
        law = module._law_with_recall(reach(*eigenvalues))
        assert passes_stable(law.controller, np.array(eigenvalues), law.recall).all()
        # Those that were not measured lie within a circle, on its left as well: the gain is small enough for them.
        wide = module._law_with_recall(reach(*eigenvalues, rest=2.0))
        assert wide.controller.kp < 1 / (1 + wide.recall)
        inside = 2.0 * np.exp(1j * np.linspace(0.6, 2 * np.pi - 0.6, 99))
        assert passes_stable(wide.controller, inside[inside.real < 1.2], wide.recall).all()


@pytest.mark.parametrize(
    ("one", "words", "least"),
    [
        (reach(3.3, 0.5), "no stable C with C(1) > 0 holds 3.3; a recall above 2.3", 2.3),
        (reach(3.3, 0.5, recall=2.5), "no eigenvalue reaches 1 + recall (rightmost 3.3)", 2.3),
        (reach(2 + 1j, 2 - 1j, 0.5), "2 eigenvalues have Re >= 1 and no small gain holds 2; a recall above 1 ", 1.0),
        (reach(0.9, -4.0), "small gains are stable here", 0.0),
        (reach(), "nothing is forecast", 0.0),
    ],
)
def test_the_forecast_names_what_forbids_a_fixed_point(one, words, least):
    assert words in one.words
    assert one.least_recall == pytest.approx(least)


@pytest.mark.slow
def test_a_law_that_runs_away_is_told_and_not_measured_further(network, text, short_search):
    whole = network("gpt2", double=False)
    study = loop_study(whole, text(2, 2), layers=(1, 3), passes=4, controller=PID(0.5), recall=3e38)
    assert "not finite after pass" in study.diverged["asked"]
    assert set(study.losses["asked"]) <= {1}
    assert set(study.losses["naive"]) == {1, 2, 3, 4}


def test_numbers_of_passes_double_behind_the_first():
    assert counts_up_to(1) == (1,)
    assert counts_up_to(9) == (1, 2, 3, 4, 8, 9)


def test_bad_input_is_refused_before_any_work(network, text, monkeypatch):
    monkeypatch.setattr(module, "span_function", lambda *_: pytest.fail("worked before it refused"))
    for options, message in (
        ({"passes": 0}, "passes must be a whole number of at least 1"),
        ({"layers": (3, 3)}, "the span is empty"),
        ({"recall": -1.0}, "must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            loop_study(network(), text(2), **{"layers": (1, 3), "passes": 2, **options})
