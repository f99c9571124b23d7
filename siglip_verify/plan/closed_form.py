"""The same plan as formulas in W, b and d, and the least that any exchange must move.

Written down from the algorithms, not summed from the list: the tests hold the two against each other. For W >= 2, with
P = b d itemsize bytes for one block:

| exchange, memory | forward, a rank | backward, a rank |
|---|---|---|
| shift, autograd | W-1 hops, W-1 sends to the right, (W-1) P | the same, to the left |
| bidir, autograd | W//2 hops, W//2 sends to the right, (W-1)//2 to the left, (W-1) P | the same, left for right |
| reduce | W hops, W all-reduces, W P | the same |
| gather | 1 all-gather, P | 1 all-to-all or reduce-scatter, W P |
| shift, constant | W hops, W-1 sends to the right, 1 home, 2 (W-1) P | nothing |
| bidir, constant | W//2 + 1 hops, W//2 to the right, (W-1)//2 to the left, 2 home (1 at W = 2), 2 (W-1) P | nothing |
| recompute | as autograd's forward | as constant's forward |

W//2 is ceil((W-1)/2). Without a text gradient nothing is sent in backward, and constant sends in forward what autograd
does. With W = 1 nothing is sent at all.

With overlap a stream of gradients that makes two hops or more needs one message more, and the phase one hop more.
Gradients that travel beside their texts have G bytes a number: 4, or T where the texts have more, or what is asked for.
That makes 2 (W-1) P to (W-1) P (1 + G/T), 3 (W-1) P for half precision, in as many messages. Agreeing on shapes is
one hop more in forward, an all-gather of 32 bytes; comparing upstream gradients one in backward, a send of 8 bytes to
the right.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from .schedule import SHAPES_BYTES, UPSTREAM_BYTES, Phase, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one rank does in one phase; all ranks do the same, so the world does W times as much.

    Attributes:
        hops: Groups of operations that are posted together.
        sends_right: Messages to the right neighbour along the stream to the right.
        sends_left: Messages to the left neighbour along the stream to the left.
        sends_home: Direct messages that bring a gradient to the owner of its block.
        collectives: Collective calls.
        payload_bytes: Bytes handed over in sends and collectives; receives are not counted again.
    """

    hops: int = 0
    sends_right: int = 0
    sends_left: int = 0
    sends_home: int = 0
    collectives: int = 0
    payload_bytes: int = 0

    @property
    def sends(self) -> int:
        """Messages sent, whatever their way; as many are received."""
        return self.sends_right + self.sends_left + self.sends_home

    def __add__(self, other: Counts) -> Counts:
        """Return what both do together."""
        return Counts(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


def closed_form(plan: Plan, phase: Phase) -> Counts:
    """Count one rank's operations and payload bytes in one phase, by formula: O(1) in W."""
    if plan.world_size == 1:
        return Counts()
    return _beside(plan, phase) + (_exchange(plan, phase) if phase == "forward" or plan.text_grad else Counts())


def _beside(plan: Plan, phase: Phase) -> Counts:
    """Count what the ranks say to each other beside the exchange."""
    if phase == "forward" and plan.agrees:
        return Counts(hops=1, collectives=1, payload_bytes=SHAPES_BYTES)
    if phase == "backward" and plan.compares and plan.text_grad:
        return Counts(hops=1, sends_right=1, payload_bytes=UPSTREAM_BYTES)
    return Counts()


def _exchange(plan: Plan, phase: Phase) -> Counts:
    world_size, block_bytes = plan.world_size, plan.block_bytes
    if plan.exchange == "reduce":
        return Counts(hops=world_size, collectives=world_size, payload_bytes=world_size * block_bytes)
    if plan.exchange == "gather":
        handed_over = block_bytes if phase == "forward" else world_size * block_bytes
        return Counts(hops=1, collectives=1, payload_bytes=handed_over)
    there, other_way = (world_size - 1, 0) if plan.exchange == "shift" else (world_size // 2, (world_size - 1) // 2)
    if plan.text_grad and (plan.memory, phase) in (("constant", "forward"), ("recompute", "backward")):
        return Counts(
            hops=there + 1 + (plan.overlap and there > 1),
            sends_right=there + (plan.overlap and there > 1),
            sends_left=other_way + (plan.overlap and other_way > 1),
            sends_home=2 if other_way else 1,
            payload_bytes=(world_size - 1) * plan.batch * plan.dim * (plan.itemsize + plan.gradient_itemsize),
        )
    if plan.memory == "constant" and phase == "backward":
        return Counts()
    right, left = (there, other_way) if phase == "forward" else (other_way, there)
    return Counts(hops=there, sends_right=right, sends_left=left, payload_bytes=(world_size - 1) * block_bytes)


def lower_bound_bytes(world_size: int, batch: int, dim: int, itemsize: int) -> int:
    """Return (W-1) b d itemsize: the bytes that every rank must receive of texts, and must send of text gradients.

    Texts: the local loss of a rank depends on every number of every other rank's texts, and a rank knows none of them
    beforehand; so (W-1) b d numbers must come in, whatever the exchange. Gradients: a rank alone can compute what its
    images contribute to the gradient of each other rank's texts. Its contributions to two different blocks belong to
    different owners and cannot be added to each other; those to one block can be added to other ranks' on the way,
    which shortens what others send, never what this rank must send. So (W-1) b d numbers must leave it.

    Both hold for numbers of the features' dtype that nobody compresses. Without a text gradient only the first holds.
    A step that reaches both bounds hands over 2 (W-1) b d itemsize bytes a rank.
    """
    return (world_size - 1) * batch * dim * itemsize


def least_payload_bytes(plan: Plan, phase: Phase) -> int:
    """Return the lower bound of one phase of a plan, a rank: texts in forward, text gradients where they travel."""
    texts, gradients = (
        lower_bound_bytes(plan.world_size, plan.batch, plan.dim, itemsize)
        for itemsize in (plan.itemsize, plan.gradient_itemsize)
    )
    gradients_in: Phase = "forward" if plan.memory == "constant" else "backward"
    return texts * (phase == "forward") + gradients * (plan.text_grad and phase == gradients_in)
