"""Sections -> one self-contained HTML page: inlined SVG, no external request, every text escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
from markupsafe import Markup

from ctrlattn import __version__
from ctrlattn.report.section import Section

# A verdict is told by word and symbol as well as by colour.
SYMBOLS = {"good": "✓", "warn": "△", "bad": "✗"}


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


def render(
    sections: Sequence[Section], heading: Heading, *, drawings: Mapping[str, str], interactive: Mapping[str, str]
) -> str:
    """The page as text; `drawings` and `interactive` are markup of our own making, everything else is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctrlattn.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        sections=sections,
        heading=heading,
        drawings={name: Markup(svg) for name, svg in drawings.items()},
        interactive={name: Markup(html) for name, html in interactive.items()},
        symbols=SYMBOLS,
        version=__version__,
    )
