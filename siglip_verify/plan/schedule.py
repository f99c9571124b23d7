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
Memory = Literal["autograd", "constant", "recompute"]
Phase = Literal["forward", "backward"]
Kind = Literal["send", "recv", "all_reduce", "all_gather", "all_to_all", "reduce_scatter"]
GatherBackward = Literal["all_to_all", "reduce_scatter"]
Towards = Literal["right", "left", "home"]

PHASES: tuple[Phase, ...] = typing.get_args(Phase)
RINGS: tuple[Exchange, ...] = ("bidir", "shift")

# What travels, in words.
TEXT, GRADIENT, SHAPES, UPSTREAM = "text", "text gradient", "shapes", "upstream gradient"
SHAPES_BYTES = 4 * 8
UPSTREAM_BYTES = 8


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
        carries: What travels, in words: text, its gradient, or both in one message; shapes; upstream gradient.
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
    overlap: bool = False
    grad_itemsize: int | None = None
    agrees: bool = False
    compares: bool = False

    @property
    def block_bytes(self) -> int:
        """Bytes of one rank's texts: b d itemsize."""
        return self.batch * self.dim * self.itemsize

    def bytes_of(self, carries: Sequence[str]) -> int:
        """Return the payload bytes of what a message or collective carries, in words."""
        gradient_bytes = self.batch * self.dim * (self.grad_itemsize or self.itemsize)
        each = {TEXT: self.block_bytes, GRADIENT: gradient_bytes, SHAPES: SHAPES_BYTES, UPSTREAM: UPSTREAM_BYTES}
        return sum(each[word] for word in carries)

    def runs(self, phase: Phase) -> tuple[Run, ...]:
        """List the hops of a phase as every rank sees them, relative to its own place, equal ones in a row as one run.

        There are at most six runs, whatever W is.
        """
        return () if self.world_size == 1 else tuple(_runs(self, phase))

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
                for kind, src, dst, times, carries, towards in _operations(hop, rank, self.world_size):
                    yield PlannedEvent(
                        rank=rank,
                        sequence=sequence,
                        phase=phase,
                        hop=index,
                        kind=kind,
                        src=src,
                        dst=dst,
                        payload_bytes=times * self.bytes_of(carries),
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
    overlap: bool = False,
    grad_itemsize: int | None = None,
    agrees: bool = False,
    compares: bool = False,
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
            along with the block, all of it in forward; "recompute" sends texts alone in forward, and in backward what
            "constant" sends in forward.
        gather_backward: The collective of gather's backward: "all_to_all" and a local sum (as on gloo), or
            "reduce_scatter".
        overlap: Whether a block goes on before its gradient is there. Where both travel, the gradient is one hop
            behind; where texts travel alone, the same is sent as without.
        grad_itemsize: Bytes of one number of a gradient that travels along with its text, in the same message; None is
            itemsize.
        agrees: Whether the ranks tell each other their shapes first (`ragged`, `check_shapes`): one all-gather of four
            eight-byte numbers. Ragged ranks then send blocks of the largest b, which `batch` is.
        compares: Whether backward passes this rank's upstream gradient, eight bytes, to the right ("constant" alone;
            nothing where texts need no gradient).

    Raises:
        ValueError: An argument is not one of these, or the exchange has no such form.
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
    if not has_form(exchange, memory=memory, overlap=overlap):
        asked = f"memory={memory!r}" if memory != "autograd" else "overlap=True"
        raise ValueError(
            f"{asked} needs blocks that travel from rank to rank, so that a gradient can go along or a block ahead; "
            f"got exchange={exchange!r}, whose collectives leave no such journey. Use 'bidir' or 'shift'."
        )
    if grad_itemsize is not None and (memory == "autograd" or grad_itemsize < itemsize):
        raise ValueError(
            f"grad_itemsize is for gradients that travel along with their texts, in at least as many bytes; "
            f"got grad_itemsize={grad_itemsize} with itemsize={itemsize}, memory={memory!r}"
        )
    if compares and memory != "constant":
        raise ValueError(f"upstream gradients are compared with memory='constant' alone; got memory={memory!r}")
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
        overlap=overlap,
        grad_itemsize=grad_itemsize,
        agrees=agrees,
        compares=compares,
    )


def has_form(exchange: Exchange, *, memory: Memory = "autograd", overlap: bool = False) -> bool:
    """Tell whether an exchange has this form: only around a ring can gradients travel along, or hops be overlapped."""
    return exchange in RINGS or (memory == "autograd" and not overlap)


# ------------------------------------------------------------------ the exchanges
def _runs(plan: Plan, phase: Phase) -> Iterator[Run]:
    """What the ranks tell each other before the step, the exchange, and what they compare before backward."""
    if phase == "forward" and plan.agrees:
        yield Run(Collective("all_gather", 1, (SHAPES,)), 1)
    if phase == "backward" and plan.compares and plan.text_grad:
        yield Run((Move(1, "right", (UPSTREAM,)),), 1)
    if phase == "forward" or plan.text_grad:
        yield from _RUNS[plan.exchange](plan, phase)


def _shift(plan: Plan, phase: Phase) -> Iterator[Run]:
    """Every block W-1 places to the right."""
    return _streams(plan, phase, right=plan.world_size - 1, left=0)


def _bidir(plan: Plan, phase: Phase) -> Iterator[Run]:
    """Every block half-way around both ways; the rank opposite, where there is one, hears it from the left."""
    return _streams(plan, phase, right=plan.world_size // 2, left=(plan.world_size - 1) // 2)


def _reduce(plan: Plan, phase: Phase) -> Iterator[Run]:
    """One all-reduce for each rank's block, masked on all ranks but its owner."""
    yield Run(Collective("all_reduce", 1, (TEXT if phase == "forward" else GRADIENT,)), plan.world_size)


def _gather(plan: Plan, phase: Phase) -> Iterator[Run]:
    """All blocks to all ranks at once, and a gradient for each block back to its owner."""
    if phase == "forward":
        yield Run(Collective("all_gather", 1, (TEXT,)), 1)
    else:
        yield Run(Collective(plan.gather_backward, plan.world_size, (GRADIENT,)), 1)


_RUNS: dict[Exchange, Callable[[Plan, Phase], Iterator[Run]]] = {
    "bidir": _bidir,
    "shift": _shift,
    "reduce": _reduce,
    "gather": _gather,
}


def _streams(plan: Plan, phase: Phase, *, right: int, left: int) -> Iterator[Run]:
    """Two streams side by side: blocks that go `right` places to the right, and blocks that go `left` to the left."""
    gradients_travel_along_in = {"autograd": None, "constant": "forward", "recompute": "backward"}[plan.memory]
    if plan.text_grad and phase == gradients_travel_along_in:
        yield from _side_by_side([_companions("right", right, plan.overlap), _companions("left", left, plan.overlap)])
        return
    texts = list(_side_by_side([_alone("right", right), _alone("left", left)]))
    if phase == "forward":
        yield from texts
    elif plan.memory == "autograd":
        for run in reversed(texts):
            assert not isinstance(run.hop, Collective)
            yield Run(tuple(_gradient_of(move) for move in run.hop), run.times)


Leg = tuple[Move | None, int]
"""A move, or a rest, and how many times in a row a stream makes it."""


def _alone(towards: Literal["right", "left"], num_hops: int) -> list[Leg]:
    """Text alone, at every hop."""
    return [(Move(_OFFSETS[towards], towards, (TEXT,)), num_hops)]


def _companions(towards: Literal["right", "left"], num_hops: int, overlap: bool) -> list[Leg]:
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


def _side_by_side(streams: Sequence[Sequence[Leg]]) -> Iterator[Run]:
    """Let streams hop together; one that rests or is done leaves the others alone. Where all rest there is no hop."""
    ends = [list(accumulate(times for _, times in legs)) for legs in streams]
    for first, end in pairwise(sorted({0}.union(*ends))):
        under_way = [(legs, stops) for legs, stops in zip(streams, ends, strict=True) if stops and first < stops[-1]]
        here = [legs[bisect_right(stops, first)][0] for legs, stops in under_way]
        if moves := tuple(move for move in here if move is not None):
            yield Run(moves, end - first)


def _gradient_of(move: Move) -> Move:
    """Return what backward sends for a move: a gradient the opposite way."""
    return Move(-move.offset, "left" if move.towards == "right" else "right", (GRADIENT,))


def _operations(
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
