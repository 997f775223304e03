"""This module draws what tokens miss against what it costs, over features, for the scene `19_steering_features.py`."""

from ctrlattn.plots.style import figure, styles, themed
from stage.steering_features import LAWS


@themed
def picture(networks):
    """A panel for each network: a law is its mean over features, with the intervals of both figures."""
    fig = figure(width=6.2 * len(networks), height=4.8)
    looks = styles(LAWS)
    for ax, (name, network) in zip(fig.subplots(1, len(networks), squeeze=False).flat, networks.items(), strict=True):
        for law, row in network["laws"].items():
            miss, loss = row["miss"], row["loss"]
            ax.errorbar(
                100 * miss["mean"], loss["mean"], color=looks[law]["color"], marker=looks[law]["marker"],
                xerr=50 * (miss["high"] - miss["low"]), yerr=(loss["high"] - loss["low"]) / 2, linestyle="none",
                label=law,
            )  # fmt: skip
        ax.set(
            xlabel="Tokens miss at the end (rms, % of the way)", ylabel="Loss above the unsteered (nats per token)",
            title=f"{name}: {len(network['features'])} features; bars: 95 % over features",
        )  # fmt: skip
        ax.legend(loc="best")
    return fig
