"""One step's messages as JSON lines: one event a line, in the order in which they were posted.

docs/messages.md describes the fields; `messages.schema.json` beside this module is their JSON Schema.
`python -m siglip_verify.report.jsonl` writes that schema anew after a change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from siglip_verify.records import Event, Phase
from siglip_verify.result import StepMessages

PATH = Path(__file__).with_name("messages.schema.json")
SCHEMA_VERSION = 1

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class OtherEnd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The event at the other end of a message."""

    rank: _Count
    sequence: _Count


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One communication operation of one rank.

    Attributes:
        step: The step, as a case line (`siglip-verify replay` takes it).
        rank: The rank that posted it.
        sequence: 0, 1, 2 ... in the order in which the rank posted; (rank, sequence) is the event's name in the step.
        phase: forward or backward.
        hop: Index, within the phase, of the group of operations that the rank posted together.
        kind: send, recv, a collective such as all_gather, or unknown.
        op: The dispatcher's name of the operation.
        group: The process group; src and dst are ranks of it.
        src: Sending rank, or root of a rooted collective; null where there is none, or a receive takes from anyone.
        dst: Receiving rank of a send or recv, else null.
        tag: Tag of a send or recv, else null.
        dtype: Such as float32.
        shape: Shape of what is handed over.
        payload_bytes: numel x itemsize of what is handed over; for recv, of the buffer.
        posted_s: Seconds from the step's first operation until this one was posted.
        returned_s: Seconds until waiting for it returned; null where that was not seen.
        other_end: For a send the receive that took it, for a recv the send that filled it; null where there is none.
    """

    step: str
    rank: _Count
    sequence: _Count
    phase: Phase
    hop: _Count
    kind: str
    op: str
    group: str
    src: _Count | None
    dst: _Count | None
    tag: int | None
    dtype: str
    shape: tuple[_Count, ...]
    payload_bytes: _Count
    posted_s: _Seconds
    returned_s: _Seconds | None
    other_end: OtherEnd | None


def dump(step: StepMessages | None) -> bytes:
    """Write every event of a step as one line of JSON; nothing where no step was counted."""
    return b"" if step is None else b"".join(msgspec.json.encode(line) + b"\n" for line in lines(step))


def lines(step: StepMessages) -> Iterator[Line]:
    """List the events of a step in the order in which they were posted, over all ranks."""
    ends: dict[tuple[int, int], OtherEnd] = {}
    for match in step.matches:
        ends[match.src_rank, match.src_sequence] = OtherEnd(rank=match.dst_rank, sequence=match.dst_sequence)
        ends[match.dst_rank, match.dst_sequence] = OtherEnd(rank=match.src_rank, sequence=match.src_sequence)
    in_time = sorted(step.events, key=lambda event: (event.posted_s, event.rank, event.sequence))
    for event in in_time:
        yield _line(str(step.case), event, in_time[0].posted_s, ends.get((event.rank, event.sequence)))


def _line(step: str, event: Event, start_s: float, other_end: OtherEnd | None) -> Line:
    return Line(
        step=step,
        rank=event.rank,
        sequence=event.sequence,
        phase=event.phase,
        hop=event.hop,
        kind=event.kind,
        op=event.op,
        group=event.group,
        src=event.src,
        dst=event.dst,
        tag=event.tag,
        dtype=event.dtype,
        shape=event.shape,
        payload_bytes=event.payload_bytes,
        posted_s=round(event.posted_s - start_s, 9),
        returned_s=None if event.returned_s is None else round(event.returned_s - start_s, 9),
        other_end=other_end,
    )


def schema() -> dict[str, object]:
    """Derive the schema of one line: a closed object, every field required."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"siglip_verify messages.jsonl, one line, schema version {SCHEMA_VERSION}",
        **msgspec.json.schema(Line),
    }


def text() -> bytes:
    """Write the schema as it is shipped."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


if __name__ == "__main__":
    PATH.write_bytes(text())
