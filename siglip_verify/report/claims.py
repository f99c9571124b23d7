"""The ledger of claims as blocks of text, as Markdown and as JSON."""

from __future__ import annotations

from collections import Counter

import msgspec
from rich.console import Console

from siglip_verify.claims.result import Answer, Figure, Ledger, Row
from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Fact, Table, Tone, Value
from siglip_verify.report.console.final import fact_lines, say, table
from siglip_verify.report.markdown import text

FILE_NAME = "claims.json"
_ABOUT = (
    "Written by `siglip-verify claims --format markdown`: each statement was measured, counted or modelled by that "
    "command, and answered by the rule that stands with it."
)
_TONES: dict[Answer, Tone] = {
    "holds": "pass",
    "holds with a condition": "unknown",
    "does not hold": "mismatch",
    "not checkable here": "muted",
}


def headline(ledger: Ledger) -> str:
    """Say in one line how many statements there are, and what came out."""
    counts = Counter(row.finding.answer for row in ledger.rows)
    said = ", ".join(f"{counts[answer]} {_counted(answer, counts[answer])}" for answer in _TONES if counts[answer])
    return f"{words.plural(len(ledger.rows), 'statement')} checked: {said}"


def line(row: Row) -> str:
    """Say one row in one line, as it comes in."""
    return f"{row.id}: {row.finding.answer}, {words.seconds(row.elapsed_s)}"


def render(ledger: Ledger, console: Console) -> None:
    """Print the score, a table of answers, then each statement with how it was checked and what came out."""
    say(console, headline(ledger), style="bold", wrap=console.is_terminal)
    table(answers(ledger), console)
    for row in ledger.rows:
        say(console)
        say(console, words.one_line(row.says), style="bold", wrap=console.is_terminal)
        fact_lines(
            [
                Fact(row.finding.answer, words.one_line(row.finding.because)),
                Fact("checked", words.one_line(row.how)),
                Fact("said by", words.one_line(row.source)),
            ],
            console,
        )
    say(console)
    said = ", ".join(f"{name} {value}" for name, value in ledger.environment.items())
    say(console, words.one_line(f"{said}; {words.seconds(ledger.elapsed_s)}"), style="dim", wrap=console.is_terminal)


def answers(ledger: Ledger) -> Table:
    """Show every statement's answer."""
    return Table(
        caption="What is said of the loss, and what came out; figures are counted, measured or modelled just now.",
        columns=(
            Column("statement", is_number=False),
            Column("answer", is_number=False),
            Column("figures", "", "counted"),
        ),
        rows=tuple(
            (
                Value(row.id),
                Value(row.finding.answer, _TONES[row.finding.answer]),
                Value(words.count(len(row.finding.figures))),
            )
            for row in ledger.rows
        ),
    )


def dump(ledger: Ledger) -> bytes:
    """Write the ledger as JSON, every figure included."""
    return msgspec.json.format(msgspec.json.encode(ledger), indent=2) + b"\n"


def markdown(ledger: Ledger) -> str:
    """Write the ledger as a page: a table of answers, then each statement with its figures folded away."""
    lines = [
        "# What is said of this loss, and what came out",
        "",
        _ABOUT,
        "",
        f"{headline(ledger)}.",
        "",
        "| statement | answer | because |",
        "|---|---|---|",
    ]
    lines += [f"| {text(row.says)} | **{row.finding.answer}** | {text(row.finding.because)} |" for row in ledger.rows]
    for row in ledger.rows:
        lines += ["", f"## {text(row.says)}", "", f"**{row.finding.answer}**: {text(row.finding.because)}.", ""]
        lines += [f"- How: {text(row.how)}", f"- Said by: {text(row.source)}", f"- Id: `{row.id}`"]
        if row.finding.figures:
            lines += ["", "<details><summary>Figures</summary>", "", "| of | value | | |", "|---|--:|---|---|"]
            lines += [_figure(figure) for figure in row.finding.figures]
            lines += ["", "</details>"]
    said = ", ".join(f"{name} {value}" for name, value in ledger.environment.items() if name in _LASTING)
    return "\n".join([*lines, "", f"Environment: {text(said)}.", ""])


_LASTING = ("python", "torch", "back end")  # what a committed page may say of the machine that wrote it


def _figure(figure: Figure) -> str:
    return f"| {text(figure.what)} | {_number(figure.value)} | {figure.unit} | {figure.basis} |"


def _number(value: float) -> str:
    """Say a number as it is where it is whole, else with four digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def _counted(answer: Answer, number: int) -> str:
    if answer == "does not hold":
        return "does not hold" if number == 1 else "do not hold"
    if answer == "not checkable here":
        return answer
    return answer if number == 1 else answer.replace("holds", "hold")
