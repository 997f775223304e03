"""A figure for a telephone shows the same panels, curves and legend entries, none of them beside two others."""

import numpy as np
import pytest

from ctrlattn import plots, presets
from ctrlattn.plots.narrow import rearrange


def figures():
    w = np.linspace(0.1, 3.0, 9)
    four = dict.fromkeys(("S", "T", "PS", "CS"), np.ones(9))
    yield plots.gang_of_four(w, {"neutreno": four, "a law with a very long name indeed": four})
    yield plots.similarity({name: np.eye(3) for name in ("before", "after", "later")}, ["A", "B", "C"])
    yield plots.figure_of(plots.time_response({"softmax": np.ones(4)}, ylabel="State", reference=1.0))
    loops = {name: presets.get(name) for name in ("softmax", "neutreno", "pidformer-printed", "pidformer-ema")}
    shares = {name: {"real": 0.0, "complex": 1.0} for name in loops}
    yield plots.spectra_by_network({"real": np.zeros(3), "complex": np.array([0.1j, -0.1j])}, loops, shares)


def entries(figure):
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return {text.get_text().replace("\n", " ") for legend in legends for text in legend.get_texts()}


@pytest.mark.parametrize("figure", list(figures()))
def test_nothing_is_lost_and_nothing_leaves_the_width(figure):
    lines, names = sum(len(ax.lines) for ax in figure.axes), entries(figure)
    panels = [ax for ax in figure.axes if ax.get_visible()]
    rearrange(figure)
    assert figure.get_figwidth() == 3.6
    assert sum(len(ax.lines) for ax in figure.axes) == lines
    assert [ax for ax in figure.axes if ax.get_visible()] == panels
    assert entries(figure) == names
    figure.draw_without_rendering()
    boxes = [ax.get_position() for ax in panels]
    assert all(-0.01 <= box.x0 < box.x1 <= 1.01 and -0.01 <= box.y0 < box.y1 <= 1.01 for box in boxes)
    gridded = [ax for ax in panels if ax.get_subplotspec() is not None]
    for i, one in enumerate(gridded):
        for other in gridded[i + 1 :]:
            assert not one.get_position().shrunk(0.98, 0.98).overlaps(other.get_position().shrunk(0.98, 0.98))
    beside = [sum(abs(a.get_position().y0 - b.get_position().y0) < 1e-3 for b in gridded) for a in gridded]
    assert max(beside) <= 2


@pytest.mark.slow
def test_a_figure_is_the_same_markup_twice():
    one, two = (plots.narrow_svg(next(figures()), "same") for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("title", "label"),
    [
        ("What attention adds along a token comes from", "Gain on differences between two tokens (below 1: low-pass)"),
        ("Waves along the tokens, median head", "Median gain of a head"),
        ("Sum of moments whose modes damp, summed", "Mean moment"),
    ],
)
def test_titles_and_labels_of_colour_bars_stay_inside(title, label):
    figure = plots.style.figure()
    ax = figure.subplots()
    figure.colorbar(ax.imshow(np.eye(3), aspect="auto", extent=(0, 1, -0.15, 0.1)), ax=ax, label=label)
    ax.set_ylabel("Median gain, all heads")
    ax.set_title(title, loc="left")
    plots.narrow_svg(figure, "inside")
    bar = figure.axes[1]
    for text in (*(each for each in ax.get_children() if getattr(each, "get_text", str)() != ""), bar.yaxis.label):
        box, frame = text.get_window_extent(), figure.bbox
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1, text.get_text()
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1, text.get_text()
    assert bar.yaxis.label.get_text().replace("\n", " ") == label


def test_the_markup_is_narrow_and_its_ids_have_the_prefix():
    svg = plots.narrow_svg(plots.figure_of(plots.diversity(np.arange(3), {"a": np.ones(3)}, ylabel="y")), "here")
    assert svg.startswith("<svg")
    assert 'viewBox="0 0 259.2 ' in svg
    assert 'id="here-' in svg
    assert "var(--m-000000, #000000)" in svg
