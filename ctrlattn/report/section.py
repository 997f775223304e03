"""A section of the report: a question, its answer in sentences with numbers, pictures, and the data behind them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Variable = tuple[tuple[str, ...], Any, dict[str, str]]  # dims, values, attrs (units, long_name)


class Picture(NamedTuple):
    """A figure with its file name and its alternative text."""

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
    """One part of a page: title, sentences, pictures, tables, numbers and variables."""

    key: str
    title: str
    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    caveat: str = ""  # limits of what the section shows, such as frozen or weight-tied layers
    tables: tuple[Table, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)  # for summary.json
    variables: dict[str, Variable] = field(default_factory=dict)  # for results.nc
