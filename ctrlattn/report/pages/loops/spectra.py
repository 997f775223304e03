"""Section: alpha = skip + feedback a, eigenvalues a of recorded attention over each controller's stability region."""

import numpy as np

from ctrlattn import plots
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.average_mode import interval_text
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import listed, number, percent
from ctrlattn.stability.modes.regions import mode_radius, unstable_share

CAVEAT = (
    "The value chain is that of the printed law: attention is frozen, and between layers there is neither a "
    "residual stream nor a re-projection. "
    "A mode is LTI only if the same matrix acts in every layer; in a real network the verdict is a local one."
)


def sections(material: Material) -> list[Section]:
    """The section on where real modes lie, and on the share that each controller leaves unstable."""
    title = "Are the modes of real attention stable under each controller?"
    if not material.linear:
        return [Section("spectra", title, ("None of the loops compared is linear and time-invariant.",))]
    shares = {
        name: {network: float(unstable_share(loop, modes)) for network, modes in material.spectra.items()}
        for name, loop in material.linear.items()
    }
    regions = {name: _region(loop) for name, loop in material.linear.items()}
    picture = Picture(
        "spectra",
        "Eigenvalues of the recorded attention matrices over the stability region of each controller",
        plots.spectrum_over_regions(material.spectra, regions, shares=shares),
    )
    return [
        Section(
            key="spectra",
            title=title,
            sentences=(_where(material), *_shares(shares), _intervals(material.linear)),
            pictures=(picture,),
            caveat=CAVEAT,
            numbers={"unstable_share": shares, "average_mode": material.average_mode},
            variables={
                f"attention_eigenvalues_{i}": ((f"mode_{i}",), modes, {"long_name": f"attention eigenvalues of {name}"})
                for i, (name, modes) in enumerate(material.spectra.items())
            },
        )
    ]


def _region(loop: Loop) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    re, im = np.linspace(-1.5, 2.2, 149), np.linspace(-1.4, 1.4, 113)
    grid = re[None, :] + 1j * im[:, None]
    return re, im, mode_radius(loop, grid)


def _where(material: Material) -> str:
    parts = []
    for name, modes in material.spectra.items():
        kind = (
            "real, the diagonals of causal matrices"
            if np.all(modes.imag == 0)
            else (f"{percent(float(np.mean(np.abs(modes.imag) > 1e-9)))} of them complex")
        )
        parts.append(
            f"{name} has {len(modes)} modes ({kind}; median real part {number(float(np.median(modes.real)), 3)})"
        )
    return f"Attention acts on the tokens through its eigenvalues. {'; '.join(parts)}."


def _shares(shares: dict[str, dict[str, float]]) -> tuple[str, ...]:
    networks = list(next(iter(shares.values())))
    return tuple(
        f"In {network} the share of modes left unstable is "
        + listed([f"{percent(by_network[network])} by {name}" for name, by_network in shares.items()])
        + "."
        for network in networks
    )


def _intervals(loops: dict[str, Loop]) -> str:
    return (
        "A mode with a real eigenvalue a is stable for a in "
        + listed([f"{interval_text(loop)} ({name})" for name, loop in loops.items()])
        + "."
    )
