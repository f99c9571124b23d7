"""Hops, as every rank sees them: what moves to which side, and how streams of blocks hop side by side.

Here: moves and collectives without a rank in them, and how one rank reads them. Not here: which exchange makes which
hops, and what they weigh (`schedule`). Standard library only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

Kind = Literal["send", "recv", "all_reduce", "all_gather", "all_to_all", "reduce_scatter"]
Towards = Literal["right", "left", "home"]

# What travels, in words.
TEXT, GRADIENT, SHAPES, UPSTREAM = "text", "text gradient", "shapes", "upstream gradient"


@dataclass(frozen=True, slots=True)
class Move:
    """One message of every rank: to the rank `offset` places to the right, carrying what the words say."""

    offset: int
    towards: Towards
    carries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective call of every rank, which hands over what the words say `blocks` times."""

    kind: Kind
    blocks: int
    carries: tuple[str, ...]


Hop = tuple[Move, ...] | Collective


@dataclass(frozen=True, slots=True)
class Run:
    """The same hop, several times in a row."""

    hop: Hop
    times: int


# ------------------------------------------------------------------ streams of blocks
Leg = tuple[Move | None, int]
"""A move, or a rest, and how many times in a row a stream makes it."""


def alone(towards: Literal["right", "left"], num_hops: int) -> list[Leg]:
    """Text alone, at every hop."""
    return [(Move(_OFFSETS[towards], towards, (TEXT,)), num_hops)]


def companions(towards: Literal["right", "left"], num_hops: int, overlap: bool) -> list[Leg]:
    """Text alone at first, as nobody has a gradient for it yet; then with its gradient; last the gradient home.

    With overlap the gradient is one hop behind: it still goes on when the text has arrived, and where the text makes
    one hop alone, it rests for one before it goes home.
    """
    if not num_hops:
        return []
    offset, behind = _OFFSETS[towards], int(overlap)
    alone = min(num_hops, 1 + behind)
    together = num_hops - alone
    after = num_hops - 1 - together  # a gradient makes one hop less than its text before it goes home
    return [
        (Move(offset, towards, (TEXT,)), alone),
        (Move(offset, towards, (TEXT, GRADIENT)), together),
        (Move(offset, towards, (GRADIENT,)), after),
        (None, num_hops + behind - alone - together - after),
        (Move(-offset * num_hops, "home", (GRADIENT,)), 1),
    ]


_OFFSETS = {"right": 1, "left": -1}


def side_by_side(streams: Sequence[Sequence[Leg]]) -> Iterator[Run]:
    """Let streams hop together; one that rests or is done leaves the others alone. Where all rest there is no hop."""
    ends = [list(accumulate(times for _, times in legs)) for legs in streams]
    for first, end in pairwise(sorted({0}.union(*ends))):
        under_way = [(legs, stops) for legs, stops in zip(streams, ends, strict=True) if stops and first < stops[-1]]
        here = [legs[bisect_right(stops, first)][0] for legs, stops in under_way]
        if moves := tuple(move for move in here if move is not None):
            yield Run(moves, end - first)


def gradient_of(move: Move) -> Move:
    """Return what backward sends for a move: a gradient the opposite way."""
    return Move(-move.offset, "left" if move.towards == "right" else "right", (GRADIENT,))


# ------------------------------------------------------------------ one rank
def operations(
    hop: Hop, rank: int, world_size: int
) -> Iterator[tuple[Kind, int | None, int | None, int, tuple[str, ...], Towards | None]]:
    """Read a hop for one rank: all its sends, then all its receives, or its one collective."""
    if isinstance(hop, Collective):
        yield hop.kind, None, None, hop.blocks, hop.carries, None
        return
    for move in hop:
        yield "send", rank, (rank + move.offset) % world_size, 1, move.carries, move.towards
    for move in hop:
        yield "recv", (rank - move.offset) % world_size, rank, 1, move.carries, move.towards
