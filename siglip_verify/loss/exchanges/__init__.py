"""The exchanges: ways in which every rank comes to see every rank's texts. One file each, same skeleton.

An exchange is a generator. Called with this rank's texts [b, d], it yields `(src, texts of rank src)` once for every
rank, its own included, in an order of its own choosing; the texts carry gradients home to the rank they came from.
Put two of the files side by side: what differs is the algorithm.

Numbers a rank and step, for W ranks with b rows of d numbers (P = b d numbers is one block):

| exchange | forward | backward | blocks held at once |
|---|---|---|---|
| bidir  | W-1 sends of P in ceil((W-1)/2) hops | the same | 2 arriving |
| shift  | W-1 sends of P in W-1 hops | the same | 1 arriving |
| reduce | W all-reduces of P | the same | 1 arriving |
| gather | 1 all-gather of P | 1 reduce-scatter (on gloo: all-to-all) of W P | W |

`reduce` and `gather` are not the rooted collectives of those names.
"""

from collections.abc import Callable, Generator

from torch import Tensor

from ..ranks import Ranks
from .bidir import bidir
from .gather import gather
from .reduce import reduce
from .shift import shift

Exchange = Callable[[Tensor, Ranks], Generator[tuple[int, Tensor], None, None]]

EXCHANGES: dict[str, Exchange] = {"bidir": bidir, "shift": shift, "reduce": reduce, "gather": gather}


def alone(text: Tensor, ranks: Ranks) -> Generator[tuple[int, Tensor], None, None]:
    """Yield this rank's texts, which are all there are; nothing is sent."""
    yield ranks.rank, text


__all__ = ["EXCHANGES", "Exchange", "alone", "bidir", "gather", "reduce", "shift"]
