"""A solved layout is at rest by the engine's own measure: each panel has the room that its labels take."""

import numpy as np
import pytest

from ctrlattn.plots.layout import measured_once, solve_layout
from ctrlattn.plots.narrow import rearrange
from ctrlattn.plots.style import figure


def legends_below():
    # A legend at a share of the panel's height asks for less room where the panel is lower.
    fig = figure()
    for ax, top in zip(fig.subplots(1, 3), (0.75, 1e3, 7e6), strict=True):
        ax.plot([0, 1, 2], [0, top / 3, top], label="a curve")
        ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), borderaxespad=0)
        ax.set(xlabel="Depth", ylabel="Size")
    return fig


def equal_units_and_bars():
    fig = figure(height=4)
    grid = fig.subplots(2, 2)
    image = grid[0, 0].imshow(np.arange(12.0).reshape(3, 4) * 1e3)
    fig.colorbar(image, ax=grid[0, 0], label="Value", extend="both")
    fig.colorbar(image, ax=list(grid[1]), location="bottom", shrink=0.8, label="Layer")
    grid[0, 1].semilogy([1, 1e-9, 1e9], label="a")
    grid[1, 0].set(title="A title", ylabel="y")
    grid[1, 1].tick_params(left=False, labelleft=False, bottom=False)
    fig.legend(handles=grid[0, 1].lines, loc="outside lower left")
    fig.suptitle("Altogether")
    return fig


def offsets_and_moved_spines():
    fig = figure()
    left, right = fig.subplots(1, 2)
    left.plot([1e9, 1e9 + 1], [1e12, 1e12 + 3])
    left.set_title("Over an offset", loc="left")
    left.tick_params(axis="x", length=12, labelbottom=False)  # the label stands below the ticks
    left.set_xlabel("Below")
    right.spines["left"].set_position(("axes", -0.2))
    right.spines["bottom"].set_bounds(0.2, 0.4)
    right.tick_params(direction="inout", length=12)
    right.xaxis.set_ticks_position("top")
    right.xaxis.set_label_position("top")
    right.set(xlabel="Above", ylabel="Far", title="Higher")
    return fig


FIGURES = (legends_below, equal_units_and_bars, offsets_and_moved_spines)


def places(fig):
    return np.array([ax.get_position(original=True).extents for ax in fig.axes])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "narrow"),
    [
        (legends_below, False),
        (equal_units_and_bars, False),
        (equal_units_and_bars, True),
        (offsets_and_moved_spines, True),
    ],
)
def test_the_engine_leaves_a_solved_layout_in_its_place(draw, narrow):
    fig = draw()
    fig.set_dpi(160)
    if narrow:
        rearrange(fig)
    solve_layout(fig, 160)
    solved = places(fig)
    fig.get_layout_engine().execute(fig)
    assert np.abs(places(fig) - solved).max() < 5e-4  # half a pixel of a picture
    boxes = [ax.get_tightbbox(for_layout_only=True).transformed(fig.transFigure.inverted()) for ax in fig.axes]
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < 1 and box.y1 < 1 for box in boxes)


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "width"), list(zip(FIGURES, (7.2, 5.5, 7.2), strict=True)))  # other ticks at 5.5
def test_what_is_measured_once_is_what_matplotlib_measures(draw, width):
    fig = draw()
    fig.draw_without_rendering()
    fig.set_layout_engine(None)
    fig.set_size_inches(width, 4)
    with measured_once(fig):
        once = [ax.get_tightbbox(for_layout_only=True).extents for ax in fig.axes]
        again = [ax.get_tightbbox(for_layout_only=True).extents for ax in fig.axes]
    np.testing.assert_array_equal(again, once)
    np.testing.assert_allclose([ax.get_tightbbox(for_layout_only=True).extents for ax in fig.axes], once, atol=1e-6)


def test_methods_are_their_own_again_and_the_resolution_too():
    fig = legends_below()
    own = fig.dpi
    solve_layout(fig, 160)
    assert fig.dpi == own
    artists = [*fig.axes, *(part for ax in fig.axes for part in (ax.xaxis, ax.yaxis, *ax.spines.values()))]
    assert not any({"get_tightbbox", "get_window_extent"} & set(vars(artist)) for artist in artists)
