"""The exchanges in constant memory: the same journeys, with each block's gradient as a companion.

An exchange here is a conversation. It yields `(src, texts of rank src)` as the others do, and is sent back what this
rank's images give to the gradient of those texts, [b, d]; what it returns in the end is the gradient of this rank's own
texts, summed over all ranks. Texts that were yielded are valid until the answer is sent.

Numbers a rank and step (P = b d numbers is one block), all in forward; backward sends nothing:

| exchange | messages | hops | payload |
|---|---|---|---|
| shift | W, of which the last goes home (0 at W = 1) | W | 2 (W-1) P |
| bidir | W + 1, of which two go home (2 at W = 2, 0 at W = 1) | W//2 + 1 | 2 (W-1) P |

`reduce` and `gather` have no such form: a collective hands every rank's texts to all ranks at once, and brings their
gradients home by one more; between the two every rank holds W gradients, or must ask for the texts a second time.
"""

from collections.abc import Callable, Generator

from torch import Tensor

from ...ranks import Ranks
from .bidir import bidir
from .shift import shift

Conversation = Generator[tuple[int, Tensor], Tensor, Tensor]
Exchange = Callable[[Tensor, Ranks], Conversation]

EXCHANGES: dict[str, Exchange] = {"bidir": bidir, "shift": shift}

__all__ = ["EXCHANGES", "Conversation", "Exchange", "bidir", "shift"]
