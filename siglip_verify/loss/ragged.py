"""Ranks with different numbers of rows: the exchanges carry blocks of one size, and the rest is cut off on arrival."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional

from .walk import Conversation, Walk


def ragged_walk(walk: Walk, sizes: Sequence[int]) -> Walk:
    """Return the same walk among ranks of these sizes.

    Each rank's sums are divided by N / W, so that the mean over ranks is still the mean over all N rows.
    """

    def fitted(exchange: Callable[[Tensor], Conversation]) -> Callable[[Tensor], Conversation]:
        return lambda text: trimmed(exchange(pad(text, max(sizes))), sizes, walk.ranks.rank)

    normalizer = sum(sizes) / len(sizes)
    return walk._replace(show=fitted(walk.show), show_and_tell=fitted(walk.show_and_tell), normalizer=normalizer)


def pad(block: Tensor, num_rows: int) -> Tensor:
    """Return the block with rows of zeros below, so that there are `num_rows`; differentiable."""
    return functional.pad(block, (0, 0, 0, num_rows - len(block)))


def trimmed(exchange: Conversation, sizes: Sequence[int], rank: int) -> Conversation:
    """Show what an exchange of padded blocks shows, each in its own rank's size.

    Args:
        exchange: An exchange of blocks of max(sizes) rows.
        sizes: Every rank's rows.
        rank: This rank.

    Returns:
        What the exchange returns, without the padding.
    """
    share: Tensor | None = None
    while True:
        try:
            src, texts = exchange.send(share)
        except StopIteration as end:
            return None if end.value is None else end.value[: sizes[rank]]
        share = yield src, texts[: sizes[src]]
        if share is not None:
            share = pad(share, max(sizes))
