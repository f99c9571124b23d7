"""Losses with one thing wrong, for the tests of the run; each is named by `path_of(Name)` as a user would name it."""

from __future__ import annotations

import collections
import itertools
import os
import signal
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from siglip_verify.loss import SigLipLoss
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import hop, leftward, rightward

Blocks = Iterator[tuple[int, Tensor]]


def without_last_hop(text: Tensor, ranks: Ranks) -> Blocks:
    """Yield what bidir yields, less the rank opposite when W is even."""
    yield ranks.rank, text
    to_right = to_left = text
    for distance in range(1, (ranks.world_size - 1) // 2 + 1):
        to_right, to_left = hop([to_right, to_left], [rightward(ranks), leftward(ranks)], ranks)
        yield (ranks.rank - distance) % ranks.world_size, to_right
        yield (ranks.rank + distance) % ranks.world_size, to_left


def forwarding_swapped(text: Tensor, ranks: Ranks) -> Blocks:
    """Send back what came from the left to the left, and likewise on the right: visible from W = 4 on."""
    yield ranks.rank, text
    double_hops, single_hops = divmod(ranks.world_size - 1, 2)
    to_right = to_left = text
    for distance in range(1, double_hops + 1):
        from_left, from_right = hop([to_right, to_left], [rightward(ranks), leftward(ranks)], ranks)
        yield (ranks.rank - distance) % ranks.world_size, from_left
        yield (ranks.rank + distance) % ranks.world_size, from_right
        to_right, to_left = from_right, from_left
    if single_hops:
        (opposite,) = hop([to_right], [rightward(ranks)], ranks)
        yield (ranks.rank + ranks.world_size // 2) % ranks.world_size, opposite


class WithoutLastHop(SigLipLoss):
    def _exchange(self, text: Tensor) -> Blocks:
        return without_last_hop(text, Ranks(self.rank, self.world_size, self.group))


class ForwardingSwapped(SigLipLoss):
    def _exchange(self, text: Tensor) -> Blocks:
        return forwarding_swapped(text, Ranks(self.rank, self.world_size, self.group))


class OnRankOne(SigLipLoss):
    """Something happens to rank 1 before it sends anything."""

    def happen(self) -> None:
        raise NotImplementedError

    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        if self.rank == 1:
            self.happen()
        return super().forward(*args, **options)


class Killed(OnRankOne):
    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Sleeping(OnRankOne):
    def happen(self) -> None:
        time.sleep(10_000)


class Raising(OnRankOne):
    def happen(self) -> None:
        raise RuntimeError("the deliberate error")


class OutOfMemory(OnRankOne):
    """From three rows on the features do not fit rank 1."""

    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        self.rows = len(args[0])
        return super().forward(*args, **options)

    def happen(self) -> None:
        if self.rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 TiB.")


class Stopped(OnRankOne):
    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class Looping(OnRankOne):
    """Rank 0 loops and never lets go of the interpreter, rank 1 is stopped."""

    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        if self.rank == 0:
            collections.deque(itertools.repeat(None), maxlen=0)  # in C alone
        return super().forward(*args, **options)

    def happen(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class WrongAtGreatScale(SigLipLoss):
    """Right at the scale that a training begins with."""

    def forward(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, **options: bool) -> Tensor:
        return super().forward(image, text, scale.clamp(max=50), bias, **options)


class DoubledAtOneRow(SigLipLoss):
    def forward(self, image: Tensor, *args: Tensor, **options: bool) -> Tensor:
        return super().forward(image, *args, **options) * (2 if len(image) == 1 else 1)


class DoubledFromFourRows(SigLipLoss):
    def forward(self, image: Tensor, *args: Tensor, **options: bool) -> Tensor:
        return super().forward(image, *args, **options) * (2 if len(image) >= 4 else 1)


class WholeTilesAlone(SigLipLoss):
    """Works in tiles of 8 rows, and drops those that fill none; fewer than 8 rows are one tile."""

    def forward(self, image: Tensor, text: Tensor, *args: Tensor, **options: bool) -> Tensor:
        rows = len(image) // 8 * 8 or len(image)
        return super().forward(image[:rows], text[:rows], *args, **options)


class SixteenDimensions(SigLipLoss):
    def forward(self, image: Tensor, text: Tensor, *args: Tensor, **options: bool) -> Tensor:
        return super().forward(image[:, :16], text[:, :16], *args, **options)


class NotScalar(SigLipLoss):
    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        return super().forward(*args, **options).expand(3)


class NotANumber(SigLipLoss):
    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        return super().forward(*args, **options) * torch.nan


class WithoutGradient(SigLipLoss):
    def forward(self, *args: Tensor, **options: bool) -> Tensor:
        return super().forward(*args, **options).detach()


class NoLoss:
    def __init__(self, rank: int, world_size: int, dist_impl: str) -> None:
        raise KeyError("no such setting")


number = 7
