"""What one step sent, in totals a rank, beside what it should have sent.

Here: one row of the message table from one step's events. Not here: whether they are right (`messages`,
`conformance`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from siglip_verify.case import Case, itemsize
from siglip_verify.check.ledger import tally
from siglip_verify.plan import Operation, Plan, PlannedEvent, least_payload_bytes, plan
from siglip_verify.records import Event, WireCount
from siglip_verify.result import MessageRow

# Why a loss that is right may send other operations than our exchange of the same name does.
DIFFERENCES = {
    "scatter": "gradients go back by one rooted scatter a rank, in turn, where one collective would do",
    "reduce_scatter": "gradients go back by a reduce-scatter, which gloo runs as an all-reduce of twice the bytes",
    "all_reduce": "gradients go back by an all-reduce of all blocks, of which each rank needs one",
    "broadcast": "blocks travel by broadcasts, one a rank, in turn",
}


def planned_step(case: Case) -> Plan:
    """Return the plan of our own loss for a case."""
    return plan(
        case.exchange,
        case.world_size,
        case.batch,
        case.dim,
        itemsize(case.dtype),
        image_grad=case.frozen != "image",
        text_grad=case.frozen != "text",
    )


def message_row(case: Case, events: Sequence[Event], wire: Sequence[WireCount] | None) -> MessageRow:
    """Total one step a rank: what was planned, counted and measured, each as the maximum over ranks.

    Args:
        case: The step.
        events: What all ranks posted.
        wire: What the kernel says they sent; None where it does not say.
    """
    planned = planned_step(case)
    expected = [event for rank in range(case.world_size) for event in planned.events(rank)]
    forward = [event.hop for event in events if event.phase == "forward"]
    bound = least_payload_bytes(planned, "forward") + least_payload_bytes(planned, "backward")
    return MessageRow(
        exchange=case.exchange,
        world_size=case.world_size,
        batch=case.batch,
        dim=case.dim,
        dtype=case.dtype,
        planned_messages=_most(expected, messages=True),
        planned_collectives=_most(expected, messages=False),
        planned_payload_bytes=_most_bytes(expected),
        counted_messages=_most(events, messages=True),
        counted_collectives=_most(events, messages=False),
        counted_payload_bytes=_most_bytes(events),
        counted_hops=max(forward, default=-1) + 1,
        wire_bytes=None if wire is None else max(_by_rank(wire).values(), default=0),
        lower_bound_bytes=bound,
        operations=operations(events),
        note=_difference(expected, events),
    )


def operations(events: Iterable[Operation]) -> str:
    """Write what rank 0 posted in words, such as `forward 2 send, 2 recv; backward 1 all_to_all`."""
    counted = tally((event for event in events if event.rank == 0), "phase", "kind")
    phases = [
        phase + " " + ", ".join(f"{found.operations} {kind}" for (of, kind), found in counted.items() if of == phase)
        for phase in ("forward", "backward")
        if any(of == phase for of, _ in counted)
    ]
    return "; ".join(phases) or "nothing"


def _difference(expected: Sequence[PlannedEvent], events: Sequence[Event]) -> str:
    """Say how the operations differ from our exchange's, and why where that is known; empty if they do not."""
    ours, theirs = tally(expected, "phase", "kind"), tally(events, "phase", "kind")
    if ours == theirs:
        return ""
    other = [kind for _, kind in theirs.keys() - ours.keys()]
    why = "; ".join(DIFFERENCES[kind] for kind in other if kind in DIFFERENCES)
    return f"ours: {operations(expected)}" + (f" ({why})" if why else "")


def _sent(events: Iterable[Operation]) -> list[Operation]:
    return [event for event in events if event.kind != "recv"]


def _most(events: Iterable[Operation], *, messages: bool) -> int:
    chosen = [event for event in _sent(events) if (event.kind == "send") == messages]
    return max((total.operations for total in tally(chosen, "rank").values()), default=0)


def _most_bytes(events: Iterable[Operation]) -> int:
    return max((total.payload_bytes for total in tally(_sent(events), "rank").values()), default=0)


def _by_rank(wire: Iterable[WireCount]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for count in wire:
        totals[count.rank] = totals.get(count.rank, 0) + count.wire_bytes
    return totals
