"""The messages of one step on a console: the verdict first, then hop by hop, in total, and beside the other exchanges.

Here: the order of the parts. Not here: which figures are shown (`report.messages`), how a block looks (`final`).
"""

from __future__ import annotations

from rich.console import Console

from siglip_verify.report import messages, sections, words
from siglip_verify.report.blocks import Fact
from siglip_verify.report.console.final import STYLES, entries, fact_lines, say, table
from siglip_verify.result import MessageReport


def render_messages(report: MessageReport, console: Console) -> None:
    """Print the finished result; its first line is the verdict in words."""
    step = report.step
    say(console, messages.headline(report), style=STYLES[report.verdict], wrap=console.is_terminal)
    facts = [("loss", report.name), ("declared", report.declared), ("step", str(step.case))]
    fact_lines([Fact(name, words.one_line(value)) for name, value in facts], console)
    entries(messages.wrong(report), console)
    for shown in messages.hops(step):
        table(shown, console)
    if step.events:
        table(messages.totals(report.totals), console)
    for shown in messages.matrices(report.step):
        table(shown, console)
    for shown in sections.messages(report.rows):
        table(shown, console)
    if report.collectives:
        table(messages.collectives(report.collectives), console)
    if report.gather_backward:
        table(messages.gather_backward(report.gather_backward), console)
    say(console)
    said = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    say(console, words.one_line(said), style="dim", wrap=console.is_terminal)
