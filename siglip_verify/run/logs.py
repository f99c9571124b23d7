"""What the ranks recorded, read whole or said to be not whole.

Here: reading the logs of all ranks. Not here: what they hold (`observe.log`), whether it is right (`check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from siglip_verify.observe import LogOverflowError, read_header, read_log
from siglip_verify.records import Event, RankFailure


class Logs(NamedTuple):
    """What all ranks recorded of one step.

    Attributes:
        events: Their operations.
        overflowed: Ranks that posted more than their log holds. Such a record is not whole: what it lacks is not held
            against the loss, and no verdict of pass rests on it.
        past_forward: Ranks that posted in forward and have left it.
    """

    events: list[Event]
    overflowed: tuple[RankFailure, ...]
    past_forward: frozenset[int]


def read_logs(logs: Sequence[memoryview | bytes], since_s: float = 0.0) -> Logs:
    """Read what all ranks recorded, whatever became of them.

    Args:
        logs: Each rank's log, in rank order.
        since_s: When the step was asked for (monotonic clock). A log that begins before then is of an earlier step: its
            rank has not begun this one.
    """
    events: list[Event] = []
    overflowed: list[RankFailure] = []
    past_forward: set[int] = set()
    for rank, log in enumerate(logs):
        header = read_header(log)
        try:
            posted, overflow = read_log(log, rank), None
        except LogOverflowError as error:
            posted, overflow = error.events, error
        if posted and posted[0].posted_s < since_s:
            continue
        events += posted
        if header.posted and header.phase != "forward":
            past_forward.add(rank)
        if overflow is not None:
            detail = (
                f"LogOverflowError: a step posts at most {header.capacity:,} operations a rank to be counted whole; "
                f"got {header.posted:,}: send fewer and larger messages, or check a smaller batch"
            )
            overflowed.append(RankFailure(rank=rank, kind="raised", blamed=True, detail=detail))
    return Logs(events, tuple(overflowed), frozenset(past_forward))
