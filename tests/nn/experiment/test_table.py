"""The table in Markdown, beside the published figures."""

import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.experiment.table import published  # noqa: E402


def test_the_published_figures_are_those_of_the_paper():
    assert published("fgsm_16") == ("33.64 → 38.52", pytest.approx(0.3852 - 0.3364))
    assert published("pgd_8")[1] == pytest.approx(0.1508 - 0.1202)
    assert published("noise_0.3")[1] == pytest.approx(0.7087 - 0.6920)
    assert published("clean")[1] == pytest.approx(0.7313 - 0.7217)
    assert published("rank_final") is None
