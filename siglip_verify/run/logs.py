"""What the ranks recorded, read whole or said to be not whole.

Here: reading the logs of all ranks. Not here: what they hold (`observe.log`), whether it is right (`check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from siglip_verify.observe import LogOverflowError, read_header, read_log
from siglip_verify.records import Event, RankFailure
from siglip_verify.world import World


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


def recorded(world: World) -> list[memoryview]:
    """Return the logs of the step that a world ran last."""
    return [world.log(rank) for rank in range(world.world_size)]


def read_logs(logs: Sequence[memoryview | bytes]) -> Logs:
    """Read what all ranks recorded, whatever became of them."""
    events: list[Event] = []
    overflowed: list[RankFailure] = []
    past_forward: set[int] = set()
    for rank, log in enumerate(logs):
        header = read_header(log)
        if header.posted and header.phase != "forward":
            past_forward.add(rank)
        try:
            events += read_log(log, rank)
        except LogOverflowError as error:
            events += error.events
            detail = (
                f"LogOverflowError: a step posts at most {header.capacity:,} operations a rank to be counted whole; "
                f"got {header.posted:,}: send fewer and larger messages, or check a smaller batch"
            )
            overflowed.append(RankFailure(rank=rank, kind="raised", blamed=True, detail=detail))
    return Logs(events, tuple(overflowed), frozenset(past_forward))
