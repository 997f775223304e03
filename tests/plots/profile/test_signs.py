"""Pictures of a profile, plots/profile/signs.py: what each shows is what was measured."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use


def test_gains_far_apart_are_drawn_on_a_scale_that_shows_both(profile):
    far = profile.copy()
    far["feedback_gain_quantile"] = far["feedback_gain_quantile"] * 0 + np.array([-40.0, -0.02, 0.0, 0.02, 3.0])
    ax = plots.profile.feedback(far).axes[0]
    assert ax.get_yscale() == "symlog"
    assert {0.0, -10.0, 1.0} <= set(ax.get_yticks())
    assert ax.yaxis.get_major_formatter()(-0.5, 0) == "-0.5"
