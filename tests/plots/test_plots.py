"""Every picture on small, empty, not finite and hostile input: right labels, no crash, the same file twice."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure

from ctrlattn import PID, CausalMean, Loop, loop_transfer, margins, plots

W = np.linspace(0.02, np.pi, 40)
S = 1 / (1 + 0.6 / (np.exp(1j * W) - 0.5))
# Six entries: one more than there are dashes.
NASTY = ["$x_1$", "<b>& 50 %", "a\\b", "new\nline \x00", "привет x_y^z 日本", ""]
L = loop_transfer(Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05)), 0.6)
PLANE = (np.linspace(-1, 1, 9), np.linspace(-1, 1, 7), np.linspace(0, 2, 63).reshape(7, 9))
FOUR = {key: np.abs(S) for key in ("S", "T", "PS", "CS")}


def draw(name, names):
    """Each picture with one entry for each of `names`."""
    k = np.linspace(0, 2, 30)
    locus = (0.5 - 0.6 * k)[:, None].astype(complex)
    drawings = {
        "similarity": lambda: plots.similarity({n: np.eye(3) for n in names}, ["a", "b", "c"], highlight=2),
        "feedback_gain": lambda: plots.feedback_gain({n: np.ones((4, 5)) * 0.1 for n in names}, title="net"),
        "spectrum": lambda: plots.spectrum_over_regions(
            {n: np.array([0.1, 0.3j]) for n in names},
            dict.fromkeys(names, PLANE),
            shares={n: {"net": 0.004} for n in names},
        ),
        "time_response": lambda: plots.time_response(dict.fromkeys(names, 0.5**k), ylabel="State", reference=1.0),
        "bode": lambda: plots.bode_magnitude(
            W, dict.fromkeys(names, S), bands={n: np.stack([abs(S) / 2, abs(S)]) for n in names}, ylabel="|S| (dB)"
        ),
        "gang_of_four": lambda: plots.gang_of_four(W, dict.fromkeys(names, FOUR)),
        "nyquist": lambda: plots.nyquist_curves(
            {n: L(np.exp(1j * W)) for n in names}, margins=dict.fromkeys(names, margins(L))
        ),
        "root_locus": lambda: plots.root_locus_branches(k, locus, [0.2], marks={n: [0.1] for n in names}),
        "root_loci": lambda: plots.root_loci(
            k, dict.fromkeys(names, locus), {n: [] for n in names}, marks={n: {} for n in names}
        ),
        "pole_zero": lambda: plots.poles_and_zeros({n: [0.5, 0.1j] for n in names}, {n: [0.2] for n in names}),
        "token_response": lambda: plots.token_response(W, {n: np.abs(S) for n in names}),
        "diversity": lambda: plots.diversity(k, dict.fromkeys(names, k), ylabel="Mean cosine"),
        "heatmap": lambda: plots.heatmap(np.eye(3) - 0.5, xlabel="head", ylabel="layer", label="gain", diverging=True),
    }
    figure = drawings[name]()
    return figure if isinstance(figure, Figure) else plots.figure_of(figure)


ALL = (
    "similarity", "feedback_gain", "spectrum", "time_response", "bode", "gang_of_four", "nyquist", "root_locus",
    "root_loci", "pole_zero", "token_response", "diversity", "heatmap",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_picture_draws_hostile_names_the_same_twice(name, tmp_path, laid_out_once, vectors_alone, few_dots):
    names = ["softmax", *NASTY]  # a look of its own, and those that are left
    png, svg = plots.save(draw(name, names), tmp_path / "picture")
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert plots.inline_svg(svg, "p").startswith("<svg")
    with vectors_alone():
        again = plots.save(draw(name, names), tmp_path / "again")[1]
    assert svg.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.png", "again.svg", "picture.png", "picture.svg"]


def test_saving_keeps_the_figure_adaptable(tmp_path):
    figure = draw("bode", ["neutreno"])
    engine = figure.get_layout_engine()
    plots.save(figure, tmp_path / "a")
    assert figure.get_layout_engine() is engine


@pytest.mark.parametrize("name", ALL)
def test_every_axis_says_what_it_shows(name):
    axes = [ax for ax in draw(name, ["neutreno"]).axes if ax.get_visible()]
    assert any(ax.get_ylabel() for ax in axes)
    if name != "similarity":
        assert any(ax.get_xlabel() for ax in axes)


def test_units():
    assert "rad/layer" in draw("bode", ["a"]).axes[0].get_xlabel()
    assert "dB" in draw("gang_of_four", ["a"]).axes[0].get_ylabel()
    assert "rad/token" in draw("token_response", ["a"]).axes[0].get_xlabel()


def inlined(figure, prefix, folder):
    return plots.inline_svg(plots.save(figure, folder / prefix)[1], prefix)


def test_labels_are_shown_literally_and_escaped_in_svg(tmp_path):
    svg = inlined(plots.similarity({"x": np.eye(3)}, ["$a_1$", "<b>", "&"]), "s", tmp_path)
    assert "$a_1$" in svg
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg


@pytest.mark.slow
def test_ids_of_two_inlined_pictures_do_not_clash(tmp_path):
    import re

    one, two = (inlined(draw("spectrum", ["a"]), prefix, tmp_path) for prefix in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert not ids[0] & ids[1]
    for svg, found in zip((one, two), ids, strict=True):
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
        assert used <= found


def test_not_finite_values_leave_gaps_and_divergence_does_not_blow_up_the_frame():
    y = np.array([1.0, np.nan, 0.5, 0.4])
    wild = (-2.0) ** np.arange(60)
    ax = plots.time_response({"softmax": y, "neutreno": y, "pidformer-printed": wild[:4]}, ylabel="State")
    assert np.all(np.isfinite(ax.get_ylim()))
    ax = plots.time_response(
        {"softmax": np.ones(60), "neutreno": np.zeros(60), "pidformer-printed": wild}, ylabel="State"
    )
    assert np.abs(ax.get_ylim()).max() < 10
    assert "leaves the frame at" in ax.get_legend().get_texts()[-1].get_text()
    infinite = plots.time_response({"a": np.array([1.0, np.inf])}, ylabel="State")
    assert np.all(np.isfinite(infinite.get_ylim()))
    zero = plots.bode_magnitude(W, {"a": np.zeros(len(W))}, ylabel="|S| (dB)")
    assert np.all(np.isfinite(zero.get_ylim()))


def test_a_preset_looks_the_same_in_every_picture():
    from ctrlattn.plots.style import styles

    alone, together = styles(["neutreno"]), styles(["x", "neutreno", "softmax"])
    assert alone["neutreno"] == together["neutreno"]
    looks = [tuple(map(str, look.values())) for look in styles([f"loop {i}" for i in range(9)]).values()]
    assert len(set(looks)) == 9


@pytest.mark.slow
def test_drawing_leaves_no_trace_in_matplotlib():
    before = dict(rcParams)
    draw("bode", ["a"])
    assert dict(rcParams) == before
    code = (
        "import sys, numpy as np, ctrlattn.plots as p; p.diversity(np.arange(3), {'a': np.ones(3)}, ylabel='y');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_given_axes_are_used():
    ax = plots.figure().add_subplot()
    assert plots.diversity(np.arange(3), {"a": np.ones(3)}, ylabel="y", ax=ax) is ax
