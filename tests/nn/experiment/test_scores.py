"""Scores on the test part: text, real images, in pieces."""

import math

import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.experiment import scores  # noqa: E402
from ctrlattn.nn.experiment.arms import options_of  # noqa: E402
from ctrlattn.nn.experiment.data import characters, load  # noqa: E402
from ctrlattn.nn.experiment.scores import score  # noqa: E402
from ctrlattn.nn.experiment.settings import RunSettings  # noqa: E402
from ctrlattn.nn.experiment.training import build, train  # noqa: E402


def test_text_is_scored_by_its_perplexity(settings):
    data = characters("abc", "abcd" * 500, 8, (32, 8, 8))
    run = train(settings("pidformer-ema", epochs=30, rate=0.01), data)
    assert run["scores"]["perplexity"] == pytest.approx(math.exp(run["scores"]["loss"]))
    assert run["scores"]["perplexity"] < 1.5  # four letters in turn; chance is 4
    assert options_of("pidformer-ema", text=True)["reference_gain"] == 0.3


@pytest.mark.slow
def test_a_real_training_on_real_images():
    pytest.importorskip("sklearn", reason="the digits ship in scikit-learn")
    run = train(RunSettings("pidformer-ema", 0, epochs=6, depth=2, dim=24), load("digits"))
    assert run["status"] == "learned"
    assert run["scores"]["clean"] > 0.65
    assert run["scores"]["clean"] > run["scores"]["noise_0.2"] > run["scores"]["noise_0.4"]
    assert run["scores"]["clean"] > run["scores"]["fgsm_8"] > run["scores"]["fgsm_32"]
    # FGSM is one point of the ball in which PGD searches.
    assert run["scores"]["pgd_8"] <= run["scores"]["fgsm_8"] + 0.02


def test_parts_are_evaluated_in_pieces(monkeypatch, settings, corners):
    data, model = corners(), build(settings(), corners()).double()
    data = data._replace(test=data.test._replace(inputs=data.test.inputs.double()))
    whole = scores.mean_loss(model, data, data.test)
    monkeypatch.setattr(scores, "AT_ONCE", 7)
    npt.assert_allclose(scores.mean_loss(model, data, data.test), whole, rtol=1e-12)
    assert set(score(model, data)) == {"loss", "clean", *(f"noise_{s:g}" for s in scores.NOISES),
        *(f"fgsm_{s:g}" for s in scores.STRENGTHS), *(f"pgd_{s:g}" for s in scores.PGD_STRENGTHS)}  # fmt: skip
