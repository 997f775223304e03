"""This module draws the accuracy of trained loops over passes for the scene of trained loops."""

from ctrlattn.plots.trained_loops import over_passes


def draw(result):
    """Accuracy at three sizes and the residual, against passes."""
    return over_passes(result)
