"""The benchmarks as blocks of text: medians, ratios with their noise, and what is required of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import msgspec
from rich.console import Console

from siglip_verify.bench.measure import BenchReport, Comparison, Contestant, Ratio, Traffic, Unit
from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Tone, Value
from siglip_verify.report.console.final import STYLES, say, table

FILE_NAME = "bench.json"
_MIB = 1 << 20


def render(report: BenchReport, console: Console) -> None:
    """Print whether every requirement is met, then every comparison, the machine last."""
    say(console, headline(report), style=STYLES["pass" if report.passes else "mismatch"], wrap=console.is_terminal)
    for comparison in report.comparisons:
        for shown in tables(comparison):
            table(shown, console)
    say(console)
    load = (
        "" if report.load is None else f", load {report.load[0]:.1f} at the start and {report.load[1]:.1f} at the end"
    )
    said = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    say(console, words.one_line(said + load), style="dim", wrap=console.is_terminal)


def headline(report: BenchReport) -> str:
    """Say how many requirements are met, and in which comparisons some are not."""
    judged = [
        (comparison.name, one.is_met)
        for comparison in report.comparisons
        for one in (*comparison.contestants, *comparison.ratios)
        if one.is_met is not None
    ]
    missed = list(dict.fromkeys(name for name, is_met in judged if not is_met))
    met = f"{sum(is_met for _, is_met in judged)} of {words.plural(len(judged), 'requirement')} met"
    return f"MISSED: {', '.join(missed)}; {met}" if missed else f"PASS: {met} in {words.seconds(report.elapsed_s)}"


def line(comparison: Comparison) -> str:
    """Say one comparison in one line, as it comes in: the ratios of which something is required, or all."""
    required = [ratio for ratio in comparison.ratios if ratio.requirement is not None]
    said = (f"{_pair(ratio)} = {ratio.value:,.2f}{_missed(ratio)}" for ratio in required or comparison.ratios)
    return f"{comparison.name}: {'; '.join(said)}"


def tables(comparison: Comparison) -> Iterator[Table]:
    """Show one comparison: its contestants, what they send if that was counted, and their ratios."""
    yield contestant_table(comparison)
    if any(contestant.traffic for contestant in comparison.contestants):
        yield traffic_table(comparison)
    yield ratio_table(comparison)


def contestant_table(comparison: Comparison) -> Table:
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
    )


def traffic_table(comparison: Comparison) -> Table:
    """Show what the contestants send; those that send the same share a row."""
    names: dict[Traffic, list[str]] = {}
    for contestant in comparison.contestants:
        if contestant.traffic is not None:
            names.setdefault(contestant.traffic, []).append(contestant.name)
    return Table(
        caption=f"What a rank sends in a {comparison.each}, the most over ranks.",
        columns=(
            Column("contestant", is_number=False),
            Column("messages", "", "counted"),
            Column("collectives", "", "counted"),
            Column("payload", "B", "counted"),
            Column("wire", "B", "measured"),
        ),
        rows=tuple((Value("; ".join(each)), *_sent(traffic)) for traffic, each in names.items()),
    )


def ratio_table(comparison: Comparison) -> Table:
    """Show the ratios of one comparison, each with the noise of the run."""
    return Table(
        caption="Ratios, turn by turn.",
        columns=(
            Column("ratio", is_number=False),
            Column("median", "of turns", "measured"),
            Column("95 % interval", "of the median", "measured"),
            Column("required", is_number=False),
        ),
        rows=tuple(_ratio_row(ratio) for ratio in comparison.ratios),
    )


def dump(report: BenchReport) -> bytes:
    """Write the result as JSON, every value of every turn included."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


# ------------------------------------------------------------------ rows
def _row(contestant: Contestant) -> tuple[Value, ...]:
    low, _, high = statistics.quantiles(contestant.values, n=4)
    unit = contestant.unit
    limit = "" if contestant.limit is None else f"at most {said(contestant.limit, unit)}{_verdict(contestant.is_met)}"
    return (
        Value(contestant.name),
        Value(said(contestant.median, unit), _tone(contestant.is_met)),
        Value(f"{said(low, unit)} .. {said(high, unit)}"),
        Value(words.count(contestant.turns)),
        Value(words.one_line("; ".join(filter(None, [contestant.note, limit])))),
    )


def _sent(traffic: Traffic) -> tuple[Value, ...]:
    wire = words.NOTHING if traffic.wire_bytes is None else words.count(traffic.wire_bytes)
    counts = (traffic.messages, traffic.collectives, traffic.payload_bytes)
    return (*(Value(words.count(number)) for number in counts), Value(wire))


def _ratio_row(ratio: Ratio) -> tuple[Value, ...]:
    low, high = ratio.interval
    return (
        Value(_pair(ratio)),
        Value(f"{ratio.value:,.2f}", _tone(ratio.is_met)),
        Value(f"{low:,.2f} .. {high:,.2f}"),
        Value(required(ratio)),
    )


def required(ratio: Ratio) -> str:
    """Say what is required of a ratio, and whether it is met; nothing where nothing is."""
    if ratio.requirement is None:
        return ""
    found_out = ratio.requirement.found_out
    surely = "" if found_out is None else f", surely not {found_out:.3g}"
    return f"{ratio.requirement.bound} {ratio.requirement.ratio:g}{surely}{_verdict(ratio.is_met)}"


def _missed(ratio: Ratio) -> str:
    return f" ({required(ratio)})" if ratio.is_met is False else ""


def _pair(ratio: Ratio) -> str:
    return " / ".join(ratio.of)


def _verdict(is_met: bool | None) -> str:
    return f": {'met' if is_met else 'MISSED'}"


def _tone(is_met: bool | None) -> Tone:
    return "" if is_met is None else "pass" if is_met else "mismatch"


def said(value: float, unit: Unit) -> str:
    """Say seconds or bytes in words."""
    if unit == "B":
        return f"{value / _MIB:,.1f} MiB"
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"
