"""Section: finite-time Lyapunov exponents of each linear loop over the recorded attention matrices of a network."""

import math

import numpy as np

from ctrlattn import plots
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, listed, number
from ctrlattn.stability import layer_map, lyapunov_exponents

_GROWS = 1e-6  # nats/layer; softmax keeps its mean, at 0 up to rounding
LARGEST = 12  # exponents per loop: softmax has one neutral direction per head, and some decaying ones should be seen
CAVEAT = (
    "The loop is time-varying: layer l attends as recorded in layer l. Values are neither re-projected nor normalised. "
    "The exponents are means over the layers of the network, not limits. A controller's memories are part of the state."
)


def sections(material: Material) -> list[Section]:
    """Show finite-time Lyapunov exponents of each linear loop, driven by the matrices of the first text."""
    if not material.linear:
        return [Section("exponents", "No exponents: none of the loops is linear", ("None of the loops is linear.",))]
    running = {name: exponents(loop, material) for name, loop in material.linear.items()}
    picture = Picture(
        "exponents",
        "Largest Lyapunov exponent of each loop as it converges over the layers, and the spectrum at the end",
        plots.lyapunov_spectra(running, title=f"Driven by the attention of {material.network}"),
        "Mean growth of a disturbance, as its logarithm for each layer (nats/layer): above 0 it grows. Left: the "
        "largest exponent as layers are added. Right: the largest ones at the end; bars span the second half.",
    )
    return [Section(
        key="exponents",
        title=_title(running),
        sentences=_sentences(material, running),
        pictures=(picture,),
        caveat=CAVEAT,
        tables=(_table(material, running),),
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
    """Return the running estimate of the largest exponents, (layers, k).

    A linear loop acts alike on all features of a head, so that one feature per head is enough. Its exponents do not
    depend on the trajectory, which starts at 0 here.
    """
    text = material.texts[0]
    zeros = np.zeros((text.sizes["query"], text.sizes["head"]))
    steps, starts = zip(*(layer_map(layer, zeros) for layer in material.driven(loop, text)), strict=True)
    k = min(LARGEST, starts[0].size)
    estimates: np.ndarray = lyapunov_exponents(list(steps), starts[0], len(steps), k=k, history=True)[1]
    return estimates


def _title(running: dict[str, np.ndarray]) -> str:
    growing = [name for name, estimates in running.items() if float(estimates[-1, 0]) > _GROWS]
    if not growing:
        return "Layer after layer, no law lets a disturbance grow for good"
    if len(growing) == len(running):
        return "Layer after layer, every law lets a disturbance grow"
    return f"Layer after layer, a disturbance grows under {listed(growing)} alone"


def _sentences(material: Material, running: dict[str, np.ndarray]) -> tuple[str, ...]:
    half = [estimates[len(estimates) // 2 :, 0] for estimates in running.values()]
    spread = max((float(np.ptp(estimate)) for estimate in half if np.all(np.isfinite(estimate))), default=math.nan)
    sentences = (
        "A network whose layers differ has no poles, but it has exponents: the mean growth per layer, in each "
        f"direction, over the {count(material.layers, 'recorded layer')} of the first text.",
    )
    if math.isnan(spread):
        return sentences
    return (*sentences, f"Over the second half of the layers it moves by at most {number(spread, 3)} nats per layer.")


def _table(material: Material, running: dict[str, np.ndarray]) -> Table:
    rows = tuple(
        (name, number(top, 3), number(math.exp(top)), number(math.exp(min(top * material.layers, 700.0))))
        for name, top in ((name, float(estimates[-1, 0])) for name, estimates in running.items())
    )
    factor_title = f"factor of {count(material.layers, 'layer')}"
    header = ("law", "largest exponent (nats/layer)", "factor of a layer", factor_title)
    return Table(header, rows, "The direction that grows most, in the geometric mean over the layers")
