"""Pictures of a profile, plots/profile/layers.py: each is labelled, the same file twice, and stands what comes."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use
PICTURES = ("gains", "nonnormality", "exponents")


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


def test_what_a_network_annihilates_is_a_gap(profile):
    lost = profile.copy()
    lost["exponent_rate"] = lost["exponent_rate"] * 0 - np.inf
    lost["exponent"] = lost["exponent"] * 0 - np.inf
    figure = plots.profile.exponents(lost)
    assert np.isnan(np.asarray(figure.axes[0].lines[0].get_ydata())).all()
