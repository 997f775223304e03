"""This module draws the loss over the number of sublayers taken out in the scene `03_drop.py`."""

from ctrlattn.plots.dropping import dropping
from ctrlattn.plots.style import figure
from stage.drop import curves_of


def draw(numbers):
    """The curves on both kinds of text."""
    shown = figure(11, 4.6)
    left, right = shown.subplots(1, 2)
    top = 1.5 if numbers["settings"]["source"] != "random" else None
    dropping(curves_of(numbers, "test"), ax=left, title="news, the kind the gains were fitted to", top=top)
    dropping(curves_of(numbers, "plays"), ax=right, title="plays", top=top)
    right.get_legend().remove()
    return shown
