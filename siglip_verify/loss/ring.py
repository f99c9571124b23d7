"""The exchange with neighbours, once for every exchange that goes around the ring: as it is, and differentiable.

rank        0         1         2         3
forward   [t0] ---> [t1] ---> [t2] ---> [t3] ---> (0)     each block goes one rank to the right
backward  (3) <--- [g1] <--- [g2] <--- [g3] <--- [g0]     its gradient comes back the same way
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from .ranks import Ranks, UnderWay


class Route(NamedTuple):
    """Where one block of a hop goes, and where the one that takes its place comes from (ranks of the group)."""

    dst: int
    src: int

    @property
    def reverse(self) -> Route:
        """The way back."""
        return Route(dst=self.src, src=self.dst)


def rightward(ranks: Ranks, places: int = 1) -> Route:
    """Send to the right and receive from the left, over so many places."""
    return Route(dst=ranks.at(places), src=ranks.at(-places))


def leftward(ranks: Ranks, places: int = 1) -> Route:
    """Send to the left and receive from the right, over so many places."""
    return rightward(ranks, -places)


def hop(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> tuple[Tensor, ...]:
    """Send each block along its route and return what arrives, differentiably.

    All sends and receives of a hop are posted together, so no order of ranks can deadlock. In backward the gradient
    of what arrived goes back to the rank that it came from, in one hop of as many messages.

    Args:
        blocks: What this rank sends, each [b, d]; the same shapes and dtypes on every rank.
        routes: One route a block.
        ranks: The ring.

    Returns:
        What arrived along each route: the shape and dtype of the block that was sent along it.
    """
    return _Hop.apply(ranks, tuple(routes), *blocks)  # type: ignore[no-any-return]


class _Hop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Ranks, routes: tuple[Route, ...], *blocks: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks, ctx.routes = ranks._replace(ahead=None), routes
        if ranks.ahead is None:
            return post(blocks, routes, ranks).wait()
        _land(ranks.ahead)  # this hop passes on what the one before brings
        flight = post(blocks, routes, ranks)
        ranks.ahead.append(flight)
        return tuple(flight.incoming)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        back = [route.reverse for route in ctx.routes]
        return None, None, *hop(grads, back, ctx.ranks)


Blocks = Generator[tuple[int, Tensor], None, None]


def ahead(exchange: Callable[[Tensor, Ranks], Blocks], text: Tensor, ranks: Ranks) -> Blocks:
    """Yield what an exchange yields, with every hop posted before the blocks of the one before are looked at.

    The exchange itself does not know: its hops are posted and not waited for, and a hop's blocks are held back until
    the next one is under way.
    """
    under_way: list[UnderWay] = []
    latest: UnderWay | None = None
    held_back: list[tuple[int, Tensor]] = []
    for block in exchange(text, ranks._replace(ahead=under_way)):
        if under_way and under_way[-1] is not latest:
            yield from held_back
            held_back, latest = [], under_way[-1]
        held_back.append(block)
    _land(under_way)
    yield from held_back


def _land(under_way: list[UnderWay]) -> None:
    while under_way:
        under_way.pop().wait()


class Flight(NamedTuple):
    """One hop on its way. What it carries belongs to it until `wait` returns."""

    works: list[dist.Work]
    outgoing: list[Tensor]
    incoming: list[Tensor]

    def wait(self) -> tuple[Tensor, ...]:
        """Return what arrived along each route, when all has arrived and all has left."""
        for work in reversed(self.works):  # receives first: when they are done the sends are, too, as a rule
            work.wait()
        return tuple(self.incoming)


def post(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> Flight:
    """Post every send, then every receive, each in the order of the routes; no gradient."""
    outgoing = [block.contiguous() for block in blocks]  # gloo refuses strided tensors; expanded gradients are strided
    incoming = [torch.empty_like(block) for block in outgoing]
    sends = [(dist.isend, block, ranks.global_rank(dst)) for block, (dst, _) in zip(outgoing, routes, strict=True)]
    receives = [(dist.irecv, block, ranks.global_rank(src)) for block, (_, src) in zip(incoming, routes, strict=True)]
    return Flight(_posted(sends + receives, ranks.group), outgoing, incoming)


def _posted(operations: list[tuple[Any, Tensor, int]], group: dist.ProcessGroup | None) -> list[dist.Work]:
    """Post them together.

    On NCCL each alone would be a kernel that waits for its peer's, and a ring of them could wait for ever. gloo has no
    such batches: torch takes them apart again, which costs a tenth of this thread's step at (8, 64).
    """
    if not operations:
        return []
    if dist.get_backend(group) == dist.Backend.GLOO:
        return [operation(block, peer, group=group) for operation, block, peer in operations]
    return dist.batch_isend_irecv([dist.P2POp(*operation, group=group) for operation in operations])
