"""The picture of the scene `11_steering.py`."""

import numpy as np

from ctrlattn.plots.style import GREY, figure, styles, themed
from stage.steering import DRAWN


@themed
def picture(found):
    """A direction under the laws that tell most, what every direction costs, and the plants."""
    drawn = figure(width=15.5, height=4.6)
    panels = list(drawn.subplots(1, 3).flat)
    _output(panels[0], found[0])
    _price(panels[1], found)
    _plant(panels[2], found)
    return drawn


def _output(ax, one):
    """A direction over depth under the laws that tell most."""
    looks = styles(DRAWN)
    plant = one["plant"]
    for law in (law for law in DRAWN if law in one["laws"]):
        run = one["laws"][law]
        ax.plot(np.arange(len(run["output"])) + run["start"], run["output"], **looks[law])
    depths = np.arange(len(plant["output"])) + one["start"]
    ax.plot(depths, plant["output"], color="black", linewidth=1.0, label="unsteered (calibration text)")
    ax.plot(depths, plant["path"], color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label="path")
    ax.axhline(one["setpoint"], color=GREY, linewidth=0.8)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Depth (layers)", ylabel="Output f·x, mean over tokens (units of the stream)")
    ax.set_title(f"{one['direction']}; laws as on the right")
    ax.legend(loc="best")


def _price(ax, found):
    """What the tokens miss against what it costs, every direction."""
    looks = styles(DRAWN)
    for law in (law for law in DRAWN if any(law in one["laws"] for one in found)):
        runs = [one["laws"][law] for one in found if law in one["laws"]]
        ax.errorbar(
            [100 * run["miss"] for run in runs], [run["loss"] for run in runs], color=looks[law]["color"],
            marker=looks[law]["marker"], linestyle="none", yerr=[run["loss_error"] for run in runs], label=law,
        )  # fmt: skip
    ax.set_yscale("symlog", linthresh=0.1)
    ax.set_yticks([0, 0.02, 0.05, 0.1, 0.3, 1, 3])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(
        xlabel="Tokens miss at the end (rms, % of the way)", ylabel="Loss above the unsteered (nats a token, symlog)"
    )
    ax.set_title("Every direction; bars: standard error over windows")
    ax.legend(loc="best")


def _plant(ax, found):
    """How much of a small push survives each layer."""
    looks = styles([one["direction"] for one in found])
    for one in found:
        alpha = one["plant"]["alpha"]
        ax.plot(np.arange(len(alpha)) + one["start"], alpha, **looks[one["direction"]], label=one["direction"])
    ax.axhline(1, color=GREY, linewidth=1.0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Layer", ylabel="Share of a small push that survives the layer")
    ax.legend(loc="best")
