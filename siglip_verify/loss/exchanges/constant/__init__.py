"""The exchanges in constant memory: the same journeys, each block with its gradient as a companion.

An exchange here is a conversation. It yields `(src, texts of rank src)` as the others do, and is sent back this rank's
share of those texts' gradient, [b, d]; what it returns in the end is the gradient of this rank's own texts, summed over
all ranks. Texts are valid until their share is sent.

Numbers a rank and step, all in forward (P = b d numbers is one block; backward sends nothing):

| exchange | messages | hops | payload |
|---|---|---|---|
| shift | W, the last of them home (0 at W = 1) | W | 2 (W-1) P |
| bidir | W + 1, two of them home (2 at W = 2, 0 at W = 1) | W//2 + 1 | 2 (W-1) P |
| shift, overlap | W + 1 (2, 0 at W = 2, 1) | W + 1 (2, 0 at W = 2, 1) | 2 (W-1) P |
| bidir, overlap | W + 3 (6, 4, 2, 0 at W = 4, 3, 2, 1) | W//2 + 2 (2, 2, 0 at W = 3, 2, 1) | 2 (W-1) P |

Gradients of G bytes a number beside texts of T bytes make a payload of (W-1) P (G + T) bytes in as many messages: 6 a
number for half precision, whose gradients travel in float32 unless `grad_dtype` says otherwise.

`reduce` and `gather` have no such form. `gather` holds the texts of all ranks at once. `reduce` holds one at a time,
but nothing travels on which a gradient could come along: each would need another all-reduce.
"""

from collections.abc import Callable, Generator

from torch import Tensor

from ...ranks import Ranks
from ...stream import Travel
from .bidir import bidir
from .shift import shift

Conversation = Generator[tuple[int, Tensor], Tensor, Tensor]
Exchange = Callable[[Tensor, Ranks, Travel], Conversation]

EXCHANGES: dict[str, Exchange] = {"bidir": bidir, "shift": shift}

__all__ = ["EXCHANGES", "Conversation", "Exchange", "bidir", "shift"]
