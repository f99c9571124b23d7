"""The finished result on a console: the verdict in words first, then each loss, then settings and environment.

Here: the order of the parts and how a block looks in text. Not here: which figures are shown (`sections`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from siglip_verify.records import CaseResult, Cell
from siglip_verify.report import sections, words
from siglip_verify.report.blocks import Entry, Fact, Table, Tone, Value
from siglip_verify.report.console import diagnosis
from siglip_verify.report.console.breakable import Breakable
from siglip_verify.report.headline import headline
from siglip_verify.result import CatalogueResult, LossResult, Report

WIDE = 120
STYLES: dict[Tone, str] = {"": "", "pass": "green", "mismatch": "bold red", "unknown": "bold yellow", "muted": "dim"}
_INDENT = 2
_RULE = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def render(report: Report, console: Console) -> None:
    """Print the finished result; its first line is the verdict in words."""
    say(console, str(headline(report)), style=STYLES[report.verdict], wrap=console.is_terminal)
    if len(report.losses) > 1:
        table(sections.overview(report), console)
    for loss in report.losses:
        _loss(loss, console)
    if report.catalogue is not None:
        say(console)
        known_bugs(report.catalogue, console)
    if report.modelled is not None:
        _facts("Modelled", sections.modelled(report.modelled), console)
    _facts("Settings", sections.settings(report), console)
    _facts("Environment", sections.environment(report), console)
    say(console)
    say(console, f"{report.verdict.upper()}: {sections.summary(report)}", style=STYLES[report.verdict])


def _loss(loss: LossResult, console: Console) -> None:
    say(console)
    say(console, f"{words.one_line(loss.name)}: {loss.verdict}", style=f"bold {STYLES[loss.verdict]}")
    fact_lines(sections.about(loss), console)
    if loss.cells:
        table(sections.equivalence(loss.cells), console)
        fact_lines(sections.nearest(loss.cells), console)
        if any(cell.by_dtype for cell in loss.cells):
            table(sections.by_dtype(loss.cells), console)
    for shown in sections.messages(loss.messages):
        table(shown, console)
    for shown in sections.costs(loss):
        table(shown, console)
    _facts("Coverage", sections.coverage(loss), console)
    entries(sections.counterexamples(loss.counterexamples), console)
    entries(sections.unjudged_cases(loss.unknowns), console)
    _facts("Not checked", sections.not_checked(loss), console)


def known_bugs(result: CatalogueResult, console: Console) -> None:
    """Print the score against the catalogue, then everything it rests on."""
    say(console, sections.bugs_headline(result), style="bold green" if result.verdict == "pass" else "bold red")
    for shown in sections.bug_tables(result):
        table(shown, console)


def found_so_far(
    name: str,
    cells: Sequence[Cell],
    mismatches: Sequence[CaseResult],
    unknowns: Sequence[CaseResult],
    console: Console,
) -> None:
    """Print what is known of a loss whose run was broken off."""
    say(console)
    say(console, name, style="bold")
    if cells:
        table(sections.equivalence(cells), console)
    entries([sections.failing(result) for result in mismatches], console)
    entries([sections.unjudged(result) for result in unknowns], console)


# ------------------------------------------------------------------ blocks
def say(console: Console, text: str = "", *, style: str = "", indent: int = 0, wrap: bool = False) -> None:
    """Print one line as it is: no markup, no highlighting, and no line breaks of ours in it unless it may wrap."""
    console.print(Text(" " * indent + encodable(text, console), style=style), soft_wrap=not wrap)


def encodable(text: str, console: Console) -> str:
    """Escape what the console's encoding does not have."""
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)


def table(shown: Table, console: Console) -> None:
    """Print a table under its caption, its notes below."""
    kept = [index for index, column in enumerate(shown.columns) if console.width >= WIDE or not column.is_extra]
    drawn = RichTable(box=_RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    units, bases = [column.unit for column in shown.columns], [column.basis or "" for column in shown.columns]
    below = [line for line in (units, bases) if any(line)]
    for index in kept:
        column = shown.columns[index]
        header = Text("\n").join(
            [Text(column.name, style="bold"), *(Text(line[index], style="dim not bold") for line in below)]
        )
        drawn.add_column(header, justify="right" if column.is_number else "left", overflow="fold")
    for row in shown.rows:
        drawn.add_row(*(_value(row[index], console) for index in kept))
    say(console)
    _indented(Text(encodable(shown.caption, console), style="dim"), console)
    _indented(drawn, console)
    for note in shown.notes:
        _indented(Text(encodable(note, console)), console)


def entries(shown: Sequence[Entry], console: Console) -> None:
    """Print what went wrong, one entry after the other."""
    for entry in shown:
        say(console)
        say(console, entry.title, style=STYLES[entry.tone], indent=_INDENT)
        if entry.lead:
            console.print(
                Padding(Text(encodable(entry.lead, console), style="bold"), (0, 0, 0, 2 * _INDENT), expand=False)
            )
        if entry.heat_maps:
            maps = diagnosis.picture(entry.heat_maps, STYLES, lambda text: encodable(text, console))
            console.print(Padding(maps, (0, 0, 0, 2 * _INDENT), expand=False))
        fact_lines(list(entry.facts), console, indent=2 * _INDENT)
        for verbatim in entry.verbatim:
            say(console, verbatim.label, style="dim", indent=2 * _INDENT)
            for line in verbatim.text.splitlines():
                say(console, line, indent=3 * _INDENT)
        if entry.replay:
            say(console, "replay", style="dim", indent=2 * _INDENT)
            say(console, entry.replay, indent=3 * _INDENT)


def _facts(title: str, facts: Sequence[Fact], console: Console) -> None:
    if facts:
        say(console)
        say(console, title, style="bold")
        fact_lines(facts, console)


def fact_lines(facts: Sequence[Fact], console: Console, *, indent: int = _INDENT) -> None:
    """Print names and what is to be said of each, in two columns."""
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="dim", max_width=max(8, console.width // 3), overflow="fold")
    grid.add_column(overflow="fold")
    for fact in facts:
        basis = f" ({fact.basis})" if fact.basis else ""
        grid.add_row(
            Text(encodable(fact.name, console)), Text.assemble(encodable(fact.value, console), (basis, STYLES["muted"]))
        )
    if facts:
        console.print(Padding(grid, (0, 0, 0, indent), expand=False))


def _value(value: Value, console: Console) -> Breakable:
    return Breakable(encodable(value.text, console), STYLES[value.tone])


def _indented(renderable: RichTable | Text, console: Console) -> None:
    console.print(Padding(renderable, (0, 0, 0, _INDENT), expand=False))
