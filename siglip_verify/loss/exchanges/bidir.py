"""bidir: every block travels both ways, half-way around the ring.

W = 4, what rank 0 holds:   [t0]  hop 1: [t3] [t1]  hop 2: [t2]
"""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from ..ranks import Ranks
from ..ring import hop, leftward, rightward


def bidir(text: Tensor, ranks: Ranks) -> Generator[tuple[int, Tensor], None, None]:
    """Yield every rank's texts, passing blocks on in both directions at once.

    In each of (W-1)//2 double hops a rank passes one block to the right and one to the left (in the first, its own both
    ways), and sees two new ones. A block keeps its direction: what came from the left goes on to the right. When W is
    even, the rank opposite is left over; its texts take one single hop more, to the right.

    Args:
        text: This rank's texts [b, d].
        ranks: This rank and its group.

    Yields:
        `(src, texts of rank src)`, this rank's own first, then in pairs from both neighbours outwards.

    Communication, a rank:
        ceil((W-1)/2) hops, W//2 sends of b d numbers to the right and (W-1)//2 to the left, in forward; as many in
        backward, each gradient against the direction of its block.

    Source:
        open_clip `SigLipLoss`, dist_impl "bidir" (pull request #634).
    """
    yield ranks.rank, text
    double_hops, single_hops = divmod(ranks.world_size - 1, 2)
    from_left = from_right = text
    for distance in range(1, double_hops + 1):
        from_left, from_right = hop([from_left, from_right], [rightward(ranks), leftward(ranks)], ranks)
        yield (ranks.rank - distance) % ranks.world_size, from_left
        yield (ranks.rank + distance) % ranks.world_size, from_right
    if single_hops:
        (opposite,) = hop([from_left], [rightward(ranks)], ranks)
        yield (ranks.rank + ranks.world_size // 2) % ranks.world_size, opposite
