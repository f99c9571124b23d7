"""One function for each part of the report on one step's messages: from the finished result to blocks of text.

Here: which figures are shown, in which order, under which names. Not here: how a block looks (`console`), and the step
as a file (`jsonl`, `trace`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from siglip_verify.records import Event, Phase
from siglip_verify.report import sections, words
from siglip_verify.report.blocks import Column, Entry, Fact, Table, Value
from siglip_verify.result import CollectiveRow, GatherBackwardCost, MessageReport, RankTotal, StepMessages

ROWS_SHOWN = 64
RANKS_IN_A_MATRIX = 12
_MESSAGES = ("send", "recv")


def headline(report: MessageReport) -> str:
    """Say the verdict on the messages, and which step it is about, in one sentence."""
    case, recorded = report.step.case, words.plural(len(report.step.events), "operation")
    where = f"one step of {case.exchange} at W = {case.world_size}"
    match report.verdict:
        case "pass":
            matched = f"{words.plural(len(report.step.matches), 'message')} matched, nothing found"
            return f"PASS: {recorded} in {where}, {matched}; numbers are not judged here"
        case "mismatch":
            return f"MISMATCH: {', '.join(_found(report))}; {recorded} recorded in {where}"
        case "unknown":
            failed = next(each.case for each in (report.step, *report.wrong_beside) if each.failures)
            return f"UNKNOWN: {failed.exchange} at W = {failed.world_size} did not end; {recorded} recorded in {where}"


def _found(report: MessageReport) -> list[str]:
    """Name the findings of each step that has some."""
    return [
        f"{', '.join(dict.fromkeys(words.one_line(found.name) for found in step.findings))} in {step.case.exchange}"
        for step in (report.step, *report.wrong_beside)
        if step.findings
    ]


def wrong(report: MessageReport) -> list[Entry]:
    """Show for each step what was found, which rank failed and how, and which operations are not known."""
    entries: list[Entry] = []
    for step in (report.step, *report.wrong_beside):
        facts, verbatim = sections.what_went_wrong(step.findings, step.failures)
        facts += tuple(Fact("unknown-operation", words.one_line(note)) for note in step.notes)
        if facts:
            title = f"{step.case.exchange} at W = {step.case.world_size}: {step.verdict}"
            entries.append(Entry(title=title, tone=step.verdict, facts=facts, verbatim=verbatim))
    return entries


# ------------------------------------------------------------------ hop by hop
def hops(step: StepMessages) -> list[Table]:
    """Show for each phase who sends to whom, hop by hop; a hop is what a rank posts together."""
    phases: tuple[Phase, ...] = ("forward", "backward")
    return [table for phase in phases if (table := _phase(phase, [e for e in step.events if e.phase == phase]))]


def _phase(phase: Phase, events: Sequence[Event]) -> Table | None:
    if not events:
        return None
    ordered = sorted(events, key=lambda event: (event.hop, event.rank, event.sequence))
    by_hop = [_hop_rows(hop, list(posted)) for hop, posted in groupby(ordered, key=lambda event: event.hop)]
    shown = _within(by_hop, ROWS_SHOWN)
    left_out = len(by_hop) - len(shown)
    columns = _columns({event.kind for event in events})
    return Table(
        caption=f"{phase.capitalize()}, hop by hop: {words.plural(len(by_hop), 'hop')}.",
        columns=tuple(columns.values()),
        rows=tuple(tuple(row[name] for name in columns) for rows in shown for row in rows),
        notes=(f"{words.plural(left_out, 'more hop')}, in messages.jsonl",) if left_out else (),
    )


def _columns(kinds: set[str]) -> dict[str, Column]:
    """Return the columns that a phase of these kinds needs, by their key in a row."""
    columns = {"hop": Column("hop"), "rank": Column("rank", is_number=False)}
    if not kinds.isdisjoint(_MESSAGES):
        columns["to"] = Column("sends to", "rank", "counted", is_number=False)
        columns["from"] = Column("receives from", "rank", "counted", is_number=False)
    if not kinds.issubset(_MESSAGES):
        columns["collective"] = Column("collective", "", "counted", is_number=False)
    columns["each"] = Column("each", "payload B", "counted")
    columns["dtype"] = Column("dtype", is_number=False, is_extra=True)
    return columns | {"took": Column("took", "ms", "measured")}


def _within(by_hop: list[list[dict[str, Value]]], limit: int) -> list[list[dict[str, Value]]]:
    """Keep whole hops up to some rows, one hop at least."""
    kept, rows = 0, 0
    for hop in by_hop:
        rows += len(hop)
        if kept and rows > limit:
            break
        kept += 1
    return by_hop[:kept]


def _hop_rows(hop: int, events: list[Event]) -> list[dict[str, Value]]:
    """Write a hop rank by rank; as one row where all ranks issue the same collective."""
    ranks = {str(rank): list(posted) for rank, posted in groupby(events, key=lambda event: event.rank)}
    alike = {tuple((e.kind, e.src, e.dst, e.payload_bytes, e.dtype) for e in posted) for posted in ranks.values()}
    if len(ranks) > 1 and len(alike) == 1 and events[0].kind not in _MESSAGES:
        ranks = {f"{len(ranks)} ranks": events}
    return [
        {
            "hop": Value("" if index else str(hop)),
            "rank": Value(rank),
            "to": Value(_peers(event.dst for event in posted if event.kind == "send")),
            "from": Value(_peers(event.src for event in posted if event.kind == "recv")),
            "collective": Value(_distinct(_called(event) for event in posted if event.kind not in _MESSAGES)),
            "each": Value(_distinct(words.count(event.payload_bytes) for event in posted)),
            "dtype": Value(_distinct(words.one_line(event.dtype) for event in posted)),
            "took": _took(posted),
        }
        for index, (rank, posted) in enumerate(ranks.items())
    ]


def _called(event: Event) -> str:
    """Say the collective and its root; of an operation that the recorder does not know, its name."""
    name = words.one_line(event.op) if event.kind == "unknown" else words.one_line(event.kind)
    root = "" if event.src is None else f" from {event.src}"
    return name + root + (" (unknown)" if event.kind == "unknown" else "")


def _peers(ranks: Iterable[int | None]) -> str:
    return ", ".join("any" if rank is None else str(rank) for rank in ranks) or words.NOTHING


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts)) or words.NOTHING


def _took(events: Sequence[Event]) -> Value:
    """Say how long it was from the first post of a rank to its last return; the longest of several ranks."""
    if any(event.returned_s is None for event in events):
        return Value("not seen", "unknown")
    ranks = [list(posted) for _, posted in groupby(events, key=lambda event: event.rank)]
    longest_s = max(max(e.returned_s or 0.0 for e in posted) - posted[0].posted_s for posted in ranks)
    return Value(f"{longest_s * 1e3:.2f}")


# ------------------------------------------------------------------ in total
def totals(rows: Sequence[RankTotal]) -> Table:
    """Show what each rank does in the step, and what its sockets sent for it."""
    return Table(
        caption="Each rank, forward + backward.",
        columns=(
            Column("rank"),
            Column("sends", "", "counted"),
            Column("receives", "", "counted"),
            Column("collectives", "", "counted"),
            Column("handed over", "payload B", "counted"),
            Column("wire", "bytes", "measured"),
            Column("wire on gloo", "bytes", "modelled"),
            Column("segments", "", "measured", is_extra=True),
        ),
        rows=tuple(
            tuple(
                Value(words.count(value))
                for value in (
                    row.rank,
                    row.sends,
                    row.receives,
                    row.collectives,
                    row.payload_bytes,
                    row.wire_bytes,
                    row.modelled_wire_bytes,
                    row.segments,
                )
            )
            for row in rows
        ),
        notes=("On gloo a message of n bytes costs its sender n + 96 and its receiver 48; collectives are messages.",),
    )


def matrices(step: StepMessages) -> list[Table]:
    """Show bytes from rank to rank: payload of messages, and what the sockets sent."""
    shown = [("Payload bytes of messages from rank (row) to rank (column): counted.", step.payload_matrix)]
    if step.wire_matrix is not None:
        shown.append(("Bytes on the wire from rank (row) to rank (column): measured.", step.wire_matrix))
    return [_matrix(caption, values) for caption, values in shown if any(map(any, values))]


def _matrix(caption: str, values: Sequence[Sequence[int]]) -> Table:
    shown = range(min(len(values), RANKS_IN_A_MATRIX))
    left_out = len(values) - len(shown)
    return Table(
        caption=caption,
        columns=(Column("from"), *(Column(f"to {rank}") for rank in shown)),
        rows=tuple(
            (Value(str(src)), *(Value(words.count(values[src][dst] or None)) for dst in shown)) for src in shown
        ),
        notes=(f"{words.plural(left_out, 'more rank')}, in messages.jsonl",) if left_out else (),
    )


# ------------------------------------------------------------------ below the API
def collectives(rows: Sequence[CollectiveRow]) -> Table:
    """Show what the ring algorithms would send for the collectives, a rank."""
    return Table(
        caption="Collectives as messages of the ring algorithms (all_to_all: one to each other rank), one rank.",
        columns=(
            Column("exchange", is_number=False),
            Column("phase", is_number=False),
            Column("collective", is_number=False),
            Column("calls", "", "counted"),
            Column("each", "payload B", "counted"),
            Column("ring messages", "", "modelled"),
            Column("ring sends", "bytes", "modelled"),
        ),
        rows=tuple(
            (
                Value(row.exchange),
                Value(row.phase),
                Value(words.one_line(row.kind)),
                *(Value(words.count(n)) for n in (row.calls, row.payload_bytes, row.ring_messages, row.ring_bytes)),
            )
            for row in rows
        ),
        notes=("A dash: no ring algorithm, for what a rank sends depends on the root or is not known.",)
        if any(row.ring_bytes is None for row in rows)
        else (),
    )


def gather_backward(rows: Sequence[GatherBackwardCost]) -> Table:
    """Show what gather's backward costs on gloo by one collective or another, and why."""
    return Table(
        caption="What gather's backward costs each rank on gloo, by how gradients come home (one block is P bytes).",
        columns=(
            Column("by", is_number=False),
            Column("calls", "", "modelled"),
            Column("handed over", "payload B", "modelled"),
            Column("must send", "bytes", "modelled"),
            Column("wire", "bytes", "modelled"),
            Column("wire", "bytes", "measured"),
            Column("wire", "/ must", "measured"),
        ),
        rows=tuple(
            (
                Value(row.collective),
                *(
                    Value(words.count(n))
                    for n in (row.calls, row.payload_bytes, row.ring_bytes, row.modelled_wire_bytes, row.wire_bytes)
                ),
                Value(words.NOTHING if row.times_needed is None else f"{row.times_needed:.2f}"),
            )
            for row in rows
        ),
        notes=tuple(f"{row.collective}: {row.note}" for row in rows),
    )
