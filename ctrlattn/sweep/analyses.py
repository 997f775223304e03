"""name -> what is asked of a cell, by one function of another room each, and of many PID gains at once where it can."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from ctrlattn.controllers import PID
from ctrlattn.design.gain_cells import worst_of_gains
from ctrlattn.design.performance import HORIZON, performance
from ctrlattn.errors import InputError, require_known, require_whole
from ctrlattn.frequency.tokens import mean_cosine
from ctrlattn.linear.mode_polynomial import outermost_modes
from ctrlattn.linear.modes import loop_matrices
from ctrlattn.loop import simulate
from ctrlattn.stability import stability_interval
from ctrlattn.stability.modes.pid_gains import pid_intervals, pid_unstable_share
from ctrlattn.stability.modes.regions import unstable_share
from ctrlattn.stability.robustness.margins import margins_of_matrices
from ctrlattn.sweep.cell import Cell
from ctrlattn.sweep.probe import hit_rate

Options = Mapping[str, Any]
_DIRECTIONS = 8  # of the plane in which `outer` modes are the farthest


class Output(NamedTuple):
    """One number of an analysis."""

    name: str
    units: str
    words: str
    better: Literal["higher", "lower"]


class GainCells(NamedTuple):
    """Cells that differ in their PID gains alone."""

    cell: Cell  # the first of them
    gains: np.ndarray  # (k, 3)

    @property
    def law(self) -> PID:
        """The law whose gains are replaced."""
        law = self.cell.loop.controller
        assert isinstance(law, PID)
        return law


class AnalysisRow(NamedTuple):
    """A row of the table: what it is called, what it needs, and who computes it.

    `of_gains` returns the values (outputs, k) and which of them are sure; the others are asked one by one.
    """

    words: str
    outputs: tuple[Output, ...]
    of_cell: Callable[[Cell, Options], tuple[float, ...]]
    seconds: float  # nominal, of a cell by itself
    options: Mapping[str, Any] = MappingProxyType({})
    of_gains: Callable[[GainCells, Options], tuple[np.ndarray, np.ndarray]] | None = None
    seconds_together: float = 0.0  # nominal, of a cell among many; of each mode where it has modes


def chosen(analyses: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the asked analyses with all of their options.

    Raises
    ------
    InputError
        There is none at all, a name or option is unknown, or an option cannot have its value.

    Examples
    --------
    >>> chosen({"margins": {}})
    {'margins': {'mode': 1.0}}
    """
    if not analyses:
        raise InputError(f"a sweep needs at least one analysis: {', '.join(ANALYSES)}")
    result = {}
    for name, options in analyses.items():
        defaults = ANALYSES[require_known("analysis", name, ANALYSES)].options
        if not isinstance(options, Mapping):
            raise InputError(f"analyses.{name}: must be a table of options, such as {{}}")
        for key in options:
            require_known(f"option of {name}", key, defaults)
        result[name] = {**defaults, **options}
        _require_options(name, result[name])
    return result


def cost(name: str, options: Options, *, together: bool) -> float:
    """Return the nominal seconds of a cell: they decide how many cells make a batch, the same on every machine."""
    analysis = ANALYSES[name]
    if not together or analysis.of_gains is None:
        return analysis.seconds
    if "modes" not in options:
        return analysis.seconds_together
    modes = options["modes"]
    return analysis.seconds_together * (len(modes) if modes else 2 * options["outer"] or 1000)


def _require_options(name: str, options: Options) -> None:
    for key, least in (("outer", 0), ("horizon", 1), ("draws", 1), ("features", 1)):
        if key in options:
            require_whole(f"analyses.{name}.{key}", options[key], least=least)
    for key in ("mode", "modes"):
        values = options.get(key)
        numbers = values if isinstance(values, list | tuple) and key == "modes" else [values]
        if values is not None and not (numbers and all(_is_number(value) for value in numbers)):
            raise InputError(f"analyses.{name}.{key}: must be {'numbers' if key == 'modes' else 'a number'}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _modes(cell: Cell, options: Options) -> np.ndarray:
    """Return the modes that are asked for, or those of the recording: all, or the outermost and as many quantiles."""
    if options["modes"]:
        return np.asarray(options["modes"], dtype=float)
    return outermost_modes(cell.modes, _DIRECTIONS, options["outer"]) if options["outer"] else cell.modes


def _interval(cell: Cell, _: Options) -> tuple[float, ...]:
    low, high = stability_interval(cell.loop.controller or PID())
    return high - low, low, high


def _intervals(many: GainCells, _: Options) -> tuple[np.ndarray, np.ndarray]:
    low, high, sure = pid_intervals(many.gains, many.law.form, many.law.ema)
    return np.stack([high - low, low, high]), sure


def _margins(cell: Cell, options: Options) -> tuple[float, ...]:
    m = margins_of_matrices(loop_matrices(cell.loop, options["mode"]))
    return m.gain_margin, m.phase_margin, m.delay_margin, m.modulus_margin


def _settling(cell: Cell, options: Options) -> tuple[float, ...]:
    return (performance(cell.loop, _modes(cell, options), horizon=options["horizon"]).worst()["settling"],)


def _settlings(many: GainCells, options: Options) -> tuple[np.ndarray, np.ndarray]:
    return _worst_modes(many, options, "settling", horizon=options["horizon"])


def _peak(cell: Cell, options: Options) -> tuple[float, ...]:
    margin = performance(cell.loop, _modes(cell, options)).worst()["modulus_margin"]
    return (1 / margin if margin else np.inf,)


def _peaks(many: GainCells, options: Options) -> tuple[np.ndarray, np.ndarray]:
    margin, sure = _worst_modes(many, options, "modulus_margin", horizon=HORIZON)
    with np.errstate(divide="ignore"):
        return 1 / margin, sure


def _worst_modes(many: GainCells, options: Options, measure: str, *, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    modes, law = _modes(many.cell, options), many.law
    worst = worst_of_gains(
        many.cell.loop, modes, many.gains, law.form, law.ema, measures=[measure], horizon=horizon
    )  # fmt: skip
    return worst[measure][None], np.ones(len(many.gains), bool)


def _share(cell: Cell, _: Options) -> tuple[float, ...]:
    return (float(unstable_share(cell.loop, cell.modes)),)


def _shares(many: GainCells, _: Options) -> tuple[np.ndarray, np.ndarray]:
    law = many.law
    share = pid_unstable_share(many.cell.loop, many.cell.modes, many.gains, law.form, law.ema)
    return share[None], np.ones(len(many.gains), bool)


def _tokens(cell: Cell, _: Options) -> tuple[float, ...]:
    simulation = cell.configuration.simulation
    x = np.random.default_rng(simulation.seed).standard_normal((simulation.tokens, simulation.features))
    with np.errstate(all="ignore"):
        state = simulate(cell.loop, x, simulation.layers, record="last").state
    if not np.all(np.isfinite(state)):
        raise ArithmeticError(f"the state is not finite after {simulation.layers} layers")
    size = float(np.max(np.abs(state)))
    rms = size * float(np.sqrt(np.mean((state / size) ** 2))) if size else 0.0
    return float(mean_cosine(state / size if size else state)), rms


def _hit_rate(cell: Cell, options: Options) -> tuple[float, ...]:
    simulation = cell.configuration.simulation
    return (hit_rate(cell.loop, simulation.layers, seed=simulation.seed, **options),)


def _loss(cell: Cell, _: Options) -> tuple[float, ...]:
    return (cell.loss(),)


_MODES: dict[str, Any] = {"modes": None, "outer": 0}
_LOW = Output("interval_low", "1", "lower end of the stable real modes alpha", "lower")
_HIGH = Output("interval_high", "1", "upper end of the stable real modes alpha", "higher")
_WIDTH = Output("interval_width", "1", "width of the interval of stable real modes alpha", "higher")
ANALYSES: dict[str, AnalysisRow] = {
    "interval": AnalysisRow(
        "interval of real modes alpha that the controller leaves stable", (_WIDTH, _LOW, _HIGH),
        _interval, 6e-3, {}, _intervals, 1e-5,
    ),
    "margins": AnalysisRow(
        "gain, phase, delay and modulus margin of the loop of one attention mode",
        (
            Output("gain_margin", "1", "gain margin", "higher"),
            Output("phase_margin", "degree", "phase margin", "higher"),
            Output("delay_margin", "layer", "delay margin", "higher"),
            Output("modulus_margin", "1", "modulus margin", "higher"),
        ),
        _margins, 2e-3, {"mode": 1.0},
    ),
    "settling": AnalysisRow(
        "layers until the step response of the worst mode stays within 2 %",
        (Output("settling", "layer", "settling of the worst mode", "lower"),),
        _settling, 6e-3, {**_MODES, "horizon": HORIZON}, _settlings, 8e-6,
    ),
    "peak_sensitivity": AnalysisRow(
        "Ms, the peak of the sensitivity over frequency, of the worst mode",
        (Output("peak_sensitivity", "1", "Ms of the worst mode", "lower"),),
        _peak, 6e-3, _MODES, _peaks, 1e-5,
    ),
    "unstable_share": AnalysisRow(
        "share of the modes of a recording that the loop leaves unstable",
        (Output("unstable_share", "1", "share of unstable modes", "lower"),),
        _share, 2e-2, {}, _shares, 1e-4,
    ),
    "tokens": AnalysisRow(
        "mean cosine and size of seeded tokens after all layers",
        (
            Output("mean_cosine", "1", "mean cosine of two tokens at the end", "lower"),
            Output("rms", "1", "RMS of the tokens at the end", "lower"),
        ),
        _tokens, 2e-3,
    ),
    "hit_rate": AnalysisRow(
        "share of draws in which the missing token of a repeated sequence is the nearest one",
        (Output("hit_rate", "1", "share of draws in which D is nearest to E", "higher"),),
        _hit_rate, 2e-2, {"draws": 200, "features": 64},
    ),
    "loss": AnalysisRow(
        "next-token loss of a checkpoint on a text, with a span of its layers repeated where [span] says so",
        (Output("loss", "nat/token", "mean next-token loss", "lower"),),
        _loss, 1.0,
    ),
}  # fmt: skip
