"""y_i = sum_j w_ij x_j,  w_ij ~ exp(-|x_i - x_j|^2 / 2 s^2 - |p_i - p_j|^2 / 2 s_p^2): attention is a bilateral filter.

Question: is attention a bilateral filter, as is claimed, and what do loops with that filter do to an image? The image
is a photograph that scikit-image ships; pixels are tokens, h = sqrt(2) s in either kernel.

How it is judged.
Plan: the equality is an identity; no plan was fixed for noise and loops. The parameters of every filter are chosen on
draws of noise that are not those of the test.
Control: the textbook's formula, pixel after pixel, and scikit-image are second ways; with tokens of unequal length
the equality has to fail. A Gaussian blur, chosen alike, stands beside each filter. Positive control: a brute-force
filter that misreads its table as scikit-image is said to do gives scikit-image's numbers.
Power: predictor and formula differ by 7e-16; where the identity does not hold, the difference is .36. The unit is a
draw of noise: over 20 draws the gain over the blur is known to ±.060 dB. There are two images, and no interval over
images.

What it shows. The predictor `BilateralFilter` is the textbook filter, and scikit-image's `denoise_bilateral` with a box
window, to the width of its bins. One-dimensional and causal it is softmax attention whose queries are its keys, if all
tokens are equally long; otherwise a bias by key is missing, and attention leans to the bright. Frozen, it has a real
spectrum, in [0, 1] without a window; a window makes it negative, and with it unstable a sharpening loop that would be
stable. As feedback, +1 smooths and -1 sharpens, and with frozen weights a proportional controller keeps either near
x_0.

What it does not show. With a spatial Gaussian the two differ, not by attention's fault: scikit-image (0.26) reads its
table of (win + 1)^2 distances with rows of win entries, so that the kernel's centre lies elsewhere; a brute-force
filter that misreads likewise agrees with it. The spectrum is that of frozen weights: where the filter looks again in
each layer, its Jacobian has an eigenvalue of 1.71 on a piece of the image, and a loop that is stable frozen need not
settle. At strong noise a Gaussian blur is within .1 dB, better on one image and worse on the other, and a box window
is worse than a blur in most cases. Images are continued by reflection in each comparison (scikit-image's
mode="symmetric"), so that every pixel counts.

    python simulations/06_bilateral.py [--full] --out DIR
"""

from stage.bilateral import EDGE, FILTERS, MISSING, measure, skimage
from stage.bilateral_picture import draw
from stage.running import command, save


def verdict(numbers):
    """The scene in words, from its numbers."""
    equal, row, loops = numbers["equal"], numbers["causal"], numbers["feedback"]
    lines = [f"predictor and textbook formula differ by {max(equal['textbook'].values()):.0e} at most"]
    bins = ", ".join(f"{g:.0e} at {bins} bins" for bins, g in equal["bins"].items())
    lines.append(f"predictor and scikit-image {numbers['scikit-image']} with a box window differ by {bins}")
    text = "spatial deviation {}: scikit-image {:.2g} off the predictor, {:.0e} off a kernel centred at {:.1f}, {:.1f}"
    for spatial, g in equal["gaussian"].items():
        lines.append(text.format(spatial, g["predictor"], g["misread"], *g["centre"]))
    text = "causal: tied attention is {:.0e} from the filter on equal norms, {:.2g} on others ({:+.2g} on average)"
    lines.append(f"{text}, {{:.0e}} with the bias by key".format(*row.values()))
    lines.append(f"PSNR over the best Gaussian blur in dB, {numbers['draws']} draws [95 % interval]:")
    for case, scores in numbers["denoising"].items():
        over = {name: scores[name]["over blur"] for name in FILTERS}
        words = [f"{name} {o['mean']:+.2f} [{o['low']:+.2f}, {o['high']:+.2f}]" for name, o in over.items()]
        lines.append(f"  {case}: {'; '.join(words)}")
    for name, s in numbers["spectrum"].items():
        lines.append(f"spectrum, {name}: [{s['low']:.2g}, {s['high']:.6f}], imaginary parts {s['imaginary']:.0e}")
    text = "{}: largest pole {:.3f} frozen, {:.3f} looking again, where the last step is {:.0e} and contrast x {:.2f}"
    for name, r in loops["loops"].items():
        lines.append(text.format(name, r["frozen"]["radius"], r["radius"], r["last step"], r["contrast"][-1]))
    text = "frozen sharpening held by {}, {}: alpha in [{:.2f}, {:.2f}], stable for ({:.2f}, {:.2f}), growth {:.3f}"
    for name, r in loops["edge"].items():
        lines.append(text.format(EDGE[2], name, *r["alpha"], *r["stable for"], r["growth"]))
    lines.append(f"largest eigenvalue of the filter's Jacobian {loops['jacobian']:.2f}, of its weights 1")
    text = "one sharpening layer leaves the gray values around by {bilateral:.2f}, without range kernel by {linear:.2f}"
    return [*lines, text.format(**loops["halo"])]


def main(out, seed=0, full=False):
    """Measure, draw, write bilateral.json and bilateral.png under `out`; returns the numbers."""
    numbers, images = measure(seed, full)
    numbers["verdict"] = verdict(numbers)
    return save(out, "bilateral", numbers, draw(numbers, images), dpi=80)


if __name__ == "__main__":
    command(
        main,
        __doc__,
        full="48 x 48 pixels instead of 24 x 24, 20 draws instead of 3; minutes",
        missing=MISSING if skimage is None else None,
    )
