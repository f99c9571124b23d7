"""The correct loss in constant memory in parts, each of which a plant may replace by a wrong one.

A block goes around the ring with its gradient as a companion: every rank shows the block to its images, adds its share
to the gradient, and passes both on; after the last hop the gradient goes home. `Companions` puts that together as
`loss.SigLipLoss(memory="constant")` does, in plain code: a message is [text] at first and [gradient, text] then, and
all gradients go home in one hop at the end.

Here: plumbing and nothing wrong. Not here: the bugs (`constant`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from siglip_verify.bugs.entry import Loss
from siglip_verify.bugs.plant import send_and_receive, unchanged
from siglip_verify.loss.closed_form import Needs
from siglip_verify.loss.constant import ConstantMemoryLoss
from siglip_verify.loss.exchanges import EXCHANGES
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import Route, leftward, rightward
from siglip_verify.loss.validate import as_scalar
from siglip_verify.loss.walk import Conversation, Walk

Direction = Callable[[Ranks, int], Route]
Streams = Callable[[int], list[tuple[Direction, int]]]
"""At some W: which ways blocks go, and how many places each way."""

STREAMS: Mapping[str, Streams] = {
    "shift": lambda world_size: [(rightward, world_size - 1)],
    "bidir": lambda world_size: [(rightward, world_size // 2), (leftward, (world_size - 1) // 2)],
}


class Stream:
    """The blocks on their way in one direction, one of them on this rank.

    Attributes:
        text: The block that is here.
        gradient: What ranks gave to its gradient so far, this one included; None of the own block.
        shares: The shares that this rank gave, the own block's first.
    """

    def __init__(self, text: Tensor, own_share: Tensor) -> None:
        self.text = text
        self.gradient: Tensor | None = None
        self.shares = [own_share]


def both(stream: Stream) -> Tensor:
    """Return what goes on: the text alone at first, as nobody has a gradient for it yet, then the gradient with it."""
    alone = stream.gradient is None
    return stream.text if alone else torch.stack([stream.gradient, stream.text])  # type: ignore[list-item]


def share_added(came_along: Tensor | None, stream: Stream) -> Tensor:
    """Return the gradient with this rank's share of it."""
    return stream.shares[-1] if came_along is None else came_along + stream.shares[-1]


def to_the_owner(direction: Direction, num_hops: int, ranks: Ranks) -> Route:
    """Return the way home: back over all the places that the block came."""
    return direction(ranks, num_hops).reverse


def sum_of_all(own: Tensor, homes: Sequence[Tensor]) -> Tensor:
    """Return the gradient of the own texts: this rank's own share, and what came home."""
    return own + sum(homes)


@dataclass(frozen=True)
class Companions:
    """Builds a loss in constant memory of the parts given; without any, the correct one.

    Args:
        exchanges: Which ways blocks go, by name of the exchange.
        message: What goes on of a block.
        add: What becomes of the gradient that came along, on this rank.
        home: Where a gradient goes after its last hop.
        total: What the gradient of the own texts is.
        finish: What is done to the loss.
    """

    exchanges: Mapping[str, Streams] = field(default_factory=lambda: STREAMS)
    message: Callable[[Stream], Tensor] = both
    add: Callable[[Tensor | None, Stream], Tensor] = share_added
    home: Callable[[Direction, int, Ranks], Route] = to_the_owner
    total: Callable[[Tensor, Sequence[Tensor]], Tensor] = sum_of_all
    finish: Callable[[Tensor, Ranks], Tensor] = unchanged

    def __call__(self, rank: int, world_size: int, exchange: str, chunk_size: int = 0) -> Loss:
        """Return the loss of one rank."""
        ranks = Ranks(rank, world_size, None)
        ways = [way for way in self.exchanges[exchange](world_size) if way[1]]

        def show(text: Tensor) -> Conversation:
            return EXCHANGES[exchange](text, ranks) if world_size > 1 else _alone(rank, text)

        def show_and_tell(text: Tensor) -> Conversation:
            return self._converse(text, ways, ranks)

        def loss(image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
            scale = as_scalar("logit_scale", logit_scale, image).reshape(())
            bias = as_scalar("logit_bias", logit_bias, image).reshape(())
            walk = Walk(show, show_and_tell, ranks, chunk_size, len(image))
            leaves = (image, text, scale, bias)
            needs = Needs(*(torch.is_grad_enabled() and leaf.requires_grad for leaf in leaves))
            return self.finish(ConstantMemoryLoss.apply(*leaves, walk, needs, False), ranks)

        return loss

    def _converse(self, text: Tensor, ways: Sequence[tuple[Direction, int]], ranks: Ranks) -> Conversation:
        """Show every rank's texts, be told this rank's shares, and return all ranks' sum for its own texts."""
        own = yield ranks.rank, text
        streams = [Stream(text, own.to(text.dtype)) for _ in ways]
        for hop in range(1, max((num_hops for _, num_hops in ways), default=0) + 1):
            under_way = [(stream, way) for stream, way in zip(streams, ways, strict=True) if hop <= way[1]]
            routes = [direction(ranks, 1) for _, (direction, _) in under_way]
            messages = send_and_receive([self.message(stream) for stream, _ in under_way], routes, ranks)
            for (stream, (direction, _)), message in zip(under_way, messages, strict=True):
                came_along, stream.text = _unpacked(message)
                share: Tensor = yield direction(ranks, hop).src, stream.text
                stream.shares.append(share.to(text.dtype))
                stream.gradient = self.add(came_along, stream)
        homeward = [self.home(*way, ranks) for way in ways]
        homes = send_and_receive(list(_gradients(streams)), homeward, ranks) if ways else ()
        return self.total(own, homes)


def _alone(rank: int, text: Tensor) -> Conversation:
    """Show the texts of the only rank there is."""
    yield rank, text
    return None


def _unpacked(message: Tensor) -> tuple[Tensor | None, Tensor]:
    return (message[0], message[1]) if message.ndim == 3 else (None, message)


def _gradients(streams: Sequence[Stream]) -> Iterator[Tensor]:
    for stream in streams:
        assert stream.gradient is not None, "every stream makes a hop"
        yield stream.gradient
