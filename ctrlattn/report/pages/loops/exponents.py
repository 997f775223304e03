"""Section: finite-time Lyapunov exponents of each linear loop over the recorded attention matrices of a network."""

import math

import numpy as np

from ctrlattn import plots
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import listed, number
from ctrlattn.stability import layer_map, lyapunov_exponents

LARGEST = 12  # exponents per loop: softmax has one neutral direction per head, and some decaying ones should be seen
CAVEAT = (
    "The loop is time-varying: layer l attends as recorded in layer l. Values are neither re-projected nor normalised. "
    "The exponents are means over the layers of the network, not limits. A controller's memories are part of the state."
)


def sections(material: Material) -> list[Section]:
    """Finite-time Lyapunov exponents of each linear loop, driven by the matrices of the first text."""
    title = "Layers that differ: what grows, and what is forgotten?"
    if not material.linear:
        return [Section("exponents", title, ("None of the loops compared is linear.",))]
    running = {name: exponents(loop, material) for name, loop in material.linear.items()}
    picture = Picture(
        "exponents",
        "Largest Lyapunov exponent of each loop as it converges over the layers, and the spectrum at the end",
        plots.lyapunov_spectra(running, title=f"Driven by the attention of {material.network}"),
    )
    return [Section(
        key="exponents",
        title=title,
        sentences=_sentences(material, running),
        pictures=(picture,),
        caveat=CAVEAT,
        numbers={name: estimates[-1] for name, estimates in running.items()},
        variables={
            f"exponents_{i}": (
                ("layer", f"exponent_{i}"),
                estimates,
                {"units": "nats/layer", "long_name": f"running exponents, {name}"},
            )
            for i, (name, estimates) in enumerate(running.items())
        },
    )]  # fmt: skip


def exponents(loop: Loop, material: Material) -> np.ndarray:
    """Running estimate of the largest exponents, (layers, k).

    A linear loop acts alike on all features of a head, so that one feature per head is enough. Its exponents do not
    depend on the trajectory, which starts at 0 here.
    """
    text = material.texts[0]
    rest = np.zeros((text.sizes["query"], text.sizes["head"]))
    steps, starts = zip(*(layer_map(layer, rest) for layer in material.driven(loop, text)), strict=True)
    k = min(LARGEST, starts[0].size)
    estimates: np.ndarray = lyapunov_exponents(list(steps), starts[0], len(steps), k=k, history=True)[1]
    return estimates


def _sentences(material: Material, running: dict[str, np.ndarray]) -> tuple[str, ...]:
    top = {name: float(estimates[-1, 0]) for name, estimates in running.items()}
    factors = listed([f"{number(math.exp(value))} ({name})" for name, value in top.items()])
    growing = {name: value * material.layers for name, value in top.items() if value > 1e-6}
    half = [estimates[len(estimates) // 2 :, 0] for estimates in running.values()]
    moved = max(float(np.ptp(estimate)) for estimate in half if np.all(np.isfinite(estimate)))
    return (
        "A network whose layers differ has no poles, but it has exponents. Driven by the recorded matrices of the "
        "first text, one after another, the direction that grows most changes each layer by a factor of "
        f"{factors}, in the geometric mean over {material.layers} layers.",
        (
            "A disturbance along it at the first layer is larger at the last, "
            + listed([f"{number(math.exp(min(value, 700.0)))} times ({name})" for name, value in growing.items()])
            + ", where every layer has its own matrix and none is frozen. "
            if growing
            else "None of the loops lets a disturbance grow for good. "
        )
        + f"Over the second half of the layers the largest estimate moves by at most {number(moved, 3)} nats per "
        "layer.",
    )
