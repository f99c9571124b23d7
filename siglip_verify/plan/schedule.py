"""What each exchange should send in one step: the explicit list, operation by operation.

All ranks do the same relative to their own place, so an exchange is a list of hops without a rank in it: moves ("every
rank sends a block three places to the right") or one collective. `Plan.events` reads that list for one rank.

Here: the hops of each exchange, and the list. Not here: formulas (`closed_form`), and what a collective or a message
becomes on the wire (`modelled`). Standard library only, and no code shared with the loss that it describes.
"""

from __future__ import annotations

import typing
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise, repeat
from typing import Literal

Exchange = Literal["bidir", "shift", "reduce", "gather"]
Memory = Literal["autograd", "constant"]
Phase = Literal["forward", "backward"]
Kind = Literal["send", "recv", "all_reduce", "all_gather", "all_to_all", "reduce_scatter"]
GatherBackward = Literal["all_to_all", "reduce_scatter"]
Towards = Literal["right", "left", "home"]

PHASES: tuple[Phase, ...] = typing.get_args(Phase)


@dataclass(frozen=True, slots=True)
class Move:
    """One message of every rank: to the rank `offset` places to the right, carrying one block a word."""

    offset: int
    towards: Towards
    carries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective call of every rank, which hands over `blocks` blocks."""

    kind: Kind
    blocks: int
    carries: tuple[str, ...]


Hop = tuple[Move, ...] | Collective


@dataclass(frozen=True, slots=True)
class Run:
    """The same hop, several times in a row."""

    hop: Hop
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEvent:
    """One operation that one rank should post.

    Attributes:
        rank: The rank that posts it.
        sequence: 0, 1, 2 ... in the order in which the rank posts, over both phases.
        phase: forward or backward.
        hop: Index, within the phase, of the group of operations that are posted together.
        kind: send, recv, or the collective.
        src: Sending rank of a send or recv, else None.
        dst: Receiving rank of a send or recv, else None.
        payload_bytes: numel x itemsize that the operation hands over (for recv: of the buffer).
        carries: What travels, in words: text, its gradient, or both in one message.
        towards: The way that a message takes around the ring, else None; home is the direct message to the owner.
    """

    rank: int
    sequence: int
    phase: Phase
    hop: int
    kind: Kind
    src: int | None
    dst: int | None
    payload_bytes: int
    carries: str
    towards: Towards | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one step of one exchange should send; made by `plan`, whose arguments are its attributes."""

    exchange: Exchange
    world_size: int
    batch: int
    dim: int
    itemsize: int
    image_grad: bool
    text_grad: bool
    memory: Memory
    gather_backward: GatherBackward

    @property
    def block_bytes(self) -> int:
        """Bytes of one rank's texts: b d itemsize."""
        return self.batch * self.dim * self.itemsize

    def runs(self, phase: Phase) -> tuple[Run, ...]:
        """List the hops of a phase as every rank sees them, relative to its own place, equal ones in a row as one run.

        There are at most four runs, whatever W is.
        """
        if self.world_size == 1 or (phase == "backward" and not self.text_grad):
            return ()
        return tuple(_RUNS[self.exchange](self, phase))

    def hops(self, phase: Phase) -> tuple[Hop, ...]:
        """List the hops of a phase one by one."""
        return tuple(chain.from_iterable(repeat(run.hop, run.times) for run in self.runs(phase)))

    def events(self, rank: int) -> tuple[PlannedEvent, ...]:
        """List what one rank posts, in order; the cost does not grow with the number of other ranks' operations.

        Raises:
            ValueError: There is no such rank.
        """
        if not 0 <= rank < self.world_size:
            raise ValueError(f"a rank of this plan is one of 0 .. {self.world_size - 1}; got rank={rank}")
        return tuple(self._listed(rank))

    def _listed(self, rank: int) -> Iterator[PlannedEvent]:
        sequence = 0
        for phase in PHASES:
            for index, hop in enumerate(self.hops(phase)):
                for kind, src, dst, blocks, carries, towards in _operations(hop, rank, self.world_size):
                    yield PlannedEvent(
                        rank=rank,
                        sequence=sequence,
                        phase=phase,
                        hop=index,
                        kind=kind,
                        src=src,
                        dst=dst,
                        payload_bytes=blocks * self.block_bytes,
                        carries=" and ".join(carries),
                        towards=towards,
                    )
                    sequence += 1


def plan(
    exchange: Exchange,
    world_size: int,
    batch: int,
    dim: int,
    itemsize: int,
    *,
    image_grad: bool = True,
    text_grad: bool = True,
    memory: Memory = "autograd",
    gather_backward: GatherBackward = "all_to_all",
) -> Plan:
    """Plan the messages of one step of one exchange.

    Args:
        exchange: How the ranks show each other their texts.
        world_size: W. With one rank nothing is sent.
        batch: Rows of text on each rank, b.
        dim: Feature dimension, d.
        itemsize: Bytes of one number of the features' dtype.
        image_grad: Whether the image features need a gradient. No image ever travels, so this changes nothing.
        text_grad: Whether the text features need a gradient. Without it (frozen text, no_grad) no gradient is sent.
        memory: "autograd" keeps the blocks and sends gradients in backward; "constant" sends each block's gradient
            along with the block, all of it in forward.
        gather_backward: The collective of gather's backward: "all_to_all" and a local sum (as on gloo), or
            "reduce_scatter".

    Raises:
        ValueError: An argument is not one of these, or the exchange has no constant-memory form.
    """
    for name, value in (("world_size", world_size), ("batch", batch), ("dim", dim), ("itemsize", itemsize)):
        if value < 1:
            raise ValueError(f"{name} must be a whole number from 1 on; got {name}={value}")
    for name, value, allowed in (
        ("exchange", exchange, typing.get_args(Exchange)),
        ("memory", memory, typing.get_args(Memory)),
        ("gather_backward", gather_backward, typing.get_args(GatherBackward)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {name}={value!r}")
    if memory == "constant" and exchange in ("reduce", "gather"):
        raise ValueError(
            f"memory='constant' needs blocks that travel from rank to rank, so that a gradient can travel along; "
            f"got exchange={exchange!r}, whose collectives leave no such journey. Use 'bidir' or 'shift'."
        )
    return Plan(
        exchange=exchange,
        world_size=world_size,
        batch=batch,
        dim=dim,
        itemsize=itemsize,
        image_grad=image_grad,
        text_grad=text_grad,
        memory=memory,
        gather_backward=gather_backward,
    )


# ------------------------------------------------------------------ the exchanges
_TEXT, _GRADIENT = "text", "text gradient"


def _shift(plan: Plan, phase: Phase) -> Iterator[Run]:
    """Every block W-1 places to the right."""
    return _streams(plan, phase, right=plan.world_size - 1, left=0)


def _bidir(plan: Plan, phase: Phase) -> Iterator[Run]:
    """Every block half-way around both ways; the rank opposite, where there is one, hears it from the left."""
    return _streams(plan, phase, right=plan.world_size // 2, left=(plan.world_size - 1) // 2)


def _reduce(plan: Plan, phase: Phase) -> Iterator[Run]:
    """One all-reduce for each rank's block, masked on all ranks but its owner."""
    yield Run(Collective("all_reduce", 1, (_TEXT if phase == "forward" else _GRADIENT,)), plan.world_size)


def _gather(plan: Plan, phase: Phase) -> Iterator[Run]:
    """All blocks to all ranks at once, and a gradient for each block back to its owner."""
    if phase == "forward":
        yield Run(Collective("all_gather", 1, (_TEXT,)), 1)
    else:
        yield Run(Collective(plan.gather_backward, plan.world_size, (_GRADIENT,)), 1)


_RUNS: dict[Exchange, Callable[[Plan, Phase], Iterator[Run]]] = {
    "bidir": _bidir,
    "shift": _shift,
    "reduce": _reduce,
    "gather": _gather,
}


def _streams(plan: Plan, phase: Phase, *, right: int, left: int) -> Iterator[Run]:
    """Two streams side by side: blocks that go `right` places to the right, and blocks that go `left` to the left."""
    gradient_travels_along = plan.memory == "constant" and plan.text_grad
    streams = [_stream("right", right, gradient_travels_along), _stream("left", left, gradient_travels_along)]
    runs = list(_side_by_side(streams))
    if phase == "forward":
        yield from (Run(moves, times) for moves, times in runs)
    elif plan.memory == "autograd":
        yield from (Run(tuple(_gradient_of(move) for move in moves), times) for moves, times in reversed(runs))


def _stream(towards: Literal["right", "left"], num_hops: int, gradient_travels_along: bool) -> list[Leg]:
    """Text alone at first, as nobody has a gradient for it yet; then with its gradient; last the gradient home."""
    offset = 1 if towards == "right" else -1
    alone = min(num_hops, 1) if gradient_travels_along else num_hops
    homecomings = int(gradient_travels_along and num_hops > 0)
    legs = [
        (Move(offset, towards, (_TEXT,)), alone),
        (Move(offset, towards, (_TEXT, _GRADIENT)), num_hops - alone),
        (Move(-offset * num_hops, "home", (_GRADIENT,)), homecomings),
    ]
    return [(move, times) for move, times in legs if times]


Leg = tuple[Move, int]
"""A move, and how many times in a row a stream makes it."""


def _side_by_side(streams: Sequence[Sequence[Leg]]) -> Iterator[tuple[tuple[Move, ...], int]]:
    """Let streams hop together; the one that is done first leaves the others alone."""
    ends = [list(accumulate(times for _, times in legs)) for legs in streams]
    for first, end in pairwise(sorted({0}.union(*ends))):
        under_way = [(legs, stops) for legs, stops in zip(streams, ends, strict=True) if stops and first < stops[-1]]
        yield tuple(legs[bisect_right(stops, first)][0] for legs, stops in under_way), end - first


def _gradient_of(move: Move) -> Move:
    """Return what backward sends for a move: a gradient the opposite way."""
    return Move(-move.offset, "left" if move.towards == "right" else "right", (_GRADIENT,))


def _operations(
    hop: Hop, rank: int, world_size: int
) -> Iterator[tuple[Kind, int | None, int | None, int, tuple[str, ...], Towards | None]]:
    """Read a hop for one rank: all its sends, then all its receives, or its one collective."""
    if isinstance(hop, Collective):
        yield hop.kind, None, None, hop.blocks, hop.carries, None
        return
    for move in hop:
        yield "send", rank, (rank + move.offset) % world_size, len(move.carries), move.carries, move.towards
    for move in hop:
        yield "recv", (rank - move.offset) % world_size, rank, len(move.carries), move.carries, move.towards
