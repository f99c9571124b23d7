"""The page: its sections in order, each a template and the one function that prepares its figures.

A section is added by writing both and naming them in `SECTIONS`. Whatever a template writes is made printable and
escaped on its way; nothing on the page runs or is fetched. The same result gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import jinja2
import msgspec
from markupsafe import Markup

from siglip_verify.report import words
from siglip_verify.report.html import views
from siglip_verify.result import Report


class Section(msgspec.Struct, frozen=True):
    """One part of the page.

    Attributes:
        name: Of its template, and its address on the page.
        title: Its heading.
        view: Prepares what its template shows; a section that has nothing to show is left out.
    """

    name: str
    title: str
    view: Callable[[Report], Mapping[str, object] | None]


SECTIONS = (
    Section("counterexamples", "Counterexamples", views.counterexamples),
    Section("unjudged", "Undecided", views.unjudged),
    Section("equivalence", "Equal to one device", views.equivalence),
    Section("coverage", "Every block once", views.coverage),
    Section("messages", "Messages", views.messages),
    Section("compared", "The exchanges compared", views.compared),
    Section("known_bugs", "Known bugs", views.known_bugs),
    Section("not_checked", "Not checked", views.not_checked),
    Section("settings", "Settings", views.settings),
    Section("environment", "Environment", views.environment),
)


def render(report: Report) -> bytes:
    """Render the page of a result."""
    shown = [(section, view) for section in SECTIONS if (view := section.view(report)) is not None]
    page = _templates().get_template("page.html.j2")
    return page.render(report=report, summary=views.summary(report), sections=shown).encode()


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("siglip_verify.report.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _printable(value: object) -> object:
    """Make text printable where a section did not; what is markup by now was made of printable text."""
    return words.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
