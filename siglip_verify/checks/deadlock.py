"""Who waits for whom: a ring of ranks in which each waits for the next is a deadlock.

Judges steps that did not end, from the operations that were recorded before each was posted. An operation that waits
in vain is a send or receive that found no partner, or a collective that another rank has not come to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from siglip_verify.checks.ledger import collectives, match, partners
from siglip_verify.records import Event, Finding


class Wait(NamedTuple):
    """One rank waits for another, in one operation of its own."""

    rank: int
    peer: int
    operation: Event


def deadlock(waits: Iterable[Wait]) -> Finding | None:
    """Find a ring of ranks that wait for each other, and say who waits in what.

    Args:
        waits: Every wait of every rank that never ended. A rank with several needs all of them to end.
    """
    by_rank: dict[int, Wait] = {}
    stuck = _stuck(list(waits))
    for wait in stuck:
        by_rank.setdefault(wait.rank, wait)
    if not by_rank:
        return None
    cycle = _cycle(by_rank)
    ring = " -> ".join(str(wait.rank) for wait in [*cycle, cycle[0]])
    each = "; ".join(f"rank {wait.rank} in {_where(wait.operation)} for rank {wait.peer}" for wait in cycle)
    return Finding(name="deadlock", rank=cycle[0].rank, detail=f"ranks {ring} wait for each other: {each}")


def _stuck(waits: list[Wait]) -> list[Wait]:
    """Drop the waits for ranks that do not wait themselves, until none is left to drop."""
    waiting = {wait.rank for wait in waits}
    kept = [wait for wait in waits if wait.peer in waiting]
    return kept if len(kept) == len(waits) else _stuck(kept)


def _cycle(by_rank: dict[int, Wait]) -> list[Wait]:
    """Follow the waits from the lowest rank; as each ends at a rank that waits too, the path comes round."""
    path = [by_rank[min(by_rank)]]
    while path[-1].peer not in (wait.rank for wait in path):
        path.append(by_rank[path[-1].peer])
    ranks = [wait.rank for wait in path]
    return path[ranks.index(path[-1].peer) :]


def _where(operation: Event) -> str:
    return f"{operation.kind} ({operation.phase} hop {operation.hop})"


def waits_of(events: Sequence[Event], world_size: int, waiting: Collection[int]) -> Iterator[Wait]:
    """List what the ranks `waiting` wait for in vain, given all that was posted when the step stopped."""
    matching = match(events)
    for event in (*matching.lone_sends, *matching.lone_receives):
        peers = partners(event, events, world_size)
        if event.rank in waiting and event.returned_s is None and len(peers) == 1:
            yield Wait(event.rank, peers.pop(), event)
    for group in collectives(events, world_size):
        for rank, issued in group.items():
            for index, event in enumerate(issued):
                if rank in waiting and event.returned_s is None:
                    yield from (Wait(rank, peer, event) for peer, others in group.items() if len(others) <= index)
