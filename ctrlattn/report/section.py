"""A section of the report: a question, its answer in sentences with numbers, pictures, and the data behind them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Variable = tuple[tuple[str, ...], Any, dict[str, str]]  # dims, values, attrs (units, long_name)


class Picture(NamedTuple):
    """A figure with its file name and what a reader who cannot see it is told."""

    name: str
    alt: str
    figure: "Figure"


class Table(NamedTuple):
    """Rows of text; a verdict cell is (text, state) with state "good", "warn" or "bad"."""

    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str


@dataclass(frozen=True)
class Section:
    """What one part of the page says."""

    key: str
    title: str
    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    caveat: str = ""  # where a statement holds for frozen or weight-tied layers only
    tables: tuple[Table, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)  # for summary.json
    variables: dict[str, Variable] = field(default_factory=dict)  # for results.nc
