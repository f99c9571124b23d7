"""One function for each part of a report: from the finished result to blocks of text.

Here: which figures are shown, in which order, under which names. Not here: how a block looks, and any judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from siglip_verify.checks.failures import failure_sentence
from siglip_verify.records import CaseResult, Cell, Counterexample, Finding, Quantity, RankFailure, Share
from siglip_verify.report import diagnosis, words
from siglip_verify.report.blocks import Column, Entry, Table, Value, Verbatim
from siglip_verify.result import LossResult, MessageRow, Report

Fact = tuple[str, str]

TRACEBACK_LINES = 30
STDERR_LINES = 12
RANKS_SHOWN = 8
FINDINGS_SHOWN = 8
ENTRIES_SHOWN = 20

QUANTITY_GROUPS: Mapping[str, tuple[Quantity, ...]] = {
    "loss": ("loss", "local_loss"),
    "image": ("image_grad",),
    "text": ("text_grad",),
    "scale": ("scale_grad", "local_scale_grad"),
    "bias": ("bias_grad", "local_bias_grad"),
}
_SHARE_CAPTION = "Worst error as a share of its bound: measured, 1 is the bound. Cases: counted."
_COLLECTIVE_NOTE = (
    "Payload is what is handed to a call, and a collective sends more than that: "
    "hold its wire bytes against the lower bound."
)
_MESSAGE_CAPTION = "One rank, one step, forward + backward: b = {batch}, d = {dim}, {dtype}."


# ------------------------------------------------------------------ equivalence
def equivalence(cells: Sequence[Cell]) -> Table:
    """Show each exchange and world size: cases, worst share of the bound by quantity, verdict.

    A rank's own values stand with the reduced ones: loss is the worse of the loss and any local loss.
    """
    some_unknown = any(cell.unknown_cases for cell in cells)
    columns = [Column("exchange", is_number=False), Column("W"), Column("cases")]
    columns += [Column("unknown")] * some_unknown
    columns += [Column(name) for name in QUANTITY_GROUPS]
    rows = [
        (
            Value(cell.exchange),
            Value(str(cell.world_size)),
            Value(words.count(cell.cases)),
            *([Value(words.count(cell.unknown_cases))] * some_unknown),
            *(_group_share(cell, quantities) for quantities in QUANTITY_GROUPS.values()),
            Value(cell.verdict, cell.verdict),
        )
        for cell in cells
    ]
    return Table(
        caption=_SHARE_CAPTION,
        columns=(*columns, Column("verdict", is_number=False)),
        rows=tuple(rows),
        notes=_notes((cell.exchange, cell.world_size, cell.note) for cell in cells),
    )


def nearest(cells: Sequence[Cell]) -> list[Fact]:
    """Name the quantity that came nearest to its bound, or went farthest beyond it, and the case."""
    found = words.nearest(cells)
    return [("worst", words.nearest_in_words(found)), ("in", words.one_line(found.case))] if found else []


def _group_share(cell: Cell, quantities: tuple[Quantity, ...]) -> Value:
    shares = [cell.worst[quantity].share for quantity in quantities if quantity in cell.worst]
    if not shares:
        return Value(words.NOTHING, "muted")
    largest = max(shares, key=words.severity)
    return Value(words.share(largest), "" if largest <= 1 else "mismatch")


def _notes(noted: Iterable[tuple[str, int, str]]) -> tuple[str, ...]:
    """Say each note once, with the exchanges and world sizes that it is about."""
    places: dict[tuple[str, str], list[int]] = {}
    for exchange, world_size, note in noted:
        if note:
            places.setdefault((exchange, words.one_line(note)), []).append(world_size)
    return tuple(f"{exchange}, W = {words.ranges(sizes)}: {note}" for (exchange, note), sizes in places.items())


# ------------------------------------------------------------------ messages
def messages(rows: Sequence[MessageRow]) -> list[Table]:
    """Show plan, count, wire and lower bound; one table for each batch shape and dtype that was counted."""
    return [
        _message_table(list(steps), _MESSAGE_CAPTION.format(batch=batch, dim=dim, dtype=words.one_line(dtype)))
        for (batch, dim, dtype), steps in groupby(rows, key=step_of)
    ]


def step_of(row: MessageRow) -> tuple[int, int, str]:
    """Return what makes two rows steps of the same size: b, d, dtype."""
    return row.batch, row.dim, row.dtype


def _message_table(steps: list[MessageRow], caption: str) -> Table:
    columns = (
        Column("exchange", is_number=False),
        Column("W"),
        Column("hops", "forward", "counted", is_extra=True),
        Column("planned", "calls", "modelled"),
        Column("counted", "calls", "counted"),
        Column("planned", "payload B", "modelled"),
        Column("counted", "payload B", "counted"),
        Column("wire", "bytes", "measured"),
        Column("lower bound", "payload B", "modelled"),
        Column("operations", "", "counted", is_number=False, is_extra=True),
    )
    rows = tuple(
        (
            Value(step.exchange),
            Value(str(step.world_size)),
            Value(words.count(step.counted_hops)),
            Value(_calls(step.planned_messages, step.planned_collectives)),
            Value(_calls(step.counted_messages, step.counted_collectives)),
            Value(words.count(step.planned_payload_bytes)),
            Value(words.count(step.counted_payload_bytes)),
            Value(words.count(step.wire_bytes)),
            Value(words.count(step.lower_bound_bytes)),
            Value(words.one_line(step.operations)),
        )
        for step in steps
    )
    notes = _notes((step.exchange, step.world_size, step.note) for step in steps)
    if any(step.counted_collectives for step in steps):
        notes = (*notes, _COLLECTIVE_NOTE)
    return Table(caption=caption, columns=columns, rows=rows, notes=notes)


def _calls(sends: int | None, collectives: int | None) -> str:
    """Say `8 sends`, `10 coll.` or both; `none` where nothing is called."""
    if sends is None and collectives is None:
        return words.NOTHING
    said = [words.plural(sends, "send")] if sends else []
    said += [f"{collectives:,} coll."] if collectives else []
    return " + ".join(said) or "none"


# ------------------------------------------------------------------ what went wrong
def counterexamples(found: Sequence[Counterexample]) -> list[Entry]:
    """Show the first counterexamples, and say how many more there are."""
    return _first_entries([_counterexample(each) for each in found[:ENTRIES_SHOWN]], len(found))


def unjudged_cases(results: Sequence[CaseResult]) -> list[Entry]:
    """Show the first cases that came to no judgement, and say how many more there are."""
    return _first_entries([unjudged(result) for result in results[:ENTRIES_SHOWN]], len(results))


def _first_entries(entries: list[Entry], total: int) -> list[Entry]:
    if total <= len(entries):
        return entries
    return [*entries, Entry(title=f"{total - len(entries):,} more like these, in report.json", tone="muted")]


def failing(result: CaseResult) -> Entry:
    """Show a case that fails and was not shrunk to the end."""
    case = result.case
    return Entry(
        title=f"Fails, not shrunk to the end: {case.exchange} at W = {case.world_size}",
        tone="mismatch",
        facts=_mismatch_facts(result),
        verbatim=_verbatim(result.failures),
    )


def unjudged(result: CaseResult) -> Entry:
    """Show a case that came to no judgement: which rank did what, its traceback and last output."""
    case = result.case
    facts = [("case", str(case)), *_failures(result.failures), *_findings(result.findings)]
    return Entry(
        title=f"No judgement: {case.exchange} at W = {case.world_size}",
        tone="unknown",
        lead=words.one_line(failure_sentence(result.failures, case.world_size)),
        facts=(*facts, ("ended after", words.seconds(result.elapsed_s))),
        verbatim=_verbatim(result.failures),
    )


def what_went_wrong(
    findings: Sequence[Finding], failures: Sequence[RankFailure]
) -> tuple[tuple[Fact, ...], tuple[Verbatim, ...]]:
    """Show the findings in the messages of a step, the ranks that failed, and what these said last."""
    return (*_findings(findings), *_failures(failures)), _verbatim(failures)


def _counterexample(found: Counterexample) -> Entry:
    """Show a shrunk case that fails: every figure of its worst quantity, the other quantities, findings, replay."""
    result, case = found.result, found.result.case
    facts = [("shrunk", f"{words.plural(found.calls, 'case')} tried from the first failure to this one")]
    if not found.reproducible:
        facts.append(("race", "the same case did not fail when it was run a second time"))
    said = found.diagnosis
    return Entry(
        title=f"Counterexample: {case.exchange} at W = {case.world_size}",
        tone="mismatch",
        lead=diagnosis.lead(said) if said else "",
        heat_maps=diagnosis.heat_maps(said) if said else (),
        facts=(*(diagnosis.facts(said) if said else ()), *_mismatch_facts(result), *facts),
        verbatim=_verbatim(result.failures),
        replay=words.printable(found.replay).replace("\n", "\\n"),
    )


def _mismatch_facts(result: CaseResult) -> tuple[Fact, ...]:
    return (
        ("case", str(result.case)),
        *_share_facts(result.shares),
        *_findings(result.findings),
        *_failures(result.failures),
    )


def _share_facts(shares: tuple[Share, ...]) -> list[Fact]:
    """Say everything of the worst share, and of the others what share of their bound they took."""
    worst = words.worst_share(shares)
    if worst is None:
        return []
    others = [share for share in shares if share is not worst]
    beyond = [_brief(share) for share in others if not share.share <= 1]
    within = [_brief(share) for share in others if share.share <= 1]
    facts = [
        ("quantity", words.QUANTITIES[worst.quantity]),
        ("rank", "all, reduced" if worst.rank is None else str(worst.rank)),
        ("index", str(list(worst.index)) if worst.index else ""),
        ("expected", words.exact(worst.expected)),
        ("observed", words.exact(worst.observed)),
        ("error", words.exact(worst.error)),
        ("bound", words.exact(worst.bound)),
        ("share", f"{words.share(worst.share)} of the bound"),
        ("note", words.one_line(worst.note)),
        ("beyond too", ", ".join(beyond)),
        ("within", ", ".join(within)),
    ]
    return [fact for fact in facts if fact[1]]


def _brief(share: Share) -> str:
    return f"{words.QUANTITIES[share.quantity]} {words.share(share.share)}"


def _findings(findings: Sequence[Finding]) -> list[Fact]:
    said = [("finding", f"{words.one_line(finding.name)}: {words.one_line(finding.detail)}") for finding in findings]
    return _bounded(said, FINDINGS_SHOWN, "finding")


def _failures(failures: Sequence[RankFailure]) -> list[Fact]:
    """Say what each rank did, those to blame first."""
    ordered = sorted(failures, key=lambda failure: (not failure.blamed, failure.rank))
    said = [(f"rank {failure.rank}", _happened(failure)) for failure in ordered]
    return _bounded(said, RANKS_SHOWN, "rank")


def _happened(failure: RankFailure) -> str:
    suffers = "" if failure.blamed else " (only suffers from another rank's failure)"
    return f"{failure.kind}{suffers}: {words.one_line(failure.detail)}"


def _verbatim(failures: Sequence[RankFailure]) -> tuple[Verbatim, ...]:
    """Show traceback and output of the ranks to blame, or of all where none is, within bounds."""
    told = [failure for failure in failures if failure.blamed] or failures
    texts = [text for failure in told[:RANKS_SHOWN] for text in (_trace(failure), _output(failure))]
    return tuple(text for text in texts if text.text)


def _trace(failure: RankFailure) -> Verbatim:
    """Show the end of the trace that says most: an exception's last lines, the first ones of a stack."""
    if failure.kind == "raised":
        return Verbatim(f"traceback of rank {failure.rank}", words.last_lines(failure.traceback, TRACEBACK_LINES))
    return Verbatim(f"stack of rank {failure.rank}", words.first_lines(failure.traceback, TRACEBACK_LINES))


def _output(failure: RankFailure) -> Verbatim:
    return Verbatim(f"last output of rank {failure.rank}", words.last_lines(failure.stderr_tail, STDERR_LINES))


def _bounded(facts: list[Fact], limit: int, noun: str) -> list[Fact]:
    more = len(facts) - limit
    return facts if more <= 0 else [*facts[:limit], (f"{noun}s", f"{more} more, in report.json")]


# ------------------------------------------------------------------ everything else
def about(loss: LossResult) -> list[Fact]:
    """Say where a loss is and by what convention it counts."""
    said = [("target", words.one_line(loss.target)), ("declared", words.one_line(loss.declared))]
    return [(name, value) for name, value in said if value and not words.one_line(loss.name).startswith(value)]


def left_out(loss: LossResult) -> list[Fact]:
    """Say what was not checked on a loss, and why."""
    return [(words.one_line(item.what), words.one_line(item.why)) for item in loss.left_out]


def settings(report: Report) -> list[Fact]:
    """Say the effective settings."""
    return [(words.one_line(name), words.one_line(value)) for name, value in report.settings.items()]


def environment(report: Report) -> list[Fact]:
    """Say versions and machine, and when the run began."""
    said = [(words.one_line(name), words.one_line(value)) for name, value in report.environment.items()]
    return [*said, ("started", words.one_line(report.started_at))]


def summary(report: Report) -> str:
    """Say how long it took, and how fast it was."""
    rate = words.rate(report.cases, report.elapsed_s)
    return f"{words.plural(report.cases, 'case')} in {words.seconds(report.elapsed_s)}, {rate}"
