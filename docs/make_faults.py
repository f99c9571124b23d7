"""Make a table of docs/faults.md from a real run: `make faults` writes the matrix, `make faults-in-a-row` the other.

Reads what `siglip-verify faults --format json` printed, from standard input; the argument says which table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from make_bug_table import table

from siglip_verify.fault import EXPECTED, KINDS, FaultOutcome, FaultReport
from siglip_verify.report.faults import headline
from siglip_verify.report.markdown import text

PAGE = Path(__file__).with_name("faults.md")
NAMED = {True: "yes", False: "NO", None: "-"}


def matrix(report: FaultReport) -> str:
    """Return one row for each fault."""
    return table(
        "| a rank ... | exchange | W | rank | in | verdict | names the rank | names the hop | seconds | left behind |",
        (
            (
                f"`{each.fault.kind}`",
                each.case.exchange,
                each.case.world_size,
                each.fault.rank,
                each.fault.place,
                verdict(each),
                NAMED[each.names_rank],
                NAMED[each.names_hop],
                f"{each.elapsed_s:.2f}",
                text("; ".join(each.left)) or "nothing",
            )
            for each in report.outcomes
        ),
    )


def verdict(outcome: FaultOutcome) -> str:
    """Return the verdict, and what is wrong with it."""
    said = outcome.verdict or "all gone"
    return f"{said}, WRONG: {text('; '.join(outcome.wrong))}" if outcome.wrong else said


def in_a_row(report: FaultReport) -> str:
    """Return how often each kind came, and every count before and after."""
    kinds = table("| a rank ... | faults | wrong | slowest, seconds |", _by_kind(report.outcomes))
    leaks = table(
        "| what | before | after | may grow by |",
        (
            (leak.what, *(f"{value:.0f} {leak.unit}" for value in (leak.before, leak.after, leak.allowed)))
            for leak in report.leaks
        ),
    )
    return f"{kinds}\n{leaks}"


def _by_kind(outcomes: Sequence[FaultOutcome]) -> Iterator[tuple[str, int, int, str]]:
    for kind in KINDS:
        of = [each for each in outcomes if each.fault.kind == kind]
        if of:
            slowest = max(each.elapsed_s for each in of)
            yield f"`{kind}`: {EXPECTED[kind].what}", len(of), sum(bool(each.wrong) for each in of), f"{slowest:.2f}"


def written(page: str, name: str, report: FaultReport) -> str:
    """Return the page with one of its tables made anew."""
    made = {"matrix": matrix, "in-a-row": in_a_row}[name](report)
    before, rest = page.split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- end of {name} -->\n")
    said = f"**{headline(report)}**, timeout {report.timeout_s:g} s"
    return f"{before}<!-- {name} -->\n{said}\n\n{made}<!-- end of {name} -->\n{after}"


if __name__ == "__main__":
    report = msgspec.json.decode(sys.stdin.buffer.read(), type=FaultReport)
    PAGE.write_text(written(PAGE.read_text(), sys.argv[1], report))
