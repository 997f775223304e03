"""A small sample of the campaign, and that it tells the wrong from the right."""

import json
import sys
import time

import campaign
import control
import numpy as np
import pytest
import questions
import systems

from ctrlattn import stability
from ctrlattn.errors import InputError

NAMES = list(questions.QUESTIONS)
G = control.tf([0.5], [1, -0.9], 1)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 2 * len(NAMES), len(NAMES)))
def test_a_sample_of_the_campaign_has_nothing_wrong(start):
    bad = (campaign.WRONG, campaign.RAW)
    outcomes = [campaign.outcome(i, 7, NAMES, limit=60) for i in range(start, start + len(NAMES))]
    assert [o for o in outcomes if o.outcome in bad] == []


def question(ask, truth=1.0):
    return {"asked": questions.Question(lambda rng: ("G", (G,)), lambda g: {"x": ask(g)}, lambda *_: {"x": truth})}


def refusal(g):
    raise InputError("no")


def bug(g):
    raise np.linalg.LinAlgError("singular")


def endless(g):
    while True:
        time.process_time()


def warned(g):
    return float(np.log(np.zeros(1))[0])


@pytest.mark.parametrize(
    ("ask", "word"),
    [
        (lambda g: 1.0 + 1e-9, campaign.RIGHT),
        (lambda g: 1.001, campaign.WRONG),
        (lambda g: np.inf, campaign.WRONG),
        (refusal, campaign.REFUSED),
        (bug, campaign.RAW),
        (warned, campaign.RAW),
        (endless, campaign.OVER),
    ],
    ids=["right", "off", "infinite", "refusal", "bug", "warning", "endless"],
)
def test_an_answer_is_judged(ask, word, monkeypatch):
    monkeypatch.setattr(campaign, "QUESTIONS", question(ask))
    assert campaign.outcome(0, 0, ["asked"], limit=0.3).outcome == word


def test_what_the_last_digits_decide_is_rounding(monkeypatch):
    def last_digit(g, *_):
        return {"x": 1.0 + 1e12 * (float(g.den[0][0][1]) + 0.9)}

    row = questions.Question(lambda rng: ("G", (G,)), lambda g: {"x": 1.0 + 2e-4}, last_digit)
    monkeypatch.setattr(campaign, "QUESTIONS", {"asked": row})
    assert campaign.outcome(0, 0, ["asked"]).outcome == campaign.ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("k", [0.05, 0.3])
def test_only_an_infinite_factor_leads_a_pole_to_a_zero(k):
    """k (z + 1)/(z - 0.4): the pole comes to -1 as the factor grows beyond all numbers, and at no factor of 1e6."""
    loop = control.tf([k, k], [1, -0.4], 1)
    places = [questions._places_a_pole(loop, np.array([factor + 0j]), np.pi) for factor in (1.0, 1e3, 1e6, 1e15)]
    assert places == [False, False, False, True]


def test_a_factor_of_zero_leaves_a_pole_of_several_channels_where_it_is():
    """L = b c/s, three channels: det(I + f L) = 1 + f c b/s has its zero at -f c b, at 0 for f = 0 alone."""
    loop = control.ss([[0.0]], [[1e-6, 1e-6, 1e-6]], [[1e5], [2e5], [3e5]], np.zeros((3, 3)))
    places = [questions._places_a_pole(loop, np.full(3, factor + 0j), 0.0) for factor in (4e-16, 1e-4, 1.0)]
    assert places == [True, False, False]


@pytest.mark.slow
def test_a_wrong_margin_would_be_noticed(monkeypatch):
    """The toolbox is made to lie by 1 %: every margin that is finite and not 0 is then wrong."""
    true = stability.gain_margin
    monkeypatch.setattr(stability, "gain_margin", lambda loop: 1.01 * true(loop))
    outcomes = [campaign.outcome(i, 3, ["gain_margin"]) for i in range(3)]
    lies = [o for o in outcomes if o.outcome == campaign.WRONG]
    assert len(lies) >= 2


def test_the_same_input_is_drawn_for_the_same_index():
    for i in range(len(NAMES)):
        (name, case, _), (again, same, _) = campaign.drawn(i, 5, NAMES), campaign.drawn(i, 5, NAMES)
        assert (name, case) == (again, same)


def test_marginal_is_what_lies_at_the_boundary():
    assert campaign.is_marginal("h2_norm", (systems.siso("integrator", 3, "modal", 0),))
    assert not campaign.is_marginal("margins", (G,))
    assert not campaign.is_marginal("stability_set", (systems.siso("integrator", 3, "tf", 0),))


def test_the_file_of_outcomes_is_gone_on_with(tmp_path, monkeypatch, capsys):
    path = tmp_path / "campaign.json"
    monkeypatch.setattr(campaign, "QUESTIONS", question(lambda g: 1.0))
    for inputs, expected in ((3, 3), (5, 5)):
        options = ["campaign", "--inputs", str(inputs), "--json", str(path), "--functions", "asked"]
        monkeypatch.setattr(sys, "argv", options)
        with pytest.raises(SystemExit) as end:
            campaign.main()
        assert not end.value.code
        written = json.loads(path.read_text())
        assert [o["index"] for o in written["outcomes"]] == list(range(expected))
        assert written["counts"]["all"] == {campaign.RIGHT: expected}
    assert '"inputs": 5' in capsys.readouterr().out
