"""Pictures of a profile, plots/profile/tokens.py: what each shows is what was measured."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use


def test_the_curves_are_those_of_the_profile(profile):
    cosine, rank, size = plots.profile.diversity(profile).axes
    np.testing.assert_array_equal(cosine.lines[0].get_ydata(), profile["mean_cosine"])
    np.testing.assert_array_equal(rank.lines[2].get_ydata(), profile["effective_rank_centred"])
    np.testing.assert_array_equal(size.lines[0].get_ydata(), np.median(profile["stream_rms"], axis=1))
