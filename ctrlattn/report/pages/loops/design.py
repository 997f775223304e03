"""Section: all gains (kp, ki) that leave every real mode stable, and gains by specification with the published ones."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctrlattn import plots, presets
from ctrlattn.controllers import PID
from ctrlattn.design import InfeasibleError, Performance, Spec, performance, tune
from ctrlattn.linear import loop_transfer
from ctrlattn.linear.mode_polynomial import mode_polynomial, open_loop_pole, outermost_modes, reflection, upper_half
from ctrlattn.loop import Loop
from ctrlattn.plots.robustness import refine_slices
from ctrlattn.report.pages.loops.factors import stable_factors
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import layers_until, listed, number, percent
from ctrlattn.stability import disk_margin, gain_region
from ctrlattn.stability.modes.intervals import Interval

FIRST = np.linspace(-0.6, 2.2, 57)
SECOND = (0.0, 3.0)
LAWS = {"printed law": "pidformer-printed", "ema law": "pidformer-ema"}
MARGIN, DRAWS, MODES, HORIZON = 0.4, 200, 24, 1000
CAVEAT = (
    "The value chain is the published one: attention is frozen, and there is no residual stream, re-projection or "
    "norm. The regions are computed for the outermost modes and for quantiles between them. Gains drawn from them are "
    "then tested on all modes."
)


def sections(material: Material) -> list[Section]:
    """Show stability regions of two gains, disk margins, and gains by specification."""
    spectrum = material.spectra[material.network]
    few = upper_half(outermost_modes(spectrum, MODES, MODES // 2))
    loops = {law: presets.get(name) for law, name in LAWS.items()}
    regions = {law: gain_region(loop, ("kp", "ki"), few, FIRST) for law, loop in loops.items()}
    confirmed = {law: _share_of_draws(loops[law], regions[law], spectrum) for law in loops}
    settling = float(max(material.layers, 20))
    designs = {law: _design_or_reason(loop, few, spectrum, settling) for law, loop in loops.items()}
    published = {name: performance(presets.get(name), spectrum) for name in presets.PUBLISHED}
    disks = {
        name: disk_margin(loop_transfer(loop, material.average_mode)) for name, loop in material.controlled.items()
    }
    return [
        Section(
            key="design",
            title=_title(material, designs, published),
            sentences=(
                _region_sentence(material, regions, confirmed, published),
                *_design_sentences(material, settling, designs),
                *_disk_sentence(material, disks),
            ),
            pictures=_pictures(
                material,
                regions,
                lambda law, first: gain_region(loops[law], ("kp", "ki"), few, first),
                designs,
                published,
                disks,
            ),
            caveat=CAVEAT,
            tables=(_table(designs, published),),
            numbers={
                "region_area": {law: _area(region) for law, region in regions.items()},
                "gains_confirmed_on_all_modes": confirmed,
                "designed": {law: _numbers(result) for law, result in designs.items()},
                "stable_factors": _factors(material),
                "published": {name: _summary(result) for name, result in published.items()},
                "disk_margin_average_mode": {name: disk.margin for name, disk in disks.items()},
            },
        )
    ]


def _factors(material: Material) -> dict[str, dict[str, Interval | None]]:
    """Return, for each law and network, the common factors of its gains with which all modes are stable."""
    return {
        name: {network: stable_factors(loop, modes) for network, modes in material.spectra.items()}
        for name, loop in material.controlled.items()
    }


def _share_of_draws(loop: Loop, region: Sequence[Sequence[Interval]], spectrum: np.ndarray) -> float:
    """Draw gains from the region; return the share that leaves every mode stable, not only those of the region."""
    rng = np.random.default_rng(0)
    slices = [i for i, intervals in enumerate(region) if _clip(intervals)]
    if not slices:
        return float("nan")
    good, alpha = 0, open_loop_pole(loop, np.unique(spectrum))
    for _ in range(DRAWS):
        i = int(rng.choice(slices))
        intervals = _clip(region[i])
        low, high = intervals[int(rng.integers(len(intervals)))]
        law = _with_gains(loop, float(FIRST[i]), float(rng.uniform(low, high)))
        good += bool(np.max(reflection(mode_polynomial(*law.fraction(), alpha))) < 1)
    return good / DRAWS


def _with_gains(loop: Loop, kp: float, ki: float) -> PID:
    pid = loop.controller
    assert isinstance(pid, PID)
    return PID(kp, ki, pid.kd, form=pid.form, ema=pid.ema)


def _clip(intervals: Sequence[Interval]) -> list[Interval]:
    """Return the parts of the intervals that lie in the frame of the picture."""
    clipped = [(max(low, SECOND[0]), min(high, SECOND[1])) for low, high in intervals]
    return [(low, high) for low, high in clipped if low < high]


def _area(region: Sequence[Sequence[Interval]]) -> float:
    """Return the area of a region inside the frame of the picture."""
    widths = [sum(high - low for low, high in _clip(intervals)) for intervals in region]
    return float(np.sum(widths) * (FIRST[1] - FIRST[0]))


def _design_or_reason(loop: Loop, few: np.ndarray, spectrum: np.ndarray, settling: float) -> Any:
    """Return (Design, Performance on all modes), or the reason in words why there is no design."""
    pid = loop.controller
    assert isinstance(pid, PID)
    # The integral of the ema law leaks and always leaves an error, so that the specification has no limit for it.
    error = 0.05 if pid.form == "printed" else None
    spec = Spec(modulus_margin=MARGIN, settling=settling, steady_state_error=error)
    try:
        both = np.unique(np.concatenate([few, np.conj(few)]))
        design = tune(loop, both, spec, form=pid.form, ema=pid.ema)
    except InfeasibleError as error:
        return error.why
    return design, performance(design.loop, spectrum, horizon=HORIZON)


def _numbers(design: Any) -> dict[str, Any]:
    if isinstance(design, str):
        return {"not_met": design}
    c = design[0].controller
    return {"kp": c.kp, "ki": c.ki, "kd": c.kd, **_summary(design[1])}


def _summary(figures: Performance) -> dict[str, float]:
    return {"stable_share": figures.stable_share, **figures.worst()}


def _title(material: Material, designs: dict[str, Any], published: dict[str, Performance]) -> str:
    """Say whether gains leave every mode of the main network stable, and whether the published ones are among them."""
    stable = [law for law, result in designs.items() if not isinstance(result, str) and result[1].stable_share == 1]
    bad = [law for law in stable if published[LAWS[law]].stable_share < 1]
    if bad:
        law_words = listed([f"those of {LAWS[law]}" for law in bad])
        return (
            f"The {listed(bad)} could be stable on every mode of {material.network}, with other gains than {law_words}"
        )
    if stable:
        return f"The {listed(stable)} can be stable on every mode of {material.network} and meet a specification"
    return f"No gains were found that meet the specification on every mode of {material.network}"


def _region_sentence(
    material: Material,
    regions: dict[str, Any],
    confirmed: dict[str, float],
    published: dict[str, Performance],
) -> str:
    areas = listed([f"{number(_area(region))} ({law})" for law, region in regions.items()])
    shares = listed([f"{percent(confirmed[law])} ({law})" for law in regions if not np.isnan(confirmed[law])])
    stable = [name for name, figures in published.items() if figures.stable_share == 1]
    return (
        "Exact slices through the plane of kp and ki, with the published kd, show where the outermost modes of "
        f"{material.network} are stable: on an area of {areas}, where the frame has "
        f"{number(np.ptp(FIRST) * np.ptp(SECOND), 1)}. "
        + (f"Of {DRAWS} gains drawn from each, {shares} leave every mode stable. " if shares else "")
        + f"Of the published configurations {listed(stable or ['none'])} {'do' if len(stable) > 1 else 'does'}."
    )


def _design_sentences(material: Material, settling: float, designs: dict[str, Any]) -> tuple[str, ...]:
    demands = (
        f"a modulus margin of {MARGIN} and settling within {number(settling, 0)} layers on every mode (and, of the "
        "printed law, an error of at most 5 %)"
    )
    laws = [law for law, design in designs.items() if not isinstance(design, str)]
    sentences = (
        [f"Asked for {demands}, the {listed(laws)} takes the gains in the last rows of the table."]
        if len(laws) == 1
        else []
    )
    sentences += (
        [f"Asked for {demands}, both laws take the gains in the last rows of the table."] if len(laws) > 1 else []
    )
    return (
        *sentences,
        *(
            f"No gains of the {law} were found for {demands}; not met: {design}."
            for law, design in designs.items()
            if isinstance(design, str)
        ),
    )


def _disk_sentence(material: Material, disks: dict[str, Any]) -> tuple[str, ...]:
    stable = {name: disk for name, disk in disks.items() if disk.margin > 0}
    if not stable:
        return ()
    parts = [
        f"{number(disk.gain_low)} to {number(disk.gain_high)} and ±{number(disk.phase, 0)}° ({name})"
        for name, disk in stable.items()
    ]
    return (
        f"At the average mode, a = {number(material.average_mode, 3)}, the loop survives gain and phase changing at "
        f"once by {listed(parts)}.",
    )


def _pictures(
    material: Material,
    regions: dict[str, Any],
    slices_of: Callable[[str, np.ndarray], list[list[Interval]]],
    designs: dict[str, Any],
    published: dict[str, Performance],
    disks: dict[str, Any],
) -> tuple[Picture, ...]:
    gains = presets.get(LAWS["printed law"]).controller
    assert isinstance(gains, PID)
    marks = {"published": (gains.kp, gains.ki)}
    first, fine = refine_slices(FIRST, regions, slices_of)
    plane = plots.gain_regions(first, fine, labels=("kp", "ki"), second=SECOND, marks=marks)
    pictures = [
        Picture(
            "gain-regions",
            "Gains kp and ki for which the outermost real modes are stable",
            plane,
            f"Shaded: gains kp and ki with which every mode of {material.network} is stable, kd as published. "
            "Exact along each of the vertical cuts.",
        )
    ]
    curves = {law: result[0].trade_off.values for law, result in designs.items() if not isinstance(result, str)}
    if curves:
        points = {
            name: (float(result.worst()["settling"]), float(result.worst()["modulus_margin"]))
            for name, result in published.items()
            if result.stable_share == 1 and np.isfinite(result.worst()["settling"])
        }
        traded = plots.trade_off(curves, marks=points, title=f"What settling costs, worst mode of {material.network}")
        pictures.append(
            Picture(
                "trade-off",
                "Modulus margin against settling time",
                plots.figure_of(traded),
                "The largest modulus margin, the distance of the gain round the loop from −1, that gains of each law "
                "reach for a settling time. Both are of the worst mode. Single marks: published gains.",
            )
        )
    if disks:
        z = np.exp(1j * np.linspace(0, np.pi, 513)[1:])
        loops = {name: loop_transfer(material.controlled[name], material.average_mode)(z) for name in disks}
        pictures.append(
            Picture(
                "disk-margin",
                "Nyquist curves with the disk that each keeps clear",
                plots.nyquist_disks(loops, disks),
                "L, the gain once round the loop of the average mode. Shaded: −1/f for all factors f by which gain and "
                "phase may change at once. The curve touches the disk where such a change first makes it unstable.",
            )
        )
    return tuple(pictures)


def _table(designs: dict[str, Any], published: dict[str, Performance]) -> Table:
    header = ("gains", "kp", "ki", "kd", "modes stable", "margin", "settling (layers)", "overshoot", "error")
    rows = [_row(name, presets.get(name).controller, result) for name, result in published.items()]
    rows += [
        _row(f"{law}, by specification", result[0].controller, result[1])
        for law, result in designs.items()
        if not isinstance(result, str)
    ]
    return Table(header, tuple(rows), "Published gains and gains by specification; figures of the worst mode")


def _row(name: str, law: Any, achieved: Performance) -> tuple[str, ...]:
    worst = achieved.worst()
    gains = (number(law.kp), number(law.ki), number(law.kd)) if isinstance(law, PID) else ("–", "–", "–")
    figures = (
        number(worst["modulus_margin"]),
        layers_until(worst["settling"], HORIZON),
        percent(worst["overshoot"]) if np.isfinite(worst["overshoot"]) else "∞",
        percent(worst["steady_state_error"]) if np.isfinite(worst["steady_state_error"]) else "∞",
    )
    return (name, *gains, percent(achieved.stable_share), *figures)
