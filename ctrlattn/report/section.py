"""A section of the report: a finding as its heading, sentences with numbers, pictures, and the data behind them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Variable = tuple[tuple[str, ...], Any, dict[str, str]]  # dims, values, attrs (units, long_name)


class Picture(NamedTuple):
    """A figure with its file name, its alternative text and its caption, which explains every letter in it."""

    name: str
    alt: str
    figure: "Figure"
    caption: str = ""


class Table(NamedTuple):
    """Rows of text; a verdict cell is (text, state) with state "good", "warn" or "bad"."""

    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of a page: title, sentences, pictures, tables, numbers and variables.

    The title is what the numbers say, and therefore made from them.
    """

    key: str
    title: str
    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    markup: str = ""  # trusted HTML of this package, such as the explorer; everything else is escaped
    caveat: str = ""  # limits of what the section shows, such as frozen or weight-tied layers
    tables: tuple[Table, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)  # for summary.json
    variables: dict[str, Variable] = field(default_factory=dict)  # for results.nc
