"""reduce: one rank's block at a time, by an all-reduce to which the other ranks give zeros.

W = 4, what every rank holds:   all-reduce 0: [t0]  1: [t1]  2: [t2]  3: [t3]
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..ranks import Ranks


def reduce(text: Tensor, ranks: Ranks) -> Generator[tuple[int, Tensor], None, None]:
    """Yield every rank's texts, one masked all-reduce each.

    This rank's own block comes out of its all-reduce like the others. That is what keeps backward in step: each
    all-reduce of a gradient needs every rank, the owner of the block included, and it is there because its own loss
    used the block.

    Args:
        text: This rank's texts [b, d].
        ranks: This rank and its group.

    Yields:
        `(src, texts of rank src)` for src = 0 .. W-1, the same order on every rank.

    Communication, a rank:
        W all-reduces of b d numbers in forward, and as many in backward. (Not the rooted collective `reduce`.)

    Source:
        open_clip `SigLipLoss`, dist_impl "reduce".
    """
    for src in range(ranks.world_size):
        yield src, _TextsOf.apply(text, src, ranks)


class _TextsOf(torch.autograd.Function):
    """Rank src's texts on every rank; in backward, the sum of every rank's gradient on rank src."""

    @staticmethod
    def forward(ctx: Any, text: Tensor, src: int, ranks: Ranks) -> Tensor:
        ctx.src, ctx.ranks = src, ranks
        return _all_reduce(text if ranks.rank == src else torch.zeros_like(text), ranks)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        total = _all_reduce(grads[0], ctx.ranks)
        return total if ctx.ranks.rank == ctx.src else None, None, None


def _all_reduce(block: Tensor, ranks: Ranks) -> Tensor:
    total = block.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, dist.ReduceOp.SUM, group=ranks.group)
    return total
