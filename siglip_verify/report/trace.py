"""One step's messages as a trace for Perfetto (ui.perfetto.dev) and other readers of the Chrome trace format.

A process for each rank. Its first track holds nested slices: phases, in them hops, in them operations. Operations that
overlap one another, as all of a batch do, get further tracks. An arrow runs from each send to the receive that took it.
Times are those of the records, in whole microseconds from the step's first operation, so that nesting is exact.

Here: the format. Not here: the events as data (`jsonl`).

Source: "Trace Event Format" of the Chromium project, events M (a name), X (a slice), s and f (the ends of an arrow).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from siglip_verify.report.jsonl import Line, lines
from siglip_verify.result import StepMessages

TraceEvent = dict[str, Any]
_TRACKS_A_RANK = 1000


class Slice(NamedTuple):
    """A stretch of time on a track of a rank, in microseconds from the step's first operation."""

    rank: int
    track: int
    start: int
    end: int
    name: str
    category: str
    args: dict[str, Any]


class Hop(NamedTuple):
    """One hop of one rank: from its first operation until the last one returned or the next hop began."""

    start: int
    end: int
    phase: str
    number: int
    operations: list[Line]


def dump(step: StepMessages | None) -> bytes:
    """Write a step as a Chrome trace, one event a line; a trace without events where no step was counted."""
    events = [] if step is None else [msgspec.json.encode(event) for event in trace_events(step)]
    about = msgspec.json.encode({} if step is None else {"step": str(step.case)})
    return b'{"displayTimeUnit":"ns","otherData":%b,"traceEvents":[\n%b\n]}\n' % (about, b",\n".join(events))


def trace_events(step: StepMessages) -> Iterator[TraceEvent]:
    """List the names of ranks and tracks, then the slices, outer ones first, then the arrows."""
    posted = sorted(lines(step), key=lambda line: (line.rank, line.sequence))
    end = max((_end(line) or _start(line) for line in posted), default=0)
    slices: list[Slice] = []
    drawn: dict[tuple[int, int], Slice] = {}
    for rank, own in groupby(posted, key=lambda line: line.rank):
        hops = _hops(list(own), end)
        slices += [*_phases(rank, hops), *(_hop_slice(rank, hop) for hop in hops)]
        drawn |= _operations(hops, end)
    slices += drawn.values()
    yield from _names(slices)
    for slice_ in slices:
        yield _slice_event(slice_)
    for number, line in enumerate(line for line in posted if line.kind == "send" and line.other_end is not None):
        assert line.other_end is not None
        receive = drawn[line.other_end.rank, line.other_end.sequence]
        yield from _arrow(number, drawn[line.rank, line.sequence], receive)


# ------------------------------------------------------------------ when
def _start(line: Line) -> int:
    return round(line.posted_s * 1e6)


def _end(line: Line) -> int | None:
    return None if line.returned_s is None else round(line.returned_s * 1e6)


def _hops(own: Sequence[Line], step_end: int) -> list[Hop]:
    """Cut one rank's operations, in the order of posting, into hops that do not overlap."""
    groups = [list(posted) for _, posted in groupby(own, key=lambda line: (line.phase, line.hop))]
    starts = [_start(posted[0]) for posted in groups]
    ends = [max(step_end if (end := _end(line)) is None else end for line in posted) for posted in groups]
    return [
        Hop(start, min(end, following), posted[0].phase, posted[0].hop, posted)
        for start, end, following, posted in zip(starts, ends, [*starts[1:], step_end], groups, strict=True)
    ]


# ------------------------------------------------------------------ slices
def _phases(rank: int, hops: Sequence[Hop]) -> Iterator[Slice]:
    for phase, run in groupby(hops, key=lambda hop: hop.phase):
        within = list(run)
        yield Slice(rank, 0, within[0].start, within[-1].end, phase, "phase", {"hops": len(within)})


def _hop_slice(rank: int, hop: Hop) -> Slice:
    handed = sum(line.payload_bytes for line in hop.operations if line.kind != "recv")
    args = {"operations": len(hop.operations), "payload_bytes": handed}
    return Slice(rank, 0, hop.start, hop.end, f"{hop.phase} hop {hop.number}", "hop", args)


def _operations(hops: Sequence[Hop], step_end: int) -> dict[tuple[int, int], Slice]:
    """Draw one rank's operations, each on the first track where it overlaps none; on the first, within its hop."""
    drawn: dict[tuple[int, int], Slice] = {}
    free_from = [0]  # of each track
    for hop in hops:
        for line in hop.operations:
            start, end = _start(line), _end(line)
            shown_end = step_end if end is None else end
            track = next(
                (n for n, free in enumerate(free_from) if free <= start and (n or shown_end <= hop.end)),
                len(free_from),
            )
            free_from[track : track + 1] = [shown_end]
            args = {"payload_bytes": line.payload_bytes, "dtype": line.dtype, "shape": list(line.shape), "op": line.op}
            args |= {"sequence": line.sequence, "returned": end is not None}
            name = _operation_name(line)
            drawn[line.rank, line.sequence] = Slice(line.rank, track, start, shown_end, name, "operation", args)
    return drawn


def _operation_name(line: Line) -> str:
    peer = {"send": f" to {line.dst}", "recv": f" from {line.src}"}.get(line.kind, "")
    return f"{line.op} (unknown)" if line.kind == "unknown" else f"{line.kind}{peer}"


# ------------------------------------------------------------------ the format
def _ids(rank: int, track: int) -> dict[str, int]:
    """Number processes and threads from 1: readers take 0 for the idle process."""
    return {"pid": rank + 1, "tid": (rank + 1) * _TRACKS_A_RANK + track}


def _names(slices: Sequence[Slice]) -> Iterator[TraceEvent]:
    for rank in sorted({slice_.rank for slice_ in slices}):
        yield {"ph": "M", "name": "process_name", **_ids(rank, 0), "args": {"name": f"rank {rank}"}}
        yield {"ph": "M", "name": "process_sort_index", **_ids(rank, 0), "args": {"sort_index": rank}}
    for rank, track in sorted({(slice_.rank, slice_.track) for slice_ in slices}):
        name = "phases, hops, operations" if track == 0 else f"operations beside, {track}"
        yield {"ph": "M", "name": "thread_name", **_ids(rank, track), "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", **_ids(rank, track), "args": {"sort_index": track}}


def _slice_event(slice_: Slice) -> TraceEvent:
    return {
        "ph": "X",
        "name": slice_.name,
        "cat": slice_.category,
        **_ids(slice_.rank, slice_.track),
        "ts": slice_.start,
        "dur": slice_.end - slice_.start,
        "args": slice_.args,
    }


def _arrow(number: int, send: Slice, receive: Slice) -> Iterator[TraceEvent]:
    """Draw an arrow from where the send was posted to just before the receive returned, within its slice."""
    common = {"name": "message", "cat": "message", "id": number + 1}
    arrived = max(receive.start, receive.end - 1)
    yield {"ph": "s", **common, **_ids(send.rank, send.track), "ts": send.start}
    yield {"ph": "f", "bp": "e", **common, **_ids(receive.rank, receive.track), "ts": arrived}
