"""What each exchange should send in one step: the explicit list, operation by operation.

All ranks do the same relative to their own place, so an exchange is a list of hops without a rank in it: moves ("every
rank sends a block three places to the right") or one collective. `Plan.events` reads that list for one rank.

Here: the hops of each exchange, and the list. Not here: what a hop is (`hops`), formulas (`closed_form`), and what a
collective or a message becomes on the wire (`modelled`). Standard library only, and no code shared with the loss.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Literal

from .hops import (
    GRADIENT,
    SHAPES,
    TEXT,
    UPSTREAM,
    Collective,
    Hop,
    Kind,
    Move,
    Run,
    Towards,
    alone,
    companions,
    gradient_of,
    operations,
    side_by_side,
)

Exchange = Literal["bidir", "shift", "reduce", "gather"]
Memory = Literal["autograd", "constant", "recompute"]
Phase = Literal["forward", "backward"]
GatherBackward = Literal["all_to_all", "reduce_scatter"]

PHASES: tuple[Phase, ...] = typing.get_args(Phase)
RINGS: tuple[Exchange, ...] = ("bidir", "shift")
SHAPES_BYTES = 4 * 8
UPSTREAM_BYTES = 8
FLOAT32_BYTES = 4


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

    @property
    def gradient_itemsize(self) -> int:
        """Bytes of one number of a text gradient on its way: those of the features where autograd sends it."""
        if self.memory == "autograd":
            return self.itemsize
        return self.grad_itemsize or max(self.itemsize, FLOAT32_BYTES)

    def bytes_of(self, carries: Sequence[str]) -> int:
        """Return the payload bytes of what a message or collective carries, in words."""
        gradient_bytes = self.batch * self.dim * self.gradient_itemsize
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
                for kind, src, dst, times, carries, towards in operations(hop, rank, self.world_size):
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
            float32's, or itemsize where that is more. In autograd gradients are of the features' dtype.
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
        yield from side_by_side([companions("right", right, plan.overlap), companions("left", left, plan.overlap)])
        return
    texts = list(side_by_side([alone("right", right), alone("left", left)]))
    if phase == "forward":
        yield from texts
    elif plan.memory == "autograd":
        for run in reversed(texts):
            assert not isinstance(run.hop, Collective)
            yield Run(tuple(gradient_of(move) for move in run.hop), run.times)
