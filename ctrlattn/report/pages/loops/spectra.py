"""Section: alpha = skip + feedback a, eigenvalues a of recorded attention over each controller's stability region."""

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.loops.average_mode import interval_text
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, number, percent
from ctrlattn.stability.modes.regions import mode_radius, unstable_share

CAVEAT = (
    "The value chain is that of the printed law: attention is frozen, and between layers there is neither a "
    "residual stream nor a re-projection. "
    "A mode is LTI only if the same matrix acts in every layer; in a real network the verdict is a local one."
)


def sections(material: Material) -> list[Section]:
    """Return the section on where real modes lie, and on the share that each controller leaves unstable."""
    if not material.linear:
        return [
            Section("spectra", "None of the loops compared has modes: none is linear", (_spectrum_sentence(material),))
        ]
    shares = {
        name: {network: float(unstable_share(loop, modes)) for network, modes in material.spectra.items()}
        for name, loop in material.linear.items()
    }
    picture = Picture(
        "spectra",
        "Eigenvalues of the recorded attention matrices, and where each law is stable",
        plots.spectra_by_network(material.spectra, material.linear, shares),
        "Eigenvalues a of every recorded attention matrix; shaded: where the law is stable. Real spectra are counted "
        "along a, and a bar for each law spans its stable interval. Complex ones lie in the plane, once for each law; "
        "dashed is the unit circle. The percentages are shares of the modes of that network.",
    )
    return [
        Section(
            key="spectra",
            title=_title(shares),
            sentences=(_spectrum_sentence(material),),
            pictures=(picture,),
            caveat=CAVEAT,
            tables=(_table(material, shares),),
            numbers={"unstable_share": shares, "average_mode": material.average_mode},
            variables={
                f"attention_eigenvalues_{i}": ((f"mode_{i}",), modes, {"long_name": f"attention eigenvalues of {name}"})
                for i, (name, modes) in enumerate(material.spectra.items())
            },
        )
    ]


def _title(shares: dict[str, dict[str, float]]) -> str:
    stable = sum(not any(by_network.values()) for by_network in shares.values())
    if stable == len(shares):
        return f"{'The one law leaves' if stable == 1 else f'All {stable} laws leave'} no recorded mode unstable"
    if stable == 0:
        return "No law is stable on every recorded mode"
    return f"{stable} of {count(len(shares), 'law')} {'leaves' if stable == 1 else 'leave'} no recorded mode unstable"


def _spectrum_sentence(material: Material) -> str:
    parts = []
    for name, modes in material.spectra.items():
        kind = (
            "real, the diagonals of causal matrices"
            if np.all(modes.imag == 0)
            else (f"{percent(float(np.mean(np.abs(modes.imag) > 1e-9)))} of them complex")
        )
        middle = number(float(np.median(modes.real)), 3)
        parts.append(f"{name} has {count(len(modes), 'mode')} ({kind}; median real part {middle})")
    return f"Attention acts on the tokens through its eigenvalues a, one for each mode. {'; '.join(parts)}."


def _table(material: Material, shares: dict[str, dict[str, float]]) -> Table:
    header = (
        "law",
        "stable for real a in",
        *(f"unstable modes of {network}" for network in material.spectra),
        *(f"largest pole, {network}" for network in material.spectra),
    )
    rows = tuple(
        (
            name,
            interval_text(loop),
            *(percent(share) for share in shares[name].values()),
            *(number(float(mode_radius(loop, modes).max())) for modes in material.spectra.values()),
        )
        for name, loop in material.linear.items()
    )
    return Table(header, rows, "Stable intervals, and the modes outside them")
