"""slack = value/asked - 1 for a margin, 1 - value/asked for the others: what is asked of a loop, and how far it is met.

A slack of 0 just meets the specification, 1 is twice as good, and below 0 it is not met. `Design` is what a search for
gains returns, with the certificate.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from ctrlattn import showing
from ctrlattn.arrays import require_number
from ctrlattn.controllers import PID
from ctrlattn.design.performance import MEASURES, Performance
from ctrlattn.errors import InputError
from ctrlattn.loop import Loop
from ctrlattn.passes import Passes
from ctrlattn.values import short

_FLOOR = {"settling": 1.0, "overshoot": 0.05, "steady_state_error": 0.01}  # what a requirement of 0 is measured in
_EXACT = 1e-9  # an error or overshoot below it is none


@dataclass(frozen=True)
class Spec:
    """What every mode has to meet; a requirement of None is not asked for.

    Parameters
    ----------
    modulus_margin : at least, in (0, 1]
        min |1 + L| = 1/Ms.
    disk_margin : at least, in (0, 2]
        Balanced.
    settling : at most, layers
        Until the step response stays within 2 % of its end.
    overshoot : at most, share of the end
    steady_state_error : at most
        |1 - T(1)|.

    Raises
    ------
    InputError
        No requirement, or one that is out of range.

    Examples
    --------
    >>> Spec(modulus_margin=0.5, settling=10).asked()
    {'modulus_margin': 0.5, 'settling': 10.0}
    """

    modulus_margin: float | None = None
    disk_margin: float | None = None
    settling: float | None = None
    overshoot: float | None = None
    steady_state_error: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.asked().items():
            object.__setattr__(self, name, require_number(name, value))
            low, high = {"modulus_margin": (0, 1), "disk_margin": (0, 2)}.get(name, (-1e-300, np.inf))
            if not low < getattr(self, name) <= high:
                domain = f"in (0, {high}]" if "margin" in name else "not negative"
                raise InputError(f"{name} must be {domain}, got {value}")
        if not self.asked():
            raise InputError(f"a specification asks for at least one of {', '.join(MEASURES)}")

    def asked(self) -> dict[str, float]:
        """Return the requirements that are not None."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def slack(self, values: Any) -> dict[str, np.ndarray]:
        """Return how far each requirement is met, from a mapping or object with its measures; negative if missed."""
        slack = {}
        for name, limit in self.asked().items():
            value = np.asarray(values[name] if isinstance(values, dict) else getattr(values, name), dtype=float)
            if "margin" in name:
                slack[name] = value / limit - 1
                continue
            room = (limit - value) / max(limit, _FLOOR[name])
            slack[name] = np.where(value <= min(limit, _EXACT), 1.0, room)
        return slack


class InfeasibleError(InputError):
    """No gains within the bounds were found to meet a specification; `why` says what binds.

    >>> issubclass(InfeasibleError, InputError)
    True
    """

    def __init__(self, search: str, why: str) -> None:
        super().__init__(f"{search}. Not met: {why}")
        self.why = why


class TradeOff(NamedTuple):
    """Gains of which none is better in both measures, all meeting the other requirements; certified on all modes."""

    gains: np.ndarray  # (q, 3): kp, ki, kd
    values: dict[str, np.ndarray]  # each measure, worst mode, (q,)


@dataclass(frozen=True, eq=False, repr=False)
class Design:
    """Gains found for a specification, and the certificate.

    It shows itself as a table: each requirement, its limit, its worst mode, and how far that is from the limit.
    """

    controller: PID
    loop: Loop | Passes  # the loop with that controller, and of passes with the recall
    spec: Spec
    performance: Performance  # the certificate: every mode of the spectrum, by its own figures
    trade_off: TradeOff | None  # margin against settling; None where it was not asked for

    @property
    def slack(self) -> dict[str, float]:
        """The slack of each requirement at its worst mode."""
        return {name: float(np.min(value)) for name, value in self.spec.slack(self.performance).items()}

    @property
    def binding(self) -> str:
        """The requirement with the least slack."""
        return min(self.slack, key=self.slack.__getitem__)

    def __repr__(self) -> str:
        """Return the gains and a line for each requirement."""
        worst, slack = self.performance.worst(), self.slack
        lines = [
            f"{name:20} {limit:10.4g} {worst[name]:10.4g} {slack[name]:9.1%}{'  binds' if name == self.binding else ''}"
            for name, limit in self.spec.asked().items()
        ]
        head = f"{'requirement':20} {'limit':>10} {'worst mode':>10} {'slack':>9}"
        return "\n".join([f"Design: {short(self.controller)}", head, *lines])

    def _repr_html_(self) -> str:
        return showing.as_html(repr(self))

    def plot(self, **options: Any) -> Any:
        """Draw the certificate: every mode against each limit; options as for `plots.certificate`."""
        return showing.plot(self, **options)
