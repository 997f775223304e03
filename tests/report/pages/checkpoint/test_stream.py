"""What the page says of the stream: each number in its place, from a profile that is written down here."""

import numpy as np
import pytest

xr = pytest.importorskip("xarray")

from ctrlattn.report.pages.checkpoint import stream  # noqa: E402  (after the skip)

DEPTHS, LAYERS, TOKENS = 4, 3, 5


@pytest.fixture
def profile():
    depth = ("depth",)
    return xr.Dataset(
        {
            "mean_cosine": (depth, np.array([0.11, 0.12, 0.13, 0.14])),
            "mean_cosine_ordinary": (depth, np.array([0.21, 0.52, 0.83, 0.34])),
            "effective_rank": (depth, np.array([9.1, 9.2, 9.3, 9.4])),
            "effective_rank_ordinary": (depth, np.array([8.1, 8.2, 8.3, 8.4])),
            "effective_rank_centred": (depth, np.array([6.5, 2.3, 3.7, 4.6])),
            "stream_rms": (("depth", "token"), np.ones((DEPTHS, TOKENS))),
            "layer_cosine": (("layer",), np.array([0.912, 0.987, 0.654])),
            "massive_token": (depth, np.array([4, 3, 0, 1])),
            "massive_feature": (depth, np.array([11, 12, 13, 14])),
            "massive_value": (depth, np.array([1.0, 20.0, -333.0, 4.0])),
            "massive_ratio": (depth, np.array([2.0, 15.0, 44.0, 9.0])),
            "sink_token": (("layer", "head"), np.array([[0, 2], [2, 2], [1, 2]])),
            "sink_share": (("layer", "head"), np.array([[0.1, 0.2], [0.3, 0.5], [0.6, 0.7]])),
        },
        coords={"layer": np.arange(LAYERS)},
    )


def test_diversity_in_words(profile):
    first, second = stream.sections(profile)[0].sentences
    assert first == (
        "Different tokens (the massive ones left out) have a mean cosine of 0.21 at the embedding, at most 0.83 at "
        "depth 2, and 0.34 at the end. The effective rank of the tokens about their mean goes from 6.5 to 4.6, at "
        "least 2.3 at depth 1."
    )
    assert second == (
        "A layer turns the stream least in layer 1 (median cosine between before and after 0.987) and most in layer 2 "
        "(0.654)."
    )


def test_sinks_in_words(profile):
    verdict, shares = stream.sections(profile)[1].sentences
    assert verdict.endswith(
        "at depths 1–2. It is largest at depth 2: token 0, feature 13, value −333, 44 times the median norm."
    )
    assert shares.replace("\xa0", " ") == (
        "In 67 % of the heads token 2 draws most attention; over all heads the strongest sink takes 40 % of the "
        "attention in the median and 70 % at most."
    )
    lanes = profile.assign(massive_lane=("depth", np.array([3, 2, 1, 0])))
    assert "largest at depth 2: token 0, stream 1, feature 13," in stream.sections(lanes)[1].sentences[0]
    calm = profile.assign(massive_ratio=("depth", np.array([2.0, 10.0, 4.0, 9.0])))
    assert stream.sections(calm)[1].sentences[0].endswith("the largest token norm is 10.0 times the median.")


def test_only_what_was_measured(profile):
    assert [section.key for section in stream.sections(profile)] == ["diversity", "sinks"]
    assert [section.key for section in stream.sections(profile.drop_vars("sink_share"))] == ["diversity"]
    assert [section.key for section in stream.sections(profile.drop_vars("mean_cosine"))] == ["sinks"]
