"""Heading + sections -> one self-contained HTML page: inlined SVG, no external request, every text escaped."""

from collections.abc import Mapping, Sequence

import jinja2
from markupsafe import Markup

from ctrlattn import __version__
from ctrlattn.report.page import Heading
from ctrlattn.report.section import Section

# A verdict has a word and a symbol as well as a colour.
SYMBOLS = {"good": "✓", "warn": "△", "bad": "✗"}


def render(
    sections: Sequence[Section], heading: Heading, *, drawings: Mapping[str, str], interactive: Mapping[str, str]
) -> str:
    """The page as HTML. `drawings` and `interactive` are markup of this package; everything else is escaped."""
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
