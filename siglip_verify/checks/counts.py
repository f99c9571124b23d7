"""What one step sent, in totals a rank, beside what it should have sent.

Here: one row of the message table from one step's events. Not here: whether they are right (`messages`,
`conformance`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from siglip_verify.case import Case
from siglip_verify.checks.form import Form, planned_step
from siglip_verify.checks.ledger import tally
from siglip_verify.plan import Operation, PlannedEvent, least_payload_bytes
from siglip_verify.records import Event, WireCount
from siglip_verify.result import MessageRow

# Why a loss that is right may post other operations than our exchange of the same name does.
DIFFERENCES: dict[tuple[str, str], str] = {
    ("backward", "scatter"): (
        "torch.distributed.nn brings an all-gather's gradients home on gloo by one rooted scatter a rank, each waited "
        "for before the next: the payload and the wire bytes of our one all_to_all, in W rounds"
    ),
    ("backward", "reduce_scatter"): (
        "gradients go home by a reduce-scatter, which gloo runs as an all-reduce of all W blocks: twice the wire bytes "
        "that it needs, on gloo alone"
    ),
    (
        "backward",
        "all_reduce",
    ): "gradients go home by an all-reduce, which brings every rank the sum that one of them needs",
    ("backward", "broadcast"): "gradients travel by rooted broadcasts, one a rank",
    ("forward", "broadcast"): "texts travel by rooted broadcasts, one a rank",
    ("forward", "all_reduce"): "texts travel by all-reduces",
    ("forward", "barrier"): "ranks wait for each other by a barrier",
    ("backward", "barrier"): "ranks wait for each other by a barrier",
}
_FROM_ROOT = frozenset({"scatter", "broadcast"})


def message_row(
    case: Case,
    events: Sequence[Event],
    wire: Sequence[WireCount] | None,
    *,
    form: Form | None = None,
    has_plan: bool = True,
) -> MessageRow:
    """Total one step a rank: what was planned, counted and measured, each as the maximum over ranks.

    Args:
        case: The step.
        events: What all ranks posted.
        wire: What the kernel says they sent; None where it does not say.
        form: The form of our loss; None is the default one, which other losses are held against too.
        has_plan: Whether our exchange of that name is what the loss is held against; False for a loss that was not
            told which exchange to use.
    """
    planned = planned_step(case, form or Form())
    expected = [event for rank in range(case.world_size) for event in planned.events(rank)]
    forward = [event.hop for event in events if event.phase == "forward"]
    bound = least_payload_bytes(planned, "forward") + least_payload_bytes(planned, "backward")
    return MessageRow(
        exchange=case.exchange,
        world_size=case.world_size,
        batch=case.batch,
        dim=case.dim,
        dtype=case.dtype,
        planned_messages=_most(expected, messages=True) if has_plan else None,
        planned_collectives=_most(expected, messages=False) if has_plan else None,
        planned_payload_bytes=_most_bytes(expected) if has_plan else None,
        counted_messages=_most(events, messages=True),
        counted_collectives=_most(events, messages=False),
        counted_payload_bytes=_most_bytes(events),
        counted_hops=max(forward, default=-1) + 1,
        wire_bytes=None if wire is None else max(_by_rank(wire).values(), default=0),
        lower_bound_bytes=bound,
        operations=operations(events),
        note=_difference(expected, events) if has_plan else "",
    )


def handed_over(operation: Operation) -> int:
    """Return the payload bytes that an operation's rank gives away; none where it only receives."""
    receives = operation.kind == "recv" or (operation.kind in _FROM_ROOT and operation.src != operation.rank)
    return 0 if receives else operation.payload_bytes


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
    """Say how what is handed over differs from our exchange's, and why where that is known; empty if it does not."""
    ours, theirs = _calls(expected), _calls(events)
    if ours == theirs:
        return ""
    if {place: number for place, (number, _) in ours.items()} == {place: n for place, (n, _) in theirs.items()}:
        handed, planned = (sum(each for _, each in calls.values()) for calls in (theirs, ours))
        return f"the operations of ours with other payloads: {handed:,} bytes over all ranks where ours has {planned:,}"
    why = [DIFFERENCES[place] for place in theirs if place not in ours and place in DIFFERENCES]
    said = f"ours: {operations(expected)}"
    return f"{said}. Theirs: {'; '.join(why)}" if why else said


def _calls(operations: Iterable[Operation]) -> dict[tuple[str, str], tuple[int, int]]:
    """Count by phase and kind, over all ranks: calls, and the bytes that they hand over."""
    listed = list(operations)
    return {
        key: (total.operations, sum(handed_over(each) for each in listed if (each.phase, each.kind) == key))
        for key, total in tally(listed, "phase", "kind").items()
    }


def _most(events: Iterable[Operation], *, messages: bool) -> int:
    chosen = [event for event in events if event.kind != "recv" and (event.kind == "send") == messages]
    return max((total.operations for total in tally(chosen, "rank").values()), default=0)


def _most_bytes(events: Iterable[Operation]) -> int:
    by_rank: Counter[int] = Counter()
    for event in events:
        by_rank[event.rank] += handed_over(event)
    return max(by_rank.values(), default=0)


def _by_rank(wire: Iterable[WireCount]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for count in wire:
        totals[count.rank] = totals.get(count.rank, 0) + count.wire_bytes
    return totals
