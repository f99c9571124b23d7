"""The benchmarks, as blocks of text: medians, their ratio, and what is required of it."""

from __future__ import annotations

import statistics

import msgspec
from rich.console import Console

from siglip_verify.bench.measure import BenchReport, Comparison, Contestant
from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.report.console.final import STYLES, say, table

FILE_NAME = "bench.json"


def render(report: BenchReport, console: Console) -> None:
    """Print whether every requirement is met, then every comparison, the machine last."""
    say(console, headline(report), style=STYLES["pass" if report.passes else "mismatch"], wrap=console.is_terminal)
    for comparison in report.comparisons:
        table(comparison_table(comparison), console)
    say(console)
    load = (
        "" if report.load is None else f", load {report.load[0]:.1f} at the start and {report.load[1]:.1f} at the end"
    )
    said = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    say(console, words.one_line(said + load), style="dim", wrap=console.is_terminal)


def headline(report: BenchReport) -> str:
    """Say how many requirements are met, and which are not."""
    required = [comparison for comparison in report.comparisons if comparison.requirement is not None]
    missed = [comparison.name for comparison in required if not comparison.is_met]
    met = f"{len(required) - len(missed)} of {words.plural(len(required), 'requirement')} met"
    return f"MISSED: {', '.join(missed)}; {met}" if missed else f"PASS: {met} in {words.seconds(report.elapsed_s)}"


def line(comparison: Comparison) -> str:
    """Say one comparison in one line, as it comes in."""
    return f"{comparison.name}: {_ratio(comparison)}"


def comparison_table(comparison: Comparison) -> Table:
    """Show the contestants of one comparison; quartiles tell how much the values spread."""
    each = f"a {comparison.each}"
    return Table(
        caption=f"{comparison.name}: {comparison.what}.",
        columns=(
            Column("contestant", is_number=False),
            Column("median", each, "measured"),
            Column("quartiles", each, "measured"),
            Column("turns", "", "counted"),
            Column("remark", is_number=False),
        ),
        rows=tuple(_row(contestant) for contestant in comparison.contestants),
        notes=(_ratio(comparison),),
    )


def dump(report: BenchReport) -> bytes:
    """Write the result as JSON, every value of every turn included."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def _row(contestant: Contestant) -> tuple[Value, ...]:
    low, _, high = statistics.quantiles(contestant.values, n=4)
    return (
        Value(contestant.name),
        Value(_said(contestant.median, contestant)),
        Value(f"{_said(low, contestant)} .. {_said(high, contestant)}"),
        Value(words.count(len(contestant.values))),
        Value(words.one_line(contestant.note)),
    )


def _said(value: float, contestant: Contestant) -> str:
    if contestant.unit == "B":
        return f"{value:,.0f} B"
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"


def _ratio(comparison: Comparison) -> str:
    first, second = comparison.ratio_of
    said = f"{first} / {second} = {comparison.ratio:,.2f}"
    if comparison.requirement is None:
        return said
    required = f"{comparison.requirement.bound} {comparison.requirement.ratio:g} is required"
    return f"{said}: {required}, {'met' if comparison.is_met else 'MISSED'}"
