"""A run of faults, as blocks of text: what came of each kind at each exchange, what was wrong, what was left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Console

from siglip_verify.case import EXCHANGES
from siglip_verify.fault import EXPECTED, KINDS, Burst, FaultOutcome, FaultReport, Kind
from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.report.console.final import STYLES, say, table

_WRONG_SHOWN = 10


def render(report: FaultReport, console: Console) -> None:
    """Print whether all is as it must be, what came of each kind of fault, what went wrong, and every count."""
    say(console, headline(report), style=STYLES["pass" if report.passes else "mismatch"], wrap=console.is_terminal)
    if report.outcomes:
        table(outcomes_table(report.outcomes), console)
    for wrong in _wrong(report):
        say(console, words.one_line(wrong), style=STYLES["mismatch"], indent=2)
    table(leaks_table(report), console)


def headline(report: FaultReport) -> str:
    """Say in one line how many faults, cases and rebuilds there were, and what was wrong or left behind."""
    wrong = sum(bool(outcome.wrong) for outcome in report.outcomes) + len(report.wrong_cases)
    leaks = [leak.what for leak in report.leaks if leak.is_leak]
    verdict = "PASS" if report.passes else "MISMATCH"
    faults = f"{words.plural(len(report.outcomes), 'fault')}, {words.plural(report.cases, 'case')} without"
    said = f"{wrong} wrong, leaks: {', '.join(leaks) or 'none'}"
    rebuilt = f"{words.plural(report.rebuilt, 'world')} rebuilt"
    return f"{verdict}: {faults}, {rebuilt}, {said}; seed {report.seed}, {words.seconds(report.elapsed_s)}"


def line(done: FaultOutcome | Burst) -> str:
    """Say one outcome in one line, as it comes in."""
    if isinstance(done, Burst):
        return f"{words.plural(done.examples, 'case')} of {done.exchange} at W = {done.world_size}"
    fault, case = done.fault, done.case
    where = f"{case.exchange} W = {case.world_size}, rank {fault.rank} in {fault.place}"
    return f"{fault.kind} at {where}: {_verdict(done)}, {words.seconds(done.elapsed_s)}"


def dump(report: FaultReport) -> bytes:
    """Return the same as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def outcomes_table(outcomes: Sequence[FaultOutcome]) -> Table:
    """Show what came of each kind of fault at each exchange, and the slowest verdict."""
    kinds: list[Kind] = [kind for kind in KINDS if any(outcome.fault.kind == kind for outcome in outcomes)]
    exchanges = [exchange for exchange in EXCHANGES if any(outcome.case.exchange == exchange for outcome in outcomes)]
    return Table(
        caption="What was said of a step in which a rank ..., and after how long at most (measured).",
        columns=(
            Column("fault", is_number=False),
            Column("a rank ...", is_number=False, is_extra=True),
            *(Column(exchange, is_number=False) for exchange in exchanges),
            Column("slowest"),
        ),
        rows=tuple(
            (
                Value(kind),
                Value(EXPECTED[kind].what),
                *(_cell([o for o in outcomes if (o.fault.kind, o.case.exchange) == (kind, e)]) for e in exchanges),
                Value(words.seconds(_slowest(kind, outcomes))),
            )
            for kind in kinds
        ),
    )


def leaks_table(report: FaultReport) -> Table:
    """Show every count before and after."""
    return Table(
        caption="Measured: what was left when all was closed, and the process that grew most meanwhile.",
        columns=(
            Column("what", is_number=False),
            Column("before"),
            Column("after"),
            Column("may grow by"),
            Column("", is_number=False),
        ),
        rows=tuple(
            (
                Value(leak.what),
                Value(_amount(leak.before, leak.unit)),
                Value(_amount(leak.after, leak.unit)),
                Value(_amount(leak.allowed, leak.unit)),
                Value("LEAK", "mismatch") if leak.is_leak else Value("none", "pass"),
            )
            for leak in report.leaks
        ),
    )


def _cell(outcomes: Sequence[FaultOutcome]) -> Value:
    if not outcomes:
        return Value(words.NOTHING, "muted")
    wrong = sum(bool(outcome.wrong) for outcome in outcomes)
    if wrong:
        return Value(f"{wrong} of {len(outcomes)} WRONG", "mismatch")
    counted = Counter(_verdict(outcome) for outcome in outcomes)
    return Value(", ".join(f"{number} {verdict}" for verdict, number in counted.items()))


def _verdict(outcome: FaultOutcome) -> str:
    if outcome.wrong:
        return f"WRONG: {'; '.join(outcome.wrong)}"
    return outcome.verdict or "all gone"


def _slowest(kind: Kind, outcomes: Sequence[FaultOutcome]) -> float:
    return max(outcome.elapsed_s for outcome in outcomes if outcome.fault.kind == kind)


def _amount(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if unit else f"{value:.0f}"


def _wrong(report: FaultReport) -> Iterator[str]:
    said = [
        *(line(outcome) for outcome in report.outcomes if outcome.wrong),
        *(f"a case without a fault: {case}" for case in report.wrong_cases),
    ]
    yield from said[:_WRONG_SHOWN]
    if len(said) > _WRONG_SHOWN:
        yield f"and {len(said) - _WRONG_SHOWN} more"
