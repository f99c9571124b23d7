"""The verifier held against the catalogue, as `siglip-verify bugs` prints it: text, Markdown, JSON."""

from __future__ import annotations

import msgspec
from rich.console import Console

from siglip_verify.report.console.final import known_bugs
from siglip_verify.report.markdown import text
from siglip_verify.report.sections import bug_line as line
from siglip_verify.report.sections import bug_tables as tables
from siglip_verify.report.sections import bugs_headline as headline
from siglip_verify.result import CatalogueResult

__all__ = ["headline", "json", "line", "markdown", "render", "tables"]


def render(result: CatalogueResult, console: Console) -> None:
    """Print the score, then everything it rests on."""
    known_bugs(result, console)


def markdown(result: CatalogueResult) -> str:
    """Return the same as Markdown."""
    lines = [headline(result)]
    for shown in tables(result):
        lines += ["", shown.caption, "", "| " + " | ".join(column.name for column in shown.columns) + " |"]
        lines += ["|" + "|".join("---:" if column.is_number else "---" for column in shown.columns) + "|"]
        lines += ["| " + " | ".join(text(value.text) for value in row) + " |" for row in shown.rows]
        lines += [f"\n{note}" for note in shown.notes]
    return "\n".join(lines) + "\n"


def json(result: CatalogueResult) -> bytes:
    """Return the same as JSON."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
