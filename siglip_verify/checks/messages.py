"""Lints: what is wrong with the messages of one step, whatever the loss.

Here: the names of all findings, and the lints. Not here: who receives what (`ledger`), rings of waiting ranks
(`deadlock`), and whether an exchange sent what it should (`conformance`).

A finding is a mismatch, even where the numbers came out right. Its name is stable; `FINDINGS` says what each means.
A step that did not end is judged with care: what a failed rank's record lacks, the rank may only not have reached. So
an absence is a finding only where the rank ended its step or that phase, or where ranks wait for each other in a ring.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from siglip_verify.checks.deadlock import deadlock, waits_of
from siglip_verify.checks.ledger import MESSAGE_KINDS, Matching, collectives, describe, in_order, match, partners
from siglip_verify.records import Event, Finding, RankFailure

FINDINGS: dict[str, str] = {
    "collective-order": "Ranks issue collectives of different kind or root, or not as many, in the same place.",
    "collective-size": "Ranks hand over different numbers of bytes in the same collective.",
    "deadlock": "Ranks wait for each other in a ring, so that none can go on.",
    "differs-from-plan": "An operation is not the one that the exchange's plan has in its place.",
    "dtype-differs": "The two ends of a message, or the ranks of a collective, hold different dtypes.",
    "narrow-wire": "A tensor as large as the features is sent with fewer mantissa bits than the features have.",
    "self-send": "A rank sends to itself or receives from itself; nothing has to travel, and gloo refuses it.",
    "size-differs": "The two ends of a message hold different numbers of bytes.",
    "unmatched-receive": "A rank receives what its source never sends.",
    "unmatched-send": "A rank sends what its destination never receives.",
    "unwaited-receive": "A rank ends its step without having waited for a receive, so it may read what has not come.",
}
NOTES: dict[str, str] = {
    "unknown-operation": "An operation that the recorder does not know: listed, and nothing concluded from it.",
}

# Significant bits, the implicit one included. Only these are floating: integers and bool carry sizes and indices.
_MANTISSA_BITS = {
    "float64": 53,
    "float32": 24,
    "float16": 11,
    "bfloat16": 8,
    "float8_e4m3fn": 4,
    "float8_e4m3fnuz": 4,
    "float8_e5m2": 3,
    "float8_e5m2fnuz": 3,
}
# Kinds in which every rank hands over as many bytes. A scatter's root hands over more than the others, and an
# all-to-all may be uneven.
_EVEN = frozenset({"all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce", "gather"})
# What dist.send raises; isend and every receive from oneself reach c10d, and so the record.
_TORCH_REFUSES = "rank should not be the same as the rank of the current process"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something about the record that a reader should know, and that is no fault of the loss."""

    name: str
    detail: str
    rank: int


def lint(
    events: Iterable[Event],
    *,
    world_size: int,
    dtype: str,
    feature_numel: int,
    failures: Sequence[RankFailure] = (),
    past_forward: Collection[int] = (),
    waits_seen: bool = False,
) -> tuple[Finding, ...]:
    """Find what is wrong with the messages of one step, whatever the loss.

    What cannot be seen: two all-reduces of one size in swapped order, and which tensor was in them. The numbers and the
    plan are for that.

    Args:
        events: What all ranks posted, as far as they came.
        world_size: W.
        dtype: Dtype of the features.
        feature_numel: b d, the numbers in one rank's text features.
        failures: The ranks that gave no record. Those that hung, and those that raised without being blamed, were
            waiting for a peer; where any other failed, that explains why these wait, and no deadlock is looked for.
        past_forward: Ranks that are known to have left forward; those with an operation in backward always have.
        waits_seen: Whether the recorder sees every wait for a receive return; without it `returned_s` says nothing.

    Returns:
        One finding for each name and rank, with the first case in its detail and how many there are like it. What may
        have been sent or received by an operation of unknown kind is not held to be unmatched.

    Raises:
        ValueError: The features' dtype is not floating, or the events are not those of one step.
    """
    ordered = in_order(events)
    over = frozenset(range(world_size)) - {failure.rank for failure in failures}
    thrown_out = {failure.rank for failure in failures if failure.kind == "raised"}  # left forward by an exception
    apart = [event for event in ordered if not _to_itself(event)]
    matching = match(apart)
    found = [
        *(_finding("self-send", event, describe(event)) for event in ordered if _to_itself(event)),
        *_refused_self_sends(failures),
        *_unmatched(matching, apart, world_size, over, set(past_forward) - thrown_out),
        *_unlike_ends(matching),
        *_unlike_collectives(apart, world_size, over),
        *_narrow(apart, dtype, feature_numel),
        *(_unwaited(apart, over) if waits_seen else ()),
    ]
    waiting = {failure.rank for failure in failures if _was_waiting(failure)}
    ring = deadlock(waits_of(apart, world_size, waiting)) if len(waiting) == len(failures) else None
    return _condense([*found, ring] if ring else found)


def _was_waiting(failure: RankFailure) -> bool:
    return failure.kind == "hung" or (failure.kind == "raised" and not failure.blamed)


def _to_itself(event: Event) -> bool:
    return event.kind in MESSAGE_KINDS and event.src == event.dst


def _refused_self_sends(failures: Iterable[RankFailure]) -> Iterator[Finding]:
    """Find the self-sends that torch refused before they were posted, so that no record has them."""
    for failure in failures:
        if failure.kind == "raised" and _TORCH_REFUSES in failure.detail + failure.traceback:
            yield Finding(name="self-send", rank=failure.rank, detail=f"rank {failure.rank}: {failure.detail}")


def _unmatched(
    matching: Matching, events: list[Event], world_size: int, over: Collection[int], past_forward: Collection[int]
) -> Iterator[Finding]:
    unclear = {event.rank for event in events if event.kind == "unknown"}
    in_backward = {event.rank for event in events if event.phase == "backward"} | set(past_forward)

    def has_no_more_for(event: Event, rank: int) -> bool:
        past = rank in over or (event.phase == "forward" and rank in in_backward)
        return past and rank not in unclear

    for send in matching.lone_sends:
        if all(has_no_more_for(send, rank) for rank in partners(send, events, world_size)):
            yield _finding("unmatched-send", send, f"{describe(send)}, which never receives it")
    for receive in matching.lone_receives:
        if all(has_no_more_for(receive, rank) for rank in partners(receive, events, world_size)):
            yield _finding("unmatched-receive", receive, f"{describe(receive)}, which never sends it")


def _unlike_ends(matching: Matching) -> Iterator[Finding]:
    for send, receive in matching.pairs:
        ends = f"{describe(send)}; rank {receive.rank}: {describe(receive)}"
        if send.payload_bytes != receive.payload_bytes:
            yield _finding("size-differs", send, ends)
        if send.dtype != receive.dtype:
            yield _finding("dtype-differs", send, ends)


def _unlike_collectives(events: list[Event], world_size: int, over: Collection[int]) -> Iterator[Finding]:
    for group in collectives(events, world_size):
        for index in range(max(map(len, group.values()))):
            here = {rank: issued[index] for rank, issued in group.items() if index < len(issued)}
            place = f"collective {index}"
            absent = [rank for rank, issued in group.items() if index >= len(issued) and rank in over]
            out_of_order = [
                *_unlike("collective-order", here, place, lambda event: (event.kind, event.src, event.dst)),
                *(_absent(rank, min(here), here[min(here)], place) for rank in absent),
            ]
            if out_of_order:
                yield from out_of_order
                break  # from here on the ranks' collectives do not belong together
            if next(iter(here.values())).kind in _EVEN:
                yield from _unlike("collective-size", here, place, lambda event: event.payload_bytes)
            yield from _unlike("dtype-differs", here, place, lambda event: event.dtype)


def _absent(rank: int, other: int, event: Event, place: str) -> Finding:
    detail = f"rank {rank}: nothing as {place}, where rank {other} has {describe(event)}"
    return Finding(name="collective-order", rank=rank, detail=detail)


def _unlike(name: str, here: dict[int, Event], place: str, of: Callable[[Event], object]) -> Iterator[Finding]:
    """Find the ranks that depart from what most have; where no value has most, from what the lowest rank has."""
    usual, _ = Counter(of(event) for event in here.values()).most_common(1)[0]
    model = next(event for event in here.values() if of(event) == usual)
    for event in here.values():
        if of(event) != usual:
            yield _finding(name, event, f"{describe(event)} as {place}, where rank {model.rank} has {describe(model)}")


def _narrow(events: list[Event], dtype: str, feature_numel: int) -> Iterator[Finding]:
    if dtype not in _MANTISSA_BITS:
        raise ValueError(f"features are of a floating dtype ({', '.join(_MANTISSA_BITS)}); got dtype={dtype!r}")
    for event in events:
        # A receive's dtype is held against its send's. A scalar is no feature, even where b d = 1.
        is_scalar = event.shape in ((), (1,))
        as_large = event.kind != "recv" and not is_scalar and math.prod(event.shape) >= feature_numel
        if as_large and _MANTISSA_BITS.get(event.dtype, math.inf) < _MANTISSA_BITS[dtype]:
            yield _finding("narrow-wire", event, f"{describe(event)}, where the features are {dtype}")


def _unwaited(events: list[Event], over: Collection[int]) -> Iterator[Finding]:
    for event in events:
        if event.kind == "recv" and event.returned_s is None and event.rank in over:
            yield _finding("unwaited-receive", event, f"{describe(event)}, whose wait was never seen to return")


def _finding(name: str, event: Event, detail: str) -> Finding:
    return Finding(name=name, rank=event.rank, detail=f"rank {event.rank}: {detail}")


def _condense(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Keep the first finding of each name and rank, and say how many there were."""
    alike: dict[tuple[str, int | None], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.name, finding.rank), []).append(finding)
    return tuple(
        msgspec.structs.replace(first, detail=f"{first.detail}; {len(rest)} more like it on this rank")
        if rest
        else first
        for first, *rest in alike.values()
    )


def notes(events: Iterable[Event]) -> tuple[Note, ...]:
    """Say which operations the recorder did not know: one note for each rank and operation.

    That is a gap of the recorder, not a fault of the loss, so it is no finding: the numbers judge the loss, and a
    report lists the operation beside the known ones. Against a plan it does count: no plan has such an operation.
    """
    unknown = Counter((event.rank, event.op) for event in in_order(events) if event.kind == "unknown")
    return tuple(
        Note(name="unknown-operation", rank=rank, detail=f"rank {rank}: {op}, {number} times, of unknown kind")
        for (rank, op), number in unknown.items()
    )
