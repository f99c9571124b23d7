"""One step in totals: a rank's operations and bytes, bytes from rank to rank, collectives as ring messages.

Here: sums over one step's record. Not here: one row for each step (`counts`), and what is right or wrong (`messages`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from siglip_verify.checks.counts import handed_over
from siglip_verify.checks.ledger import MESSAGE_KINDS
from siglip_verify.plan import gloo_wire_bytes, modelled_messages
from siglip_verify.records import Event, Phase, WireCount
from siglip_verify.result import CollectiveRow, RankTotal, StepMessages

_PHASES: tuple[Phase, ...] = ("forward", "backward")


def rank_totals(step: StepMessages) -> tuple[RankTotal, ...]:
    """Add up what each rank posted and what its sockets sent, forward and backward together."""
    return tuple(_total(step, rank) for rank in range(step.case.world_size))


def _total(step: StepMessages, rank: int) -> RankTotal:
    events = [event for event in step.events if event.rank == rank]
    wire = None if step.wire is None else [count for count in step.wire if count.rank == rank]
    kinds = Counter(event.kind for event in events)
    return RankTotal(
        rank=rank,
        sends=kinds["send"],
        receives=kinds["recv"],
        collectives=sum(number for kind, number in kinds.items() if kind not in MESSAGE_KINDS),
        payload_bytes=sum(handed_over(event) for event in events),
        wire_bytes=None if wire is None else sum(count.wire_bytes for count in wire),
        segments=None if wire is None else sum(count.segments for count in wire),
        modelled_wire_bytes=_modelled_wire(events, step.case.world_size),
    )


def _modelled_wire(events: Iterable[Event], world_size: int) -> int | None:
    try:
        return sum(sum(gloo_wire_bytes(event, world_size).values()) for event in events)
    except ValueError:  # an operation of a kind that was not measured: nothing can be said of the sum
        return None


def wire_matrix(wire: Iterable[WireCount], world_size: int) -> tuple[tuple[int, ...], ...]:
    """Add up the bytes that each rank's sockets (row) sent to each rank (column) in both phases."""
    matrix = [[0] * world_size for _ in range(world_size)]
    for count in wire:
        matrix[count.rank][count.peer] += count.wire_bytes
    return tuple(tuple(row) for row in matrix)


def collective_rows(step: StepMessages) -> tuple[CollectiveRow, ...]:
    """List the collectives that rank 0 calls, by phase and kind, with what a ring algorithm would send for them."""
    own = [event for event in step.events if event.rank == 0 and event.kind not in MESSAGE_KINDS]
    keys = sorted({(_PHASES.index(event.phase), event.kind) for event in own})
    return tuple(
        _collective_row(step, _PHASES[phase], kind, [e for e in own if (e.phase, e.kind) == (_PHASES[phase], kind)])
        for phase, kind in keys
    )


def _collective_row(step: StepMessages, phase: Phase, kind: str, calls: Sequence[Event]) -> CollectiveRow:
    try:
        ring = [modelled_messages(kind, step.case.world_size, call.payload_bytes) for call in calls]
    except ValueError:  # a rooted collective: what a rank sends depends on the root
        ring = None
    return CollectiveRow(
        exchange=step.case.exchange,
        phase=phase,
        kind=kind,
        calls=len(calls),
        payload_bytes=max(call.payload_bytes for call in calls),
        ring_messages=None if ring is None else sum(each.messages for each in ring),
        ring_bytes=None if ring is None else round(sum(each.sent_bytes for each in ring)),
    )
