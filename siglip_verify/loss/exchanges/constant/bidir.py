"""bidir in constant memory: every block travels both ways, half-way around the ring, each time with a gradient.

W = 4, what rank 0 holds:   [t0]  hop 1: [t3] [t1]  hop 2: [t2 g2] [g0], from rank 3  hop 3: [g0], from rank 2
"""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from ...ranks import Ranks
from ...ring import leftward, rightward
from ...stream import Journey, Travel


def bidir(text: Tensor, ranks: Ranks, travel: Travel) -> Generator[tuple[int, Tensor], Tensor, Tensor]:
    """Show every rank's texts, passing blocks and their gradients on in both directions at once.

    A block goes W//2 places to the right and (W-1)//2 to the left; each of the two streams takes a gradient of its own
    along and sends it home in the hop after its last. When W is even, the stream to the left is one hop shorter, and
    its homecoming shares a hop with the last of the stream to the right.

    Args:
        text: This rank's texts [b, d].
        ranks: This rank and its group.
        travel: How blocks and gradients travel.

    Yields:
        `(src, texts of rank src)`, this rank's own first, then in pairs from both neighbours outwards. To be sent
        back: this rank's share of those texts' gradient, [b, d].

    Returns:
        The gradient of this rank's texts, summed over all ranks, [b, d].

    Communication, a rank:
        W//2 + 1 hops (none at W = 1). W + 1 messages from W = 3 on: W//2 to the right, (W-1)//2 to the left and two
        home; 2 messages at W = 2, where nothing goes to the left. 2 (W-1) b d numbers in all. Nothing in backward.
        Rank r, for W = 2 .. 5, the stream to the right before the one to the left:

        | W | hop 1 | hop 2 | hop 3 |
        |---|---|---|---|
        | 2 | t to r+1 | g to r-1 | |
        | 3 | t to r+1; t to r-1 | g to r-1; g to r+1 | |
        | 4 | t to r+1; t to r-1 | t, g to r+1; g to r+1 | g to r-2 |
        | 5 | t to r+1; t to r-1 | t, g to r+1; t, g to r-1 | g to r-2; g to r+2 |

        With overlap a gradient follows one hop behind its text; a hop that would be empty is none:

        | W | hop 1 | hop 2 | hop 3 | hop 4 |
        |---|---|---|---|---|
        | 2 | t to r+1 | g to r-1 | | |
        | 3 | t to r+1; t to r-1 | g to r-1; g to r+1 | | |
        | 4 | t to r+1; t to r-1 | t to r+1 | g to r+1; g to r+1 | g to r-2 |
        | 5 | t to r+1; t to r-1 | t to r+1; t to r-1 | g to r+1; g to r-1 | g to r-2; g to r+2 |

        All sends of a hop are posted in this order, and then all receives in the same, so that two messages to one rank
        (as at W = 4) cannot be taken for each other. What goes to r+1 is answered from r-1 in the same hop, and so on.
    """
    num_right, num_left = ranks.world_size // 2, (ranks.world_size - 1) // 2
    journey = Journey(text, ranks, [(rightward, num_right), (leftward, num_left)], travel)
    own = yield ranks.rank, text
    for block in journey.arrivals():
        block.add((yield block.src, block.text))
    return journey.bring_home(own)
