"""Losses with one thing wrong in what they send, each for one finding; named by path as a user would name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.loss import SigLipLoss

SAME_SIZE = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


class FromTheLeft(SigLipLoss):
    """Sees its own texts and those that `pass_on` brings from the left: right at W = 2, but for what it breaks."""

    def _exchange(self, text: Tensor) -> Iterator[tuple[int, Tensor]]:
        yield self.rank, text
        if self.world_size > 1:
            yield self.left, self.pass_on(text.detach().contiguous())

    @property
    def left(self) -> int:
        return (self.rank - 1) % self.world_size

    @property
    def right(self) -> int:
        return (self.rank + 1) % self.world_size

    def pass_on(self, text: Tensor) -> Tensor:
        return self.swap(text, torch.empty_like(text))

    def swap(self, outgoing: Tensor, incoming: Tensor, receives: bool = True) -> Tensor:
        """Send to the right and receive from the left."""
        operations = [dist.P2POp(dist.isend, outgoing, self.right)]
        operations += [dist.P2POp(dist.irecv, incoming, self.left)] * receives
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        return incoming


class DroppedReceive(FromTheLeft):
    """Rank 0 does not take what its left neighbour sends."""

    def pass_on(self, text: Tensor) -> Tensor:
        return self.swap(text, torch.zeros_like(text), receives=self.rank != 0)


class OtherSize(FromTheLeft):
    """The buffer has one row more than what arrives: gloo fills it in part and says nothing."""

    def pass_on(self, text: Tensor) -> Tensor:
        return self.swap(text, text.new_zeros(len(text) + 1, text.shape[1]))[:-1]


class OtherDtype(FromTheLeft):
    """Receives the bits as whole numbers and reads them as what they are: the numbers come out right."""

    def pass_on(self, text: Tensor) -> Tensor:
        return self.swap(text, torch.empty_like(text, dtype=SAME_SIZE[text.dtype])).view(text.dtype)


class SwappedOrder(FromTheLeft):
    """Rank 0 issues its two collectives, of the same size, in the other order."""

    def pass_on(self, text: Tensor) -> Tensor:
        blocks = [torch.empty_like(text) for _ in range(self.world_size)]
        both: list[Callable[[], object]] = [
            lambda: dist.all_reduce(text.clone()),
            lambda: dist.all_gather(blocks, text),
        ]
        for collective in both if self.rank else reversed(both):
            collective()
        return blocks[self.left]


class SelfSend(FromTheLeft):
    """Sends to itself, which torch refuses."""

    def pass_on(self, text: Tensor) -> Tensor:
        dist.send(text, self.rank)
        return text


class NarrowWire(FromTheLeft):
    """Sends bfloat16 whatever the features are."""

    def pass_on(self, text: Tensor) -> Tensor:
        narrow = text.to(torch.bfloat16)
        return self.swap(narrow, torch.empty_like(narrow)).to(text.dtype)


class NarrowWhenLarge(SigLipLoss):
    """Sends one bfloat16 copy of the texts from eight rows on: more than any drawn case has."""

    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        if len(args[1]) >= 8 and self.world_size > 1:
            dist.all_reduce(args[1].detach().to(torch.bfloat16))
        return super().forward(*args, **options)


# ------------------------------------------------------------------ not wrong, but not to be counted as usual
_library = torch.library.Library("c10d", "FRAGMENT")
if not hasattr(torch.ops.c10d, "mystery_"):
    _library.define("mystery_(Tensor[] tensors) -> ()")
    _library.impl("mystery_", lambda tensors: None, "CPU")


class UnknownOperation(SigLipLoss):
    """Calls an operation that the recorder has never heard of, and computes the right thing."""

    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        torch.ops.c10d.mystery_([args[1].detach()])
        return super().forward(*args, **options)


class Chatty(SigLipLoss):
    """Posts more operations than a rank's log holds, and computes the right thing."""

    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        for _ in range(5000):
            dist.all_reduce(torch.ones(()))
        return super().forward(*args, **options)
