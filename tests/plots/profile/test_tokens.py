"""Pictures of a profile, plots/profile/tokens.py: each is labelled, the same file twice, and stands what comes."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use
PICTURES = ("diversity", "sinks")


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_drawn_labelled_and_the_same_twice(profile, name, tmp_path):
    draw = getattr(plots.profile, name)
    first, second = (plots.save(draw(profile), tmp_path / stem) for stem in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    for ax in draw(profile).axes:
        assert ax.get_ylabel() or ax.get_xlabel()


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_network_of_zeros_is_drawn(profile, name, tmp_path):
    nothing = profile.map(np.zeros_like, keep_attrs=True)
    png, _ = plots.save(getattr(plots.profile, name)(nothing), tmp_path / name)
    assert png.read_bytes()[:4] == b"\x89PNG"


def test_the_curves_are_those_of_the_profile(profile):
    cosine, rank, size = plots.profile.diversity(profile).axes
    np.testing.assert_array_equal(cosine.lines[0].get_ydata(), profile["mean_cosine"])
    np.testing.assert_array_equal(rank.lines[2].get_ydata(), profile["effective_rank_centred"])
    np.testing.assert_array_equal(size.lines[0].get_ydata(), np.median(profile["stream_rms"], axis=1))
