"""Pictures of a profile, plots/profile/attention.py: what each shows is what was measured."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use


def test_the_median_is_that_of_the_eigenvalues(profile):
    left, right = plots.profile.attention_modes(profile).axes
    modes = profile["attention_eigenvalue"].to_numpy().real
    np.testing.assert_allclose(left.lines[0].get_ydata(), np.median(modes.reshape(len(modes), -1), axis=1))
    for line in right.lines:
        share = profile["unstable_share"].sel(preset=line.get_label()).mean("head")
        np.testing.assert_array_equal(line.get_ydata(), share)


def test_a_wave_along_the_tokens_is_drawn_in_decibels(profile):
    left = plots.profile.token_filter(profile).axes[0]
    response = profile["token_response"].median("head").to_numpy()
    np.testing.assert_allclose(10 ** (left.lines[1].get_ydata() / 20), response[1])
