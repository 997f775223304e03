"""This module draws the steered outputs, what the laws cost, and the plants of the scene `11_steering.py`."""

import numpy as np

from ctrlattn.plots.style import GREY, figure, styles, themed
from stage.steering import DRAWN


@themed
def picture(results):
    """A direction under the laws that tell most, what every direction costs, and the plants."""
    fig = figure(width=15.5, height=4.6)
    panels = list(fig.subplots(1, 3).flat)
    _output(panels[0], results[0])
    _price(panels[1], results)
    _plant(panels[2], results)
    return fig


def _output(ax, result):
    """A direction over depth under the laws that tell most."""
    looks = styles(DRAWN)
    plant = result["plant"]
    for law in (law for law in DRAWN if law in result["laws"]):
        run = result["laws"][law]
        ax.plot(np.arange(len(run["output"])) + run["start"], run["output"], **looks[law])
    depths = np.arange(len(plant["output"])) + result["start"]
    ax.plot(depths, plant["output"], color="black", linewidth=1.0, label="unsteered (calibration text)")
    ax.plot(depths, plant["path"], color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label="path")
    ax.axhline(result["setpoint"], color=GREY, linewidth=0.8)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Depth (layers)", ylabel="Output f·x, mean over tokens (units of the stream)")
    ax.set_title(f"{result['direction']}; laws as on the right")
    ax.legend(loc="best")


def _price(ax, results):
    """What the tokens miss against what it costs, every direction."""
    looks = styles(DRAWN)
    for law in (law for law in DRAWN if any(law in result["laws"] for result in results)):
        runs = [result["laws"][law] for result in results if law in result["laws"]]
        ax.errorbar(
            [100 * run["miss"] for run in runs], [run["loss"] for run in runs], color=looks[law]["color"],
            marker=looks[law]["marker"], linestyle="none", yerr=[run["loss_error"] for run in runs], label=law,
        )  # fmt: skip
    ax.set_yscale("symlog", linthresh=0.1)
    ax.set_yticks([0, 0.02, 0.05, 0.1, 0.3, 1, 3])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(
        xlabel="Tokens miss at the end (rms, % of the way)", ylabel="Loss above the unsteered (nats per token, symlog)"
    )
    ax.set_title("Every direction; bars: standard error over windows")
    ax.legend(loc="best")


def _plant(ax, results):
    """How much of a small push survives each layer."""
    looks = styles([result["direction"] for result in results])
    for result in results:
        alpha = result["plant"]["alpha"]
        ax.plot(np.arange(len(alpha)) + result["start"], alpha, **looks[result["direction"]], label=result["direction"])
    ax.axhline(1, color=GREY, linewidth=1.0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Layer", ylabel="Share of a small push that survives the layer")
    ax.legend(loc="best")
