"""Pseudospectra and transient growth: on ordinary, infinite, tiny and empty input; what is drawn where."""

import io

import numpy as np
import pytest

from ctrlattn import CausalMean, Loop, pass_operator, plots, pseudospectrum, transient_growth
from ctrlattn.plots.nonnormal import pseudospectrum_contours
from ctrlattn.plots.nonnormal import transient_growth as draw_growth

AXIS = np.linspace(-2, 2, 31)
GRID = AXIS[None, :] + 1j * AXIS[:, None]
BLOCK = np.array([[0.5, 3.0], [0.0, 0.5]])


def pixels(ax):
    """The picture as PNG, drawn once, coarsely and where its panels stand: layouts have tests of their own."""
    figure, file = plots.figure_of(ax), io.BytesIO()
    figure.set_layout_engine(None)
    figure.savefig(file, dpi=40)
    return file.getvalue()


def contours(a, **options):
    return pseudospectrum_contours(AXIS, AXIS, pseudospectrum(a, GRID), np.linalg.eigvals(a), **options)


@pytest.mark.slow
@pytest.mark.parametrize("continuous", [False, True])
def test_contours_are_written_the_same_twice(continuous, tmp_path, laid_out_once, vectors_alone):
    with vectors_alone():
        first, second = (plots.save(contours(BLOCK, continuous=continuous), tmp_path / name)[1] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("matrix", "continuous"), [(np.zeros((1, 1)), True), (np.eye(12, k=1), False), (np.diag([0.5, 2.5j]), False)]
)
def test_contours_draw(matrix, continuous):
    assert pixels(contours(matrix, continuous=continuous))[:4] == b"\x89PNG"


def test_contours_show_eigenvalues_border_and_units():
    ax = contours(BLOCK, title="$two$ tokens")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Re z", "Im z")
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names[:2] == ["eigenvalues", "unit circle"]
    marks = [line for line in ax.get_lines() if line.get_marker() == "x"]
    assert np.allclose(marks[0].get_xdata(), [0.5, 0.5])
    assert "imaginary axis" in [t.get_text() for t in contours(BLOCK, continuous=True).get_legend().get_texts()]
    assert "\\$two" in ax.get_title(loc="left")


def test_the_contour_is_where_sigma_has_its_value():
    """For a normal matrix the contour 10^-k is a circle of that radius round the eigenvalue."""
    ax = pseudospectrum_contours(AXIS, AXIS, np.abs(GRID), [0.0])
    collection = ax.collections[0]
    radii = [
        np.abs(p[:, 0] + 1j * p[:, 1]) for path in collection.get_paths() for p in path.to_polygons(closed_only=False)
    ]
    assert any(np.allclose(r, 1.0, atol=0.02) for r in radii)


def test_flat_and_infinite_fields_do_not_crash():
    flat = pseudospectrum_contours(AXIS, AXIS, np.ones((31, 31)), [])
    wild = pseudospectrum_contours(AXIS, AXIS, np.where(np.abs(GRID) > 1, np.inf, 0.0), [0.0])
    assert flat.get_xlim() == wild.get_xlim() == (-2.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "growth",
    [
        transient_growth(BLOCK, 30),
        transient_growth(BLOCK, 30, bounds=False),
        transient_growth(pass_operator(Loop(CausalMean(), order="sequential"), 8), 20),  # infinite bounds
        transient_growth(np.eye(3, k=1), 9),  # exactly zero from step 3 on
        transient_growth(np.array([[10.0]]), 400),  # infinite norms
        transient_growth(BLOCK - np.eye(2), 30, continuous=True, interval=0.2),
        transient_growth(np.zeros((1, 1)), 0),
    ],
    ids=["bounds", "none", "infinite", "delays", "unstable", "continuous", "one point"],
)
def test_growth_draws(growth):
    ax = draw_growth(growth)
    assert np.all(np.isfinite(ax.get_ylim()))
    assert ax.get_yscale() == "log"
    assert len(pixels(ax)) > 1000


def test_growth_names_its_bounds():
    labels = [t.get_text() for t in draw_growth(transient_growth(BLOCK, 30)).get_legend().get_texts()]
    assert any(label.startswith("K = 1.67") for label in labels)
    assert any(label.startswith("e n K = 9.06") for label in labels)
    bare = [t.get_text() for t in draw_growth(transient_growth(BLOCK, 30, bounds=False)).get_legend().get_texts()]
    assert not any(label.startswith(("K", "e n K", "bound")) for label in bare)
    assert draw_growth(transient_growth(BLOCK, 3), unit="s").get_xlabel() == "Time (s)"


def test_given_axes_are_used():
    ax = plots.figure().add_subplot()
    assert draw_growth(transient_growth(BLOCK, 5), ax=ax) is ax
