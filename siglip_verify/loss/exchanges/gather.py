"""gather: all blocks at once, by one all-gather.

W = 4, what every rank holds:   all-gather: [t0] [t1] [t2] [t3]
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..ranks import Ranks


def gather(text: Tensor, ranks: Ranks) -> Generator[tuple[int, Tensor], None, None]:
    """Yield every rank's texts, out of one all-gather.

    Args:
        text: This rank's texts [b, d].
        ranks: This rank and its group.

    Yields:
        `(src, texts of rank src)` for src = 0 .. W-1, views of one tensor [W, b, d].

    Communication, a rank:
        One all-gather of b d numbers in forward. In backward each rank has a gradient for every block, and every
        block's gradients are summed on its owner: one reduce-scatter of W b d numbers, or on gloo one all-to-all, see
        `reduce_scatter`. (Not the rooted collective `gather`.)

    Source:
        open_clip `SigLipLoss`, dist_impl "gather".
    """
    yield from enumerate(_AllGather.apply(text, ranks))


class _AllGather(torch.autograd.Function):
    """Every rank's texts [W, b, d]; in backward, the sum over ranks of the gradients of this rank's texts."""

    @staticmethod
    def forward(ctx: Any, text: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        texts = text.new_empty(ranks.world_size, *text.shape)
        _all_gather(texts.view(-1, text.shape[1]), text.contiguous(), group=ranks.group)
        return texts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return reduce_scatter(grads[0].contiguous(), ctx.ranks), None


def reduce_scatter(blocks: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum over all ranks of the block that they have for this rank, [W, b, d] -> [b, d].

    gloo implements reduce-scatter as an all-reduce of the whole tensor, twice the bytes that must move; there an
    all-to-all and a local sum move what is needed and no more.
    """
    if dist.get_backend(ranks.group) == dist.Backend.GLOO:
        mine = torch.empty_like(blocks)
        dist.all_to_all_single(mine, blocks, group=ranks.group)
        return mine.sum(0)
    total = blocks.new_empty(blocks.shape[1:])
    _reduce_scatter(total, blocks.flatten(0, 1), dist.ReduceOp.SUM, group=ranks.group)
    return total


# The names since torch 2.13, where the older ones warn of their end.
_all_gather: Any = getattr(dist, "all_gather_single", None) or getattr(dist, "all_gather_into_tensor")  # noqa: B009
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or getattr(dist, "reduce_scatter_tensor")  # noqa: B009
