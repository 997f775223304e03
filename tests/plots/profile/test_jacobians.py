"""Pictures of a profile, plots/profile/jacobians.py: what each shows is what was measured."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use


def test_what_a_network_annihilates_is_a_gap(profile):
    lost = profile.copy()
    lost["exponent_rate"] = lost["exponent_rate"] * 0 - np.inf
    lost["exponent"] = lost["exponent"] * 0 - np.inf
    figure = plots.profile.exponents(lost)
    assert np.isnan(np.asarray(figure.axes[0].lines[0].get_ydata())).all()
