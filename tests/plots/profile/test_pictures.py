"""Every picture of a profile is labelled, is the same file twice, and stands a network of zeros."""

import io

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
def test_drawn_labelled_and_the_same_twice(profile, name, tmp_path, laid_out_once, vectors_alone):
    figures = [getattr(plots.profile, name)(profile) for _ in range(2)]
    with vectors_alone():
        first, second = (plots.save(figure, tmp_path / stem) for figure, stem in zip(figures, "ab", strict=True))
    assert first[1].read_bytes() == second[1].read_bytes()
    assert plots.narrow_svg(figures[1], name).startswith("<svg")
    for ax in figures[0].axes:
        assert ax.get_ylabel() or ax.get_xlabel()


@pytest.mark.parametrize("name", PICTURES)
def test_a_network_of_zeros_is_drawn(profile, name):
    nothing = profile.map(np.zeros_like, keep_attrs=True)
    figure, pixels = getattr(plots.profile, name)(nothing), io.BytesIO()
    figure.set_layout_engine(None)  # layouts have tests of their own
    figure.savefig(pixels, dpi=40)
    assert pixels.getvalue()[:4] == b"\x89PNG"
