"""page = heading + sections, both functions of one material: what was measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ctrlattn.report.section import Section

M = TypeVar("M")  # the material: loops and signals, a profile, a reduction, a study


@dataclass(frozen=True)
class Heading:
    """What stands around the sections: what the page is about, what was measured, where it comes from."""

    title: str
    lead: str
    networks: Sequence[Mapping[str, Any]]  # name, summary, texts (each a list of tokens)
    compared: str = ""
    provenance: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # facts by name
    listings: Mapping[str, str] = field(default_factory=dict)  # preformatted texts by name, folded away
    listings_title: str = ""


@dataclass(frozen=True)
class Page(Generic[M]):
    """A page of one kind of material; `ctrlattn.report.folder.write` makes the files.

    Attributes
    ----------
    heading : material -> Heading
    facts : material -> dict
        What summary.json opens with and results.nc carries as attributes.
    sections : name -> (material -> list of Section)
        In the order of the page. A list is empty where the material has nothing for it.
    beside : file name -> (material -> text)
        Further documents beside report.html.
    """

    heading: Callable[[M], Heading]
    facts: Callable[[M], dict[str, Any]]
    sections: Mapping[str, Callable[[M], list[Section]]]
    beside: Mapping[str, Callable[[M], str]] = field(default_factory=dict)
