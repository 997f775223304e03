"""This module draws the loss over the number of sublayers taken out in the scene `03_drop.py`."""

from ctrlattn.plots.dropping import dropping
from ctrlattn.plots.style import figure
from stage.drop import curves_of


def draw(numbers):
    """The curves on both kinds of text."""
    canvas = figure(11, 4.6)
    news_axes, plays_axes = canvas.subplots(1, 2)
    top = 1.5 if numbers["settings"]["source"] != "random" else None
    dropping(curves_of(numbers, "test"), ax=news_axes, title="news, the kind the gains were fitted to", top=top)
    dropping(curves_of(numbers, "plays"), ax=plays_axes, title="plays", top=top)
    plays_axes.get_legend().remove()
    return canvas
