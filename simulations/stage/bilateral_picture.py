"""This module draws the filtered photographs, the spectra and the ends of the loops of the scene `06_bilateral.py`."""

import numpy as np

from ctrlattn.plots.style import figure, styles, themed
from stage.bilateral import FILTERS, RADIUS, SPATIAL, table


def curves(axes, lines, **labels):
    """Lines told apart by colour and dash."""
    for name, look in styles(list(lines)).items():
        axes.plot(lines[name], label=name, **{**look, "marker": None})
    axes.set(**labels)
    axes.legend()


@themed
def draw(numbers, images):
    """Pictures and the kernel; the causal row, PSNR, spectra; where the loops end, and how they get there."""
    canvas, cases = figure(19, 11), numbers["denoising"]
    axes = canvas.subplot_mosaic("ABCDEF;GGHHII;JKLMNO", height_ratios=(1, 1.25, 1))
    pictures = {"photograph": images["photograph"]}
    pictures |= {f"{n}, {cases['head, 0.1'][n]['mean']:.1f} dB": x for n, x in images["denoising"].items()}
    pictures |= {f"{name}, layer 40": x for name, x in images["feedback"].items()}
    for place, (name, image) in zip("ABCDEJKLMN", pictures.items(), strict=True):
        axes[place].imshow(image, cmap="gray", vmin=0, vmax=1)
        axes[place].set(title=name, xlabel="pixel", ylabel="pixel")
    at = np.arange(-RADIUS, RADIUS + 1)
    axes["F"].pcolormesh(at, at, table(SPATIAL, misread=True), cmap="Greys")
    axes["F"].contour(at, at, table(SPATIAL), (0.1, 0.5, 0.9), colors="C0")
    axes["F"].set(title="kernel read (grey), meant", xlabel="offset (pixel)", ylabel="offset (pixel)", aspect="equal")
    axes["F"].invert_yaxis()
    for place in "ABCDEFJKLMN":
        axes[place].grid(False)
    labels = {"xlabel": "pixel of one row", "ylabel": "gray value"}
    curves(axes["G"], images["causal"], title="one-sided, one-dimensional, norms unequal", **labels)
    looks = styles(FILTERS)
    for k, name in enumerate(FILTERS):
        over = [[case[name]["over blur"][key] for key in ("mean", "low", "high")] for case in cases.values()]
        middle, low, high = np.transpose(over)
        look = looks[name] | {"linestyle": "none", "capsize": 3, "label": name}
        axes["H"].errorbar(np.arange(len(over)) + 0.14 * (k - 2), middle, (middle - low, high - middle), **look)
    axes["H"].set_xticks(range(len(cases)), cases)
    title = f"denoising, mean of {numbers['draws']} draws (95 %)"
    axes["H"].set(title=title, xlabel="picture, noise deviation", ylabel="PSNR over the best Gaussian blur (dB)")
    axes["H"].legend()
    lines = {n: a for n, a in images["spectrum"].items() if "cut" not in n and n != "no window"}
    curves(axes["I"], lines, title="spectrum of the frozen filter", xlabel="mode", ylabel="eigenvalue a")
    for place in "HI":
        axes[place].axhline(0, color="black", linewidth=1)
    lines = {name: r["contrast"] for name, r in numbers["feedback"]["loops"].items()}
    curves(axes["O"], lines, title="loops", xlabel="layer", ylabel="contrast / contrast at layer 0")
    return canvas
