"""Pictures of a profile, plots/profile/signs.py: each is labelled, the same file twice, and stands what comes."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use
PICTURES = ("feedback", "heads", "value_maps")


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


def test_gains_far_apart_are_drawn_on_a_scale_that_shows_both(profile):
    far = profile.copy()
    far["feedback_gain_quantile"] = far["feedback_gain_quantile"] * 0 + np.array([-40.0, -0.02, 0.0, 0.02, 3.0])
    ax = plots.profile.feedback(far).axes[0]
    assert ax.get_yscale() == "symlog"
    assert {0.0, -10.0, 1.0} <= set(ax.get_yticks())
    assert ax.yaxis.get_major_formatter()(-0.5, 0) == "-0.5"
