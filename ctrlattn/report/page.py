"""page = heading + sections, which are functions of one material (loops, profile, reduction or study)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ctrlattn.report.section import Section

if TYPE_CHECKING:
    import xarray as xr

M = TypeVar("M")  # the material: loops and signals, a profile, a reduction, a study


class LawRow(NamedTuple):
    """One law of a page: its name, one line, its equation, and a verdict (text, state) as in a table."""

    name: str
    line: str
    equation: str
    verdict: tuple[str, str]


class Front(NamedTuple):
    """The answers of a page, before any section: sentences, and the laws that they speak of with the loop's drawing."""

    answers: Sequence[str]
    laws: Sequence[LawRow] = ()


@dataclass(frozen=True)
class Heading:
    """The head of a page: title, networks and texts that were measured, and provenance."""

    title: str
    lead: str
    networks: Sequence[Mapping[str, Any]]  # name, summary, texts (each a list of tokens)
    compared: str = ""
    provenance: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # facts by name
    listings: Mapping[str, str] = field(default_factory=dict)  # preformatted texts by name, which are folded
    listings_title: str = ""


@dataclass(frozen=True)
class Page(Generic[M]):
    """A page of one kind of material; `ctrlattn.report.folder.write` makes the files.

    Attributes
    ----------
    heading : material -> Heading
    facts : material -> dict
        Facts at the head of summary.json, which results.nc has as attributes.
    front : (material, {key of a section: its numbers}) -> Front, optional
        What stands first on the page. It words numbers of the sections and computes none.
    sections : name -> (material -> list of Section)
        Sections in the order of the page. A list is empty where the material has nothing for it.
    beside : file name -> (material -> text)
        Further documents in the directory of report.html.
    dataset : material -> xarray.Dataset, optional
        What results.nc holds, where the material has it; otherwise the variables of the sections.
    """

    heading: Callable[[M], Heading]
    facts: Callable[[M], dict[str, Any]]
    sections: Mapping[str, Callable[[M], list[Section]]]
    beside: Mapping[str, Callable[[M], str]] = field(default_factory=dict)
    front: Callable[[M, Mapping[str, Any]], Front] | None = None
    dataset: "Callable[[M], xr.Dataset] | None" = None
