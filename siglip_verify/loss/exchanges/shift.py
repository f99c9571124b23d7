"""shift: every block travels to the right, once around the ring.

W = 4, what rank 0 holds:   [t0]  hop 1: [t3]  hop 2: [t2]  hop 3: [t1]
"""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from ..ranks import Ranks
from ..ring import hop, rightward


def shift(text: Tensor, ranks: Ranks) -> Generator[tuple[int, Tensor], None, None]:
    """Yield every rank's texts, passing each block on to the right neighbour W-1 times.

    After hop k a rank holds the texts of the rank k places to its left; one block arrives a hop. In backward the
    gradients travel to the left, in the same number of hops.

    Args:
        text: This rank's texts [b, d].
        ranks: This rank and its group.

    Yields:
        `(src, texts of rank src)`, this rank's own first, then from the left neighbour outwards.

    Communication, a rank:
        W-1 hops of one send of b d numbers in forward, and as many in backward.

    Source:
        Zhai et al. 2023, arXiv:2303.15343, section 3.3; open_clip `SigLipLoss`, dist_impl "shift".
    """
    yield ranks.rank, text
    for distance in range(1, ranks.world_size):
        (text,) = hop([text], [rightward(ranks)], ranks)
        yield (ranks.rank - distance) % ranks.world_size, text
