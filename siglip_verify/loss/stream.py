"""Blocks that travel with their gradients: what `ring` is to autograd, this is to the constant-memory exchanges.

hop            1         2 .. num_hops        num_hops + 1
carries     [text]    [gradient, text]     [gradient], to the owner

Nobody has a gradient for a block before its first hop, so that one carries text alone. From then on each rank adds its
share to the gradient that came along, and both go on in one message; after the last hop the gradient goes home by one
direct message. What has gone is forgotten, so memory does not depend on how far it goes. Texts of half precision share
their messages with gradients in float32: two dtypes in one message, as bytes, and no message more.

With a lag of one, a block goes on before this rank has computed its share, and the gradient follows a hop behind:

hop            1       2        3 .. num_hops        num_hops + 1      num_hops + 2
carries     [text]  [text]    [gradient, text]       [gradient]     [gradient], to the owner
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .ranks import Ranks
from .ring import Route, post

Direction = Callable[[Ranks, int], Route]


class Travel(NamedTuple):
    """How blocks and gradients travel.

    Attributes:
        overlap: Each hop leaves before this rank looks at the blocks that the last one brought; gradients lag by one.
        grad_dtype: What gradients are added up in on their way, at least as wide as the texts; None is float32, or the
            texts' dtype where that is wider.
    """

    overlap: bool = False
    grad_dtype: torch.dtype | None = None

    def grad_dtype_of(self, text: Tensor) -> torch.dtype:
        """Return the dtype in which these texts' gradient travels."""
        return self.grad_dtype or torch.promote_types(text.dtype, torch.float32)


class Stream:
    """The blocks of all ranks on their way in one direction, one of them on each rank.

    Args:
        text: This rank's texts [b, d], with which its stream begins.
        ranks: This rank and its group.
        direction: `rightward` or `leftward`.
        num_hops: How many places every block goes, 1 or more.
        travel: Whether gradients lag, and their dtype.

    Attributes:
        text: The block that is here now.
        home: What the ranks on its way gave to the gradient of this rank's own texts; None until it is back.
    """

    def __init__(self, text: Tensor, ranks: Ranks, direction: Direction, num_hops: int, travel: Travel) -> None:
        self.text = text
        self.home: Tensor | None = None
        self._ranks, self._direction, self._num_hops = ranks, direction, num_hops
        self._onward, self._homeward = direction(ranks, 1), direction(ranks, num_hops).reverse
        self._lag, self._grad_dtype = int(travel.overlap), travel.grad_dtype_of(text)
        self._hop = self._distance = 0  # hops begun; places that the block here has come
        self._gradient: Tensor | None = None  # what the ranks before this one added up
        self._share: Tensor | None = None  # what this rank adds
        self._parcel: Tensor | None = None  # the message in which gradient and text came: they go on in it

    @property
    def src(self) -> int:
        """The rank whose block is here now."""
        return self._direction(self._ranks, self._distance).src

    def add(self, share: Tensor) -> None:
        """Take this rank's share of the gradient of the block that is here."""
        self._share = share

    def departure(self) -> tuple[Tensor, Route] | None:
        """Begin a hop: return what this rank sends, and where; None if nothing is due."""
        self._hop += 1
        text_goes, gradient_goes = self._hop <= self._num_hops, self._hop > 1 + self._lag
        if not gradient_goes:
            return (self.text, self._onward) if text_goes else None
        gradient = self._added_up()
        if text_goes:
            return self._packed(gradient), self._onward
        return gradient, self._homeward if self._goes_home else self._onward

    def arrival(self, message: Tensor) -> bool:
        """End a hop: take what came where the departure went, and return whether it brought a block."""
        text_came, gradient_came = self._hop <= self._num_hops, self._hop > 1 + self._lag
        if text_came and gradient_came:
            self._parcel = message
            self._gradient, self.text = _unpack(message, self.text.shape[0], self._grad_dtype)
        elif text_came:
            self.text = message
        elif self._goes_home:
            self.home = message
        else:
            self._gradient = message
        self._distance += text_came
        return text_came

    @property
    def _goes_home(self) -> bool:
        return self._hop > self._num_hops + self._lag

    def _added_up(self) -> Tensor:
        assert self._share is not None, "every block is given its share before its gradient goes on"
        gradient, share = self._gradient, self._share
        self._gradient = self._share = None
        return share.to(dtype=self._grad_dtype) if gradient is None else gradient.add_(share)

    def _packed(self, gradient: Tensor) -> Tensor:
        parcel, self._parcel = self._parcel, None
        if parcel is None:
            parcel = _pack(gradient, self.text)
            self.text = parcel[-self.text.shape[0] :]  # lets go of the message that it came in
        return parcel


def _pack(gradient: Tensor, text: Tensor) -> Tensor:
    """Return both as rows of the text's dtype and width: the gradient first, so that it stays aligned."""
    return torch.cat([gradient.view(text.dtype).view(-1, text.shape[1]), text])


def _unpack(parcel: Tensor, num_rows: int, grad_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the gradient and the text in a parcel, as views with so many rows each."""
    gradient, text = parcel.split_with_sizes([parcel.shape[0] - num_rows, num_rows])
    return gradient.view(num_rows, -1).view(grad_dtype), text


class Journey:
    """Streams that hop together: the messages of a hop are one group, in the order of the streams.

    The first hop leaves at once. It needs no gradient, and this rank can look at its own block meanwhile.

    Args:
        text: This rank's texts [b, d].
        ranks: This rank and its group.
        streams: Direction and number of hops of each; one of no hops sends nothing.
        travel: How they travel.
    """

    def __init__(self, text: Tensor, ranks: Ranks, streams: Sequence[tuple[Direction, int]], travel: Travel) -> None:
        self._streams = [Stream(text, ranks, *stream, travel) for stream in streams if stream[1]]
        self._homes: list[Tensor] = []
        self._ranks, self._overlap = ranks, travel.overlap
        self._depart()

    def arrivals(self) -> Iterator[Stream]:
        """Yield each block that comes by; it must be given this rank's share before the next is asked for."""
        while self._streams:
            arrived = self._arrive()
            if self._overlap:
                self._depart()
            yield from arrived
            if not self._overlap:
                self._depart()

    def bring_home(self, own: Tensor) -> Tensor:
        """Return the gradient of this rank's own texts: its own share, and what came home."""
        for home in self._homes:
            own += home
        return own

    def _depart(self) -> None:
        """Post a hop."""
        streams: list[Stream] = []
        messages: list[Tensor] = []
        routes: list[Route] = []
        for stream in self._streams:
            if (departure := stream.departure()) is not None:
                streams.append(stream)
                messages.append(departure[0])
                routes.append(departure[1])
        self._under_way = streams, post(messages, routes, self._ranks)

    def _arrive(self) -> list[Stream]:
        """Wait for a hop, and return the streams to which it brought a block."""
        streams, flight = self._under_way
        del self._under_way  # with what was sent
        arrived: list[Stream] = []
        for stream, message in zip(streams, flight.wait(), strict=True):
            if stream.arrival(message):
                arrived.append(stream)
            elif stream.home is not None:  # nothing is left to send
                self._streams.remove(stream)
                self._homes.append(stream.home)
        return arrived
