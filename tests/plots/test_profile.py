"""Pictures of a profile: every one is labelled, the same file twice, and stands what a network can bring."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints, plots  # noqa: E402  (after the skip)

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use
SIZES = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 12}
PICTURES = (
    "feedback", "heads", "value_maps", "attention_modes", "token_filter", "diversity", "sinks", "gains",
    "nonnormality", "exponents",
)  # fmt: skip


@pytest.fixture(scope="module")
def profile():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BertModel(transformers.BertConfig(**SIZES))
    return checkpoints.feedback_profile(checkpoints.load(model), [3, 1, 4, 1, 5])


@pytest.mark.parametrize("name", PICTURES)
def test_drawn_labelled_and_the_same_twice(profile, name, tmp_path):
    draw = getattr(plots.profile, name)
    first, second = (plots.save(draw(profile), tmp_path / stem) for stem in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    for ax in draw(profile).axes:
        assert ax.get_ylabel() or ax.get_xlabel()


def test_gains_far_apart_are_drawn_on_a_scale_that_shows_both(profile):
    far = profile.copy()
    far["feedback_gain_quantile"] = far["feedback_gain_quantile"] * 0 + np.array([-40.0, -0.02, 0.0, 0.02, 3.0])
    ax = plots.profile.feedback(far).axes[0]
    assert ax.get_yscale() == "symlog"
    assert {0.0, -10.0, 1.0} <= set(ax.get_yticks())
    assert ax.yaxis.get_major_formatter()(-0.5, 0) == "-0.5"


def test_what_a_network_annihilates_is_a_gap(profile):
    lost = profile.copy()
    lost["exponent_rate"] = lost["exponent_rate"] * 0 - np.inf
    lost["exponent"] = lost["exponent"] * 0 - np.inf
    drawn = plots.profile.exponents(lost)
    assert np.isnan(np.asarray(drawn.axes[0].lines[0].get_ydata())).all()


@pytest.mark.parametrize("name", PICTURES)
def test_a_network_of_zeros_is_drawn(profile, name, tmp_path):
    nothing = profile.map(np.zeros_like, keep_attrs=True)
    png, _ = plots.save(getattr(plots.profile, name)(nothing), tmp_path / name)
    assert png.read_bytes()[:4] == b"\x89PNG"
