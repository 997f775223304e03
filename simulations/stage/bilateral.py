"""y_i = sum_j w_ij x_j,  w_ij ~ exp(-|x_i - x_j|^2 / 2 s^2 - |p_i - p_j|^2 / 2 s_p^2): attention is a bilateral filter.

This module measures for the scene `06_bilateral.py` how far the package's filter is from the textbook's and from
scikit-image's, how much noise each of them removes, and where feedback loops with the filter end.
"""

from itertools import product

import control
import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from ctrlattn import PID, BilateralFilter, FixedAttention, Loop, SoftmaxAttention, linearize, mode, read, simulate
from ctrlattn.stability import attention_spectrum, stability_interval
from stage.statistics import interval

try:
    import skimage
    from skimage import data
    from skimage.restoration import denoise_bilateral
except ImportError:
    skimage = None

MISSING = "simulations/06_bilateral.py compares with scikit-image, which is not installed: pip install scikit-image"

SIGMA, SPATIAL, RADIUS = 0.1, 1.5, 4  # deviations of gray values and of pixels; of every window that is compared

FLAT = 1e8  # spatial deviation whose table is 1 to rounding: a box window

SELECTION, TEST = 0, 1  # second word of the random seed: draws that choose parameters never test

# What the selection draws choose from: range deviations in units of the noise, spatial deviations, those of the blur.
RANGES, SPATIALS = (1.5, 2.5, 4.0), (0.7, 1.0, 1.5, 2.5)

BLURS = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 2.5)

FILTERS = ("predictor", "scikit-image", "predictor, box", "scikit-image, box", "scikit-image, its best")

SHOWN, NOISES = ("noisy", "predictor", "scikit-image", "blur"), (0.05, 0.1, 0.2)

LOOPS = {  # skip, feedback, proportional gain on r - x
    "smoothing": (0.0, 1.0, 0.0),
    "smoothing, held": (0.0, 1.0, 0.5),
    "sharpening": (2.0, -1.0, 0.0),
    "sharpening, held": (2.0, -1.0, 1.5),
    "half sharpening, held": (1.5, -0.5, 0.8),
}

PIECE = slice(4, 20)  # rows and columns of an image of 24 x 24 whose Jacobian is taken: it is dense, and slow

EDGE = (2.0, -1.0, 1.1)  # alpha in [1, 2] lies inside the stable (0.1, 2.1), alpha with a window does not


def crop(row, column, size, block=1):
    """A square of the photograph, gray values in [0, 1], each the mean of block x block pixels."""
    side = size * block
    square = data.camera()[row : row + side, column : column + side] / 255.0
    return square.reshape(size, block, size, block).mean((1, 3))


def images(size):
    """Head and camera, every pixel a mean of 4 x 4; the face as photographed."""
    return {"head": crop(70, 180, size, 4), "face": crop(100, 220, size)}


def predictor(image, sigma=SIGMA, spatial=None, **options):
    """The package's filter for an image of this size, from standard deviations."""
    h = None if spatial is None else np.sqrt(2) * spatial
    return BilateralFilter(np.sqrt(2) * sigma, spatial_bandwidth=h, grid=image.shape, **options)


def tokens(image):
    """(height, width) -> (n, 1)."""
    return image.reshape(-1, 1)


def ours(image, sigma, spatial=None):
    """The predictor on the image continued by reflection; only the image is kept."""
    wide = np.pad(image, RADIUS, mode="symmetric")
    result = predictor(wide, sigma, spatial, radius=RADIUS)(tokens(wide))
    return result.reshape(wide.shape)[RADIUS:-RADIUS, RADIUS:-RADIUS]


def theirs(image, sigma, spatial=None, bins=10**6):
    """scikit-image on image + 1: below 0 its table of gray values is scaled otherwise than it is read."""
    options = {"sigma_color": sigma, "sigma_spatial": spatial or FLAT, "win_size": 2 * RADIUS + 1, "mode": "symmetric"}
    return denoise_bilateral(image + 1, bins=bins, **options) - 1


def table(spatial, misread=False):
    """Spatial weights of a window; misread: of a table with one more row and column, read with too short rows."""
    offsets, width = np.arange(-RADIUS - misread, RADIUS + 1), 2 * RADIUS + 1
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (spatial or FLAT) ** 2))
    return weights.ravel()[: width * width].reshape(width, width)


def textbook(image, weights, **border):
    """Tomasi and Manduchi's formula, pixel after pixel: the oracle."""
    wide, result = np.pad(image, RADIUS, **border), np.empty_like(image)
    for i, j in np.ndindex(image.shape):
        patch = wide[i : i + 2 * RADIUS + 1, j : j + 2 * RADIUS + 1]
        both = np.exp(-((patch - image[i, j]) ** 2) / (2 * SIGMA**2)) * weights
        result[i, j] = np.sum(both * patch) / np.sum(both)
    return result


def gap(a, b):
    return float(np.max(np.abs(a - b)))


def equalities(image):
    """Largest differences: predictor and textbook, predictor and scikit-image, and what explains the rest."""
    gaps = {"textbook": {}, "bins": {}, "gaussian": {}}
    for name, spatial in (("box", None), ("spatial Gaussian", SPATIAL)):
        alone = predictor(image, spatial=spatial, radius=RADIUS)(tokens(image)).reshape(image.shape)
        # A pixel a million away has weight 0: as if nothing lay beyond the border.
        gaps["textbook"][name] = gap(alone, textbook(image, table(spatial), constant_values=1e6))
    for bins in (10**k for k in range(3, 8)):
        gaps["bins"][str(bins)] = gap(ours(image, SIGMA), theirs(image, SIGMA, bins=bins))
    for spatial in (1.0, 1.5, 3.0):
        published, misread = theirs(image, SIGMA, spatial, bins=10**7), table(spatial, misread=True)
        gaps["gaussian"][str(spatial)] = {
            "predictor": gap(ours(image, SIGMA, spatial), published),
            "misread": gap(textbook(image, misread, mode="symmetric"), published),
            "centre": (np.sum((np.indices(misread.shape) - RADIUS) * misread, (1, 2)) / misread.sum()).tolist(),
        }
    return gaps


def causal(seed, sigma=0.25, noise=0.1, length=128):
    """One row of the photograph as a signal: the one-sided filter and attention with tied query and key."""
    clean = data.camera()[150, 180 : 180 + length, None] / 255.0
    row = clean + noise * np.random.default_rng((seed, TEST)).standard_normal(clean.shape)
    filtered = BilateralFilter(np.sqrt(2) * sigma, causal=True)
    attention = SoftmaxAttention(temperature=sigma**2)  # h^2 / 2
    circle = np.hstack([np.cos(row), np.sin(row)])  # equally long tokens
    query, keys = np.hstack([row, np.ones_like(row)]), np.hstack([row, -(row**2) / 2])
    past = [read(query[i], keys[: i + 1], row[: i + 1], temperature=sigma**2) for i in range(length)]
    numbers = {
        "equal norms": gap(filtered(circle), attention(circle)),
        "other norms": gap(filtered(row), attention(row)),
        "bias": float(np.mean(attention(row) - filtered(row))),
        "with the bias": gap(filtered(row), np.stack(past)),
    }
    return numbers, {
        "noisy": row,
        "photograph": clean,
        "causal filter": filtered(row),
        "tied attention": attention(row),
    }


def psnr(clean, image):
    """Peak signal-to-noise ratio in dB, the peak being 1."""
    return float(-10 * np.log10(np.mean((clean - image) ** 2)))


def denoising(clean, noise, seed, draws):
    """PSNR of each filter at parameters that other draws chose, and its difference to the blur, draw by draw."""

    def noisy(word, count):
        return [clean + noise * w for w in np.random.default_rng((seed, word)).standard_normal((count, *clean.shape))]

    def best(filtered, grid):
        return filtered, max(grid, key=lambda p: sum(psnr(clean, filtered(x, *p)) for x in selection))

    def blur(x, spatial):
        return gaussian_filter(x, spatial, mode="reflect")  # scipy's word for "symmetric"

    selection, test = noisy(SELECTION, max(draws // 5, 1)), noisy(TEST, draws)
    box = [(k * noise, None) for k in RANGES]
    kernel = [(k * noise, spatial) for k, spatial in product(RANGES, SPATIALS)]
    filters = {"noisy": (lambda x: x, ()), "blur": best(blur, [(s,) for s in BLURS])}
    filters |= {"predictor": best(ours, kernel), "predictor, box": best(ours, box)}
    filters |= {f"scikit-image{end}": (theirs, filters[f"predictor{end}"][1]) for end in ("", ", box")}
    filters["scikit-image, its best"] = best(theirs, kernel + box)
    scores = {name: [psnr(clean, f(x, *p)) for x in test] for name, (f, p) in filters.items()}
    over = {name: interval(np.subtract(s, scores["blur"])) for name, s in scores.items()}
    numbers = {n: {"parameters": list(filters[n][1]), **interval(s), "over blur": over[n]} for n, s in scores.items()}
    return numbers, {"noisy": test[0], **{name: filters[name][0](test[0], *filters[name][1]) for name in SHOWN[1:]}}


def symmetric(weights):
    """W = D^-1 K with K symmetric and K_ii = 1 is similar to D^1/2 W D^-1/2; returns it and sqrt(D)."""
    root = 1 / np.sqrt(np.diagonal(weights))
    return weights * root[:, None] / root, root


def spectra(image):
    """Eigenvalues of the frozen filter by two methods, without and with windows; a causal one has its diagonal."""
    kinds = {"no window": {}, "spatial Gaussian": {"spatial": SPATIAL}, "causal": {"causal": True}}
    kinds |= {f"box, radius {r}": {"radius": r} for r in (1, 2, 4)}
    kinds |= {f"Gaussian cut at {r}": {"spatial": SPATIAL, "radius": r} for r in (3, 4)}
    numbers, curves = {}, {}
    for name, options in kinds.items():
        weights = predictor(image, **options).weights(tokens(image))[0]
        a = attention_spectrum(weights)
        curves[name] = np.sort(a.real)[::-1]
        second = np.diagonal(weights) if name == "causal" else np.linalg.eigvalsh(symmetric(weights)[0])
        numbers[name] = {"low": a.real.min(), "high": a.real.max(), "imaginary": np.max(np.abs(a.imag))}
        numbers[name]["methods"] = gap(np.sort(second)[::-1], curves[name])
    return numbers, curves


def closed(filtered, skip, gain, kp):
    return Loop(filtered, skip=skip, feedback=gain, controller=PID(kp))


def frozen(image, gains, layers, **options):
    """The filter of the first layer kept: alpha, where it is stable, the growth, and how far modes are from `mode`."""
    weights = predictor(image, **options).weights(tokens(image))[0]
    loop = closed(FixedAttention(weights), *gains)
    state = simulate(loop, tokens(image), layers).state[..., 0]
    similar, root = symmetric(weights)
    a, vectors = np.linalg.eigh(similar)
    modes, deviation = (state * root) @ vectors, 0.0  # coordinates in the left eigenvectors, (layers + 1, n)
    for j in np.linspace(0, len(a) - 1, 5).astype(int):
        inputs = np.full(layers + 1, modes[0, j])
        expected = control.forced_response(mode(loop, a[j]), inputs=inputs, X0=modes[:1, j]).outputs
        deviation = max(deviation, gap(modes[:, j], expected) / np.max(np.abs(modes)))
    steps = np.linalg.norm(np.diff(state, axis=0), axis=1)
    alpha = loop.skip + loop.feedback * a
    numbers = {"alpha": [alpha.min(), alpha.max()], "stable for": list(stability_interval(PID(gains[2])))}
    return numbers | {"radius": np.max(np.abs(alpha - gains[2])), "growth": steps[-1] / steps[-2], "modes": deviation}


def jacobian(x, image):
    """Eigenvalues of dy/dx of the filter that looks at x, not of its weights alone."""
    return np.linalg.eigvals(linearize(Loop(predictor(image, spatial=SPATIAL), skip=0.0, feedback=1.0), x).A)


def halo(image, sigma):
    """How far one sharpening layer leaves the gray values of the 9 x 9 pixels around."""
    loop = closed(predictor(image, sigma, SPATIAL), *LOOPS["sharpening"])
    sharp = simulate(loop, tokens(image), 1).state[-1].reshape(image.shape)
    return float(np.max([sharp - maximum_filter(image, 9), minimum_filter(image, 9) - sharp]))


def feedback(image, layers=40):
    """The loops with the filter looking again in each layer, their frozen modes, and the poles where they end."""
    loops, images_after, small = {}, {}, images(24)["head"][PIECE, PIECE]
    for name, gains in LOOPS.items():
        state = simulate(closed(predictor(image, spatial=SPATIAL), *gains), tokens(image), layers).state
        part = simulate(closed(predictor(small, spatial=SPATIAL), *gains), tokens(small), layers).state
        poles = gains[0] + gains[1] * jacobian(part[-1], small) - gains[2]
        images_after[name] = state[-1].reshape(image.shape)
        loops[name] = {"frozen": frozen(image, gains, layers, spatial=SPATIAL), "last step": gap(part[-1], part[-2])}
        loops[name] |= {"radius": np.max(np.abs(poles)), "contrast": (state.std((1, 2)) / image.std()).tolist()}
    numbers = {"loops": loops, "halo": {"bilateral": halo(image, SIGMA), "linear": halo(image, 1e4)}}
    numbers["edge"] = {"no window": frozen(image, EDGE, 100, spatial=SPATIAL)}
    numbers["edge"]["box, radius 2"] = frozen(image, EDGE, 100, radius=2)
    return numbers | {"jacobian": np.max(jacobian(tokens(small), small).real)}, images_after


def measure(seed, full):
    """Every number of this scene, and what is drawn beside them."""
    size, draws = (48, 20) if full else (24, 3)
    pictures = images(size)
    head, cases = pictures["head"], product(pictures.items(), NOISES)
    denoised = {f"{name}, {noise}": denoising(x, noise, seed, draws) for (name, x), noise in cases}
    parts = {"causal": causal(seed), "spectrum": spectra(images(min(size, 32))["head"]), "feedback": feedback(head)}
    numbers = {"scikit-image": skimage.__version__, "seed": seed, "draws": draws, "equal": equalities(head)}
    numbers |= {"denoising": {name: n for name, (n, _) in denoised.items()}}
    images_shown = {"photograph": head, "denoising": denoised["head, 0.1"][1]}
    return numbers | {k: n for k, (n, _) in parts.items()}, images_shown | {k: s for k, (_, s) in parts.items()}
