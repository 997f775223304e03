"""Heading + sections -> one self-contained HTML page: inlined SVG, no external request, every text escaped."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from ctrlattn import __version__
from ctrlattn.report.page import Front, Heading
from ctrlattn.report.section import Section

# A verdict has a word and a symbol as well as a colour.
SYMBOLS = {"good": "✓", "warn": "△", "bad": "✗"}
_LARGEST = 1.85  # pixels of the screen for a point of a drawing, so that letters of all drawings have one size


class Drawing(NamedTuple):
    """The markup of a picture for wide screens and for telephones."""

    wide: str
    narrow: str


def render(
    sections: Sequence[Section],
    heading: Heading,
    *,
    front: Front,
    drawings: Mapping[str, Drawing],
    interactive: Mapping[str, str],
    files: Sequence[str],
) -> str:
    """Return the page as HTML. `drawings`, `interactive` and `Section.markup` are ours; all else is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctrlattn.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        sections=[s for s in sections if s.sentences or s.pictures or s.tables or s.markup],
        heading=heading,
        front=front,
        drawings={name: Drawing(*(_limit_width(svg) for svg in both)) for name, both in drawings.items()},
        interactive={name: Markup(html) for name, html in interactive.items()},
        markup={section.key: Markup(section.markup) for section in sections},
        files=files,
        symbols=SYMBOLS,
        version=__version__,
    )


def _limit_width(svg: str) -> Markup:
    """Make the drawing no wider than its letters are legible; its size in points gives way to that of the screen."""
    head, _, body = svg.partition(">")
    width = re.search(r'viewBox="0 0 ([0-9.]+)', head)
    limit = f' style="max-width: {_LARGEST * float(width[1]):.0f}px"' if width else ""
    return Markup(re.sub(r' (width|height)="[^"]*"', "", head) + f'{limit} aria-hidden="true">' + body)
