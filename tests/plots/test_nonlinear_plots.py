"""Pictures of exponents, bifurcations and designs: labels, what is lost, the same file twice."""

import numpy as np
import pytest

from ctrlattn import plots

RUNNING = np.column_stack([np.linspace(1, 0.5, 30), np.linspace(-2, -1, 30), np.full(30, -np.inf)])
GAINS = np.linspace(2.5, 4.1, 9)
VALUES = np.where(GAINS[:, None] > 4, np.nan, np.outer(GAINS, np.linspace(0.1, 0.2, 5)))
CURVE = {"settling": np.array([5.0, 9.0]), "modulus_margin": np.array([0.4, 0.6])}


BRANCH = (GAINS, GAINS / 5, GAINS < 3)
DRAWINGS = {
    "exponents": lambda: plots.lyapunov_spectrum(RUNNING, title="$x$"),
    "many": lambda: plots.lyapunov_spectrum(np.tile(RUNNING[:, :1], 12)),
    "several": lambda: plots.lyapunov_spectra({"softmax": RUNNING, "one step": RUNNING[:1]}, title="$x$"),
    "bifurcation": lambda: plots.bifurcation(GAINS, VALUES),
    "with exponent": lambda: plots.bifurcation(
        GAINS, VALUES, exponent=np.full(9, -0.1), branches=(BRANCH,), marks=(("flip", 3.0),)
    ),
    "trade-off": lambda: plots.figure_of(plots.trade_off({"PI": CURVE, "PID": CURVE}, marks={"neutreno": (6.0, 0.4)})),
    "certificate": lambda: plots.certificate(
        np.array([0.1, 0.5 + 0.2j]),
        {"settling": np.array([4.0, np.inf]), "modulus_margin": np.array([0.4, 0.0])},
        {"modulus_margin": 0.3, "settling": 9.0},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWINGS)
def test_drawn_labelled_and_the_same_twice(name, tmp_path, laid_out_once, vectors_alone, few_dots):
    figure = DRAWINGS[name]()
    first = plots.save(figure, tmp_path / "a")
    assert first[0].stat().st_size > 1000
    with vectors_alone():
        assert first[1].read_bytes() == plots.save(DRAWINGS[name](), tmp_path / "b")[1].read_bytes()
    axes = figure.axes
    assert all(ax.get_ylabel() for ax in axes)
    assert axes[-1].get_xlabel()


def test_lost_exponents_are_marked_and_lost_gains_shaded():
    right = DRAWINGS["exponents"]().axes[1]
    assert "−∞" in [text.get_text() for text in right.get_legend().get_texts()]
    shaded = DRAWINGS["bifurcation"]().axes[0].patches
    assert len(shaded) == int(np.isnan(VALUES).any(1).sum()) == 1


def test_limits_are_shaded_on_the_forbidden_side():
    margin, settling = DRAWINGS["certificate"]().axes
    assert margin.patches[0].get_extents().ymin < margin.transData.transform((0, 0.3))[1]
    assert settling.get_ylim()[1] > 9.0
