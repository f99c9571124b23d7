"""What an exchange in two levels would cost, which this package does not have: the answer to whether it should.

Every block crosses between hosts once a host. In each of H turns the g ranks of a host hold the g blocks of one host.
They pass them around the host, both ways in autograd as `bidir` does, one way in constant memory as `shift` does; and
each rank sends one block on to its place in the next host, so that all uplinks of a host are in use at once, where a
ring that ignores hosts uses one. Backward takes the same way back; in constant memory gradients travel with their
blocks, and each comes home by one message.

It is reckoned as today's exchanges are. A hop is what is posted together, and all of it has arrived before the next
leaves: in autograd the block for the next host is posted with the first hop within the host, as `bidir` posts two
messages in one; in constant memory it carries the gradient of what it met in this host, and is a hop of its own. Blocks
are computed after the hop that brought them, or with overlap while the next is under way, in autograd in forward alone.
All ranks do the same at the same time, so a step is a sum over hops, in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from siglip_verify.case import itemsize
from siglip_verify.simulate import lockstep
from siglip_verify.simulate.compute import block_time
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.predict import cost_of, forms_of, planned_step
from siglip_verify.simulate.result import Form, Setup
from siglip_verify.simulate.rounds import Round, Transfer

Kept = Literal["autograd", "constant"]


class Beside(NamedTuple):
    """Two levels beside the fastest exchange of today that keeps as much, under the same assumption on overlap.

    Attributes:
        two_level_s: A step in two levels.
        best: The fastest of today's forms.
        best_s: Its step.
    """

    two_level_s: float
    best: Form
    best_s: float

    @property
    def win(self) -> float:
        """How much longer the best of today takes: 0.1 is 10 %."""
        return self.best_s / self.two_level_s - 1


def beside(setup: Setup, world_size: int, memory: Kept, *, overlap: bool) -> Beside:
    """Compare two levels with today's exchanges; with overlap, each in the faster of its two ways.

    Raises:
        UsageError: The cluster has no such world, or says nothing of the dtype.
    """
    forms = forms_of(memory, overlap=overlap)
    steps = {form: cost_of(setup, form, planned_step(setup, form, world_size)).step_s for form in forms}
    best = min(forms, key=lambda form: steps[form])
    ways = (False, True)[: 1 + overlap]
    return Beside(min(two_level_step_s(setup, world_size, memory, overlap=way) for way in ways), best, steps[best])


def two_level_step_s(setup: Setup, world_size: int, memory: Kept, *, overlap: bool) -> float:
    """Return the seconds of one step, forward and backward.

    Raises:
        UsageError: The cluster has no such world, or says nothing of the dtype.
    """
    fabric = _Levels(setup, world_size)
    block = block_time(setup.cluster, memory, setup.batch, setup.dim, setup.dtype, setup.chunk_size, overlap=overlap)
    if memory == "autograd":
        hops = list(fabric.both_ways())
        back_s = sum(hop.seconds for hop in hops) + world_size * block.backward
        return _through(hops, block.forward, overlap=overlap) + back_s
    if world_size == 1:
        return block.forward
    return _through(list(fabric.with_gradients(lag=int(overlap))), block.forward, overlap=overlap, leaves_at_once=True)


class _Hop(NamedTuple):
    """How long a hop takes, and how many blocks it brings."""

    seconds: float
    blocks: int


def _through(hops: Sequence[_Hop], block_s: float, *, overlap: bool, leaves_at_once: bool = False) -> float:
    """Add up hops and blocks: in turn, or each hop beside the blocks that the one before brought."""
    before = [1, *(hop.blocks for hop in hops)]
    total_s = before[-1] * block_s
    for number, (hop, blocks) in enumerate(zip(hops, before, strict=False)):
        is_hidden = overlap or (leaves_at_once and number == 0)
        total_s += max(hop.seconds, blocks * block_s) if is_hidden else hop.seconds + blocks * block_s
    return total_s


class _Levels:
    """The hops of two levels on a cluster."""

    def __init__(self, setup: Setup, world_size: int) -> None:
        self._whole = Fabric(setup.cluster, world_size)
        self._inside = Fabric(setup.cluster, self._whole.ranks_per_host)
        numel, narrow = setup.batch * setup.dim, itemsize(setup.dtype)
        self._text_bytes = float(numel * narrow)
        self._gradient_bytes = float(numel * max(narrow, 4))  # of those that travel along

    def both_ways(self) -> Iterator[_Hop]:
        """Go around each host both ways; with the first hop of each turn but the last, on to the next host."""
        double, single = divmod(self._inside.world_size - 1, 2)
        text = self._text_bytes
        ways = [(1, -1)] * double + [(1,)] * single
        around = [_Hop(self._within_s(text, *way), len(way)) for way in ways]
        first = ways[0] if ways else ()
        for _ in range(self._whole.num_hosts - 1):
            within_s = self._within_s(text, *first, beside=1) if first else 0.0
            yield _Hop(max(within_s, self._between_s(text, beside=len(first))), len(first) + 1)
            yield from around[1:]
        yield from around

    def with_gradients(self, lag: int) -> Iterator[_Hop]:
        """Go around each host one way, then on to the next; a gradient one hop behind its text, or two; last, home."""
        within = [False] * (self._inside.world_size - 1)
        crosses = [*([*within, True] * (self._whole.num_hosts - 1)), *within]
        for number, crossing in enumerate(crosses):
            num_bytes = self._text_bytes + (number > lag) * self._gradient_bytes
            yield _Hop(self._between_s(num_bytes) if crossing else self._within_s(num_bytes, 1), 1)
        alone = self._gradient_bytes
        last_s = self._between_s(alone) if self._whole.num_hosts > 1 else self._within_s(alone, 1)
        if lag and len(crosses) > 1:
            yield _Hop(self._between_s(alone) if crosses[-1] else self._within_s(alone, 1), 0)
        elif lag:
            yield _Hop(0.0, 0)  # the gradient goes home when it is computed
        yield _Hop(last_s, 0)

    def _within_s(self, num_bytes: float, *offsets: int, beside: int = 0) -> float:
        return self._hop_s(self._inside, num_bytes, *offsets, beside=beside)

    def _between_s(self, num_bytes: float, beside: int = 0) -> float:
        return self._hop_s(self._whole, num_bytes, self._whole.ranks_per_host, beside=beside)

    def _hop_s(self, fabric: Fabric, num_bytes: float, *offsets: int, beside: int) -> float:
        """Return how long some messages take, posted with so many others that go another way."""
        transfers = tuple(Transfer(num_bytes, offset=offset) for offset in offsets)
        return lockstep.communication_s(
            fabric, Round(transfers, call_s=fabric.cluster.posting_s(len(transfers) + beside))
        )
