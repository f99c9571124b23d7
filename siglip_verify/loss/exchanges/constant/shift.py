"""shift in constant memory: every block travels to the right, once around the ring, and its gradient with it.

W = 4, what rank 0 holds:   [t0]  hop 1: [t3]  hop 2: [t2 g2]  hop 3: [t1 g1]  hop 4: [g0], from rank 3
"""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from ...ranks import Ranks
from ...ring import rightward
from ...stream import Journey, Travel


def shift(text: Tensor, ranks: Ranks, travel: Travel) -> Generator[tuple[int, Tensor], Tensor, Tensor]:
    """Show every rank's texts, passing each block and its gradient on to the right neighbour W-1 times.

    After hop k a rank holds the texts of the rank k places to its left, and what the k-1 ranks in between gave to their
    gradient; it adds its share before both go on. After hop W-1 every other rank has seen the block, which stands one
    place to the left of its owner: the gradient goes there in one hop more.

    Args:
        text: This rank's texts [b, d].
        ranks: This rank and its group.
        travel: How blocks and gradients travel.

    Yields:
        `(src, texts of rank src)`, this rank's own first, then from the left neighbour outwards. To be sent back: this
        rank's share of those texts' gradient, [b, d].

    Returns:
        The gradient of this rank's texts, summed over all ranks, [b, d].

    Communication, a rank:
        W hops of one message, all to the right neighbour (none at W = 1): b d numbers in the first and in the last,
        2 b d in the others; 2 (W-1) b d numbers in all. Nothing in backward. Rank r, for W = 2 .. 5:

        | W | hop 1 | hop 2 | hop 3 | hop 4 | hop 5 |
        |---|---|---|---|---|---|
        | 2 | t to r+1 | g to r+1 | | | |
        | 3 | t to r+1 | t, g to r+1 | g to r+1 | | |
        | 4 | t to r+1 | t, g to r+1 | t, g to r+1 | g to r+1 | |
        | 5 | t to r+1 | t, g to r+1 | t, g to r+1 | t, g to r+1 | g to r+1 |

        With overlap, all to the right neighbour too, but a gradient follows one hop behind its text; the hop that would
        be empty at W = 2 is none:

        | W | hop 1 | hop 2 | hop 3 | hop 4 | hop 5 | hop 6 |
        |---|---|---|---|---|---|---|
        | 2 | t | g | | | | |
        | 3 | t | t | g | g | | |
        | 4 | t | t | t, g | g | g | |
        | 5 | t | t | t, g | t, g | g | g |
    """
    journey = Journey(text, ranks, [(rightward, ranks.world_size - 1)], travel)
    own = yield ranks.rank, text
    for block in journey.arrivals():
        block.add((yield block.src, block.text))
    return journey.bring_home(own)
