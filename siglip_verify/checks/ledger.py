"""The ledger: the operations of all ranks in one step, matched and counted.

Here: pairing sends with receives, totals by any of an operation's fields, bytes from rank to rank. Not here: what is
right or wrong about them (`messages`, `deadlock`). `tally` and `byte_matrix` take planned operations too, so that a
report puts plan and record side by side.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import msgspec

from siglip_verify.plan import Operation
from siglip_verify.records import Event

By = Literal["rank", "phase", "hop", "kind", "src", "dst"]
MESSAGE_KINDS = frozenset({"send", "recv"})


class Tally(NamedTuple):
    """How many operations, and the payload bytes that they hand over."""

    operations: int
    payload_bytes: int


class Matching(msgspec.Struct, frozen=True, kw_only=True):
    """Which receive takes which send.

    Attributes:
        pairs: (send, receive), in the order of the sends of each rank.
        lone_sends: Sends that no receive takes.
        lone_receives: Receives that no send fills.
    """

    pairs: tuple[tuple[Event, Event], ...]
    lone_sends: tuple[Event, ...]
    lone_receives: tuple[Event, ...]


def describe(event: Event) -> str:
    """Write an operation in words: when, what, how much, with whom."""
    peer = {"send": f" to rank {event.dst}", "recv": f" from rank {event.src}"}.get(event.kind, "")
    kind = f"{event.kind} {event.op}" if event.kind == "unknown" else event.kind
    tag = f" with tag {event.tag}" if event.tag else ""
    return f"{event.phase} hop {event.hop} {kind} of {event.payload_bytes} bytes {event.dtype}{peer}{tag}"


def in_order(events: Iterable[Event]) -> list[Event]:
    """Sort the events of one step by rank, and each rank's in the order in which it posted them.

    Raises:
        ValueError: A rank has two operations of one sequence number: these are not the events of one step.
    """
    ordered = sorted(events, key=lambda event: (event.rank, event.sequence))
    for former, latter in pairwise(ordered):
        if (former.rank, former.sequence) == (latter.rank, latter.sequence):
            raise ValueError(
                f"in the events of one step each rank has each sequence number once; got rank={latter.rank} "
                f"sequence={latter.sequence} twice: judge each step alone"
            )
    return ordered


def match(events: Iterable[Event]) -> Matching:
    """Match every send with its receive: first in, first out, on each (group, source, destination, tag).

    That is the order in which the transport delivers. A receive from any source takes, once all others have theirs, the
    earliest send left over on its destination and tag.
    """
    ordered = in_order(events)
    sends: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    receives: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    for event in ordered:
        if event.kind in MESSAGE_KINDS:
            (sends if event.kind == "send" else receives)[event.group, event.src, event.dst, event.tag].append(event)
    taken = {
        (send.rank, send.sequence): receive
        for channel, posted in sends.items()
        for send, receive in zip(posted, receives[channel], strict=False)
    }
    _take_from_any_source(ordered, taken)
    filled = {(receive.rank, receive.sequence) for receive in taken.values()}
    all_sends = [event for event in ordered if event.kind == "send"]
    return Matching(
        pairs=tuple((send, taken[_id(send)]) for send in all_sends if _id(send) in taken),
        lone_sends=tuple(send for send in all_sends if _id(send) not in taken),
        lone_receives=tuple(event for event in ordered if event.kind == "recv" and _id(event) not in filled),
    )


def _take_from_any_source(ordered: list[Event], taken: dict[tuple[int, int], Event]) -> None:
    for receive in ordered:
        if receive.kind == "recv" and receive.src is None:
            left_over = [
                send
                for send in ordered
                if send.kind == "send"
                and _id(send) not in taken
                and (send.group, send.dst, send.tag) == (receive.group, receive.dst, receive.tag)
            ]
            if left_over:
                taken[_id(min(left_over, key=lambda send: send.posted_s))] = receive


def _id(event: Event) -> tuple[int, int]:
    return event.rank, event.sequence


def partners(event: Event, events: Iterable[Event], world_size: int) -> set[int]:
    """Return the ranks that may be at the other end of a send or receive: one, wherever that can be told.

    Events carry the rank in the world, but src and dst are ranks of the group. The other end's own messages in that
    group tell which rank it is; where it has none, a rank is called the same in world and group if only one group is
    in use and nothing speaks against it, and else may be any rank not yet told. A receive from any source has all.
    """
    listed = list(events)
    far_end = event.dst if event.kind == "send" else event.src
    told = {
        other.src if other.kind == "send" else other.dst: other.rank
        for other in listed
        if other.kind in MESSAGE_KINDS and other.group == event.group
    }
    if far_end is None:
        return set(range(world_size)) - {event.rank}
    if far_end in told:
        return {told[far_end]}
    one_group = len({other.group for other in listed}) == 1
    if one_group and all(end == rank for end, rank in told.items()):
        return {far_end}
    return set(range(world_size)) - set(told.values())


def collectives(events: Iterable[Event], world_size: int) -> list[dict[int, list[Event]]]:
    """List what each rank issues of collectives, in order, for each group.

    Where one group is in use all ranks belong to it, those that issue nothing included; where several are, a group's
    ranks are those that use it. An operation of unknown kind is left out.
    """
    ordered = in_order(events)
    groups = sorted({event.group for event in ordered})
    listed: list[dict[int, list[Event]]] = []
    for group in groups:
        used = [event for event in ordered if event.group == group]
        members = {event.rank for event in used} if len(groups) > 1 else range(world_size)
        listed.append({rank: [] for rank in sorted(members)})
        for event in used:
            if event.kind not in MESSAGE_KINDS | {"unknown"}:
                listed[-1][event.rank].append(event)
    return listed


def tally(operations: Iterable[Operation], *by: By) -> dict[tuple[Any, ...], Tally]:
    """Count operations and payload bytes by any of their fields, as in `tally(events, "phase", "hop", "kind")`.

    A message is handed over twice, by its send and by its receive's buffer: count by kind, or pass sends alone, where
    bytes are to be added up.
    """
    operations_by: Counter[tuple[Any, ...]] = Counter()
    bytes_by: Counter[tuple[Any, ...]] = Counter()
    for operation in operations:
        key = tuple(getattr(operation, name) for name in by)
        operations_by[key] += 1
        bytes_by[key] += operation.payload_bytes
    return {key: Tally(number, bytes_by[key]) for key, number in operations_by.items()}


def byte_matrix(operations: Iterable[Operation], world_size: int) -> tuple[tuple[int, ...], ...]:
    """Add up the payload bytes of the messages from each rank (row) to each rank (column).

    Only sends count: what a collective moves between two ranks is for its algorithm to choose. Of a loss that uses
    several groups, pass one group's operations: src and dst are ranks of the group. A send to a rank that there is not
    is left out; `messages.lint` names it.
    """
    matrix = [[0] * world_size for _ in range(world_size)]
    for operation in operations:
        src, dst = operation.src, operation.dst
        if operation.kind != "send" or src is None or dst is None:
            continue
        if 0 <= src < world_size and 0 <= dst < world_size:
            matrix[src][dst] += operation.payload_bytes
    return tuple(tuple(row) for row in matrix)
