"""Every picture of a profile is labelled, is the same file twice, and stands a network of zeros."""

import numpy as np
import pytest

from ctrlattn import plots

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),  # torch's own, on first use
]
PICTURES = (
    "attention_modes",
    "token_filter",
    "feedback",
    "heads",
    "value_maps",
    "diversity",
    "sinks",
    "gains",
    "nonnormality",
    "exponents",
)


@pytest.mark.parametrize("name", PICTURES)
def test_drawn_labelled_and_the_same_twice(profile, name, tmp_path):
    draw = getattr(plots.profile, name)
    first, second = (plots.save(draw(profile), tmp_path / stem) for stem in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    for ax in draw(profile).axes:
        assert ax.get_ylabel() or ax.get_xlabel()


@pytest.mark.parametrize("name", PICTURES)
def test_a_network_of_zeros_is_drawn(profile, name, tmp_path):
    nothing = profile.map(np.zeros_like, keep_attrs=True)
    png, _ = plots.save(getattr(plots.profile, name)(nothing), tmp_path / name)
    assert png.read_bytes()[:4] == b"\x89PNG"
