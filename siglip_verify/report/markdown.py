"""The report as Markdown, for a CI job summary: the verdict first, and never longer than such a summary may be.

Here: how a block looks in GitHub's Markdown. Not here: which figures are shown (`sections`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from siglip_verify.report import diagnosis, sections, words
from siglip_verify.report.blocks import Column, Entry, Fact, Table, Verbatim
from siglip_verify.report.headline import headline
from siglip_verify.result import LossResult, Report

LIMIT_BYTES = 1 << 20  # what GitHub takes of a job summary; more, and it shows nothing
_RESERVE_BYTES = 300  # for the line that says that something was left out
_MARKS = {"pass": "✅", "mismatch": "❌", "unknown": "❔"}
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")  # no text here begins a line, where more characters would be special


def render(report: Report, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Render the result in at most `limit_bytes`; parts that do not fit are left out from the end, and that is said."""
    written: list[str] = []
    room = limit_bytes - _RESERVE_BYTES
    parts = list(_parts(report))
    for index, part in enumerate(parts):
        room -= len(part.encode()) + 2
        if room < 0:
            missing = words.plural(len(parts) - index, "part")
            written.append(f"*{missing} of this report left out for want of room; report.json has everything.*")
            break
        written.append(part)
    return ("\n\n".join(written) + "\n").encode()


def _parts(report: Report) -> Iterator[str]:
    """Write the parts, what matters most first."""
    yield f"## {_MARKS[report.verdict]} {text(str(headline(report)))}"
    if len(report.losses) > 1:
        yield _table(sections.overview(report))
    for loss in report.losses:
        for entry in (*sections.counterexamples(loss.counterexamples), *sections.unjudged_cases(loss.unknowns)):
            yield _entry(entry, loss)
    for loss in report.losses:
        yield from _loss(loss)
    if report.catalogue is not None:
        yield f"### {_MARKS[report.catalogue.verdict]} {text(sections.bugs_headline(report.catalogue))}"
        for shown in sections.bug_tables(report.catalogue):
            yield _folded("Known bugs", _table(shown))
    if report.modelled is not None:
        yield _folded("Modelled", _facts(sections.modelled(report.modelled)))
    yield _folded("Settings and environment", _facts([*sections.settings(report), *sections.environment(report)]))
    yield text(f"{sections.summary(report)}.")


def _loss(loss: LossResult) -> Iterator[str]:
    yield f"### {_MARKS[loss.verdict]} {text(words.one_line(loss.name))}"
    if loss.cells:
        yield _folded("Equivalence", _table(sections.equivalence(loss.cells)), _facts(sections.nearest(loss.cells)))
        if any(cell.by_dtype for cell in loss.cells):
            yield _folded("Equivalence by dtype", _table(sections.by_dtype(loss.cells)))
    for shown in sections.messages(loss.messages):
        yield _folded("Messages", _table(shown))
    for shown in sections.costs(loss):
        yield _folded("Time and memory", _table(shown))
    if loss.coverage:
        yield _folded("Coverage", _facts(sections.coverage(loss)))
    if loss.left_out:
        yield _folded("Not checked", _facts(sections.not_checked(loss)))


# ------------------------------------------------------------------ blocks
def text(said: str) -> str:
    """Escape what Markdown or HTML would read as its own within a line."""
    return _SPECIAL.sub(r"\\\1", html.escape(words.printable(said), quote=False).replace("\n", " "))


def _folded(title: str, *content: str) -> str:
    inside = "\n\n".join(part for part in content if part)
    return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"


def _table(shown: Table) -> str:
    lines = [text(shown.caption), "", _row([_head(column) for column in shown.columns])]
    lines.append(_row(["--:" if column.is_number else ":--" for column in shown.columns]))
    lines += [_row([text(value.text) for value in row]) for row in shown.rows]
    return "\n".join([*lines, "", *(f"- {text(note)}" for note in shown.notes)]).rstrip()


def _head(column: Column) -> str:
    said = [column.name, column.unit, column.basis or ""]
    return "<br>".join(text(word) for word in said if word)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _entry(entry: Entry, loss: LossResult) -> str:
    parts = [f"### {text(entry.title)}", text(entry.lead), f"Loss: {text(words.one_line(loss.name))}"]
    parts += [_folded(text(shown.title), _fenced(diagnosis.as_text(shown))) for shown in entry.heat_maps]
    if entry.replay:
        parts.append(_fenced(entry.replay, "sh"))
    parts += [_facts(entry.facts), *(_verbatim(verbatim) for verbatim in entry.verbatim)]
    return "\n\n".join(part for part in parts if part)


def _facts(facts: Sequence[Fact]) -> str:
    return "\n".join(f"- {text(str(fact))}" for fact in facts)


def _verbatim(shown: Verbatim) -> str:
    return _folded(text(shown.label), _fenced(shown.text))


def _fenced(said: str, language: str = "text") -> str:
    """Fence a text with more backticks than it holds in a row."""
    longest = max(map(len, re.findall(r"`+", said)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{said}\n{fence}"
