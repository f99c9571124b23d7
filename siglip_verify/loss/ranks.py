"""Who is who in the process group: this rank, its neighbours, and the numbers torch wants for them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch.distributed as dist


class UnderWay(Protocol):
    """Something posted and not yet waited for."""

    def wait(self) -> object:
        """Wait until it is done."""
        ...


class Ranks(NamedTuple):
    """This rank among the ranks that share the global batch.

    Attributes:
        rank: This process's rank in the group, 0 <= rank < world_size.
        world_size: Number of ranks in the group, W.
        group: The process group; None is the default group.
        ahead: Where hops may run ahead (`ring.ahead`), the one that is under way; None where each is waited for.
    """

    rank: int
    world_size: int
    group: dist.ProcessGroup | None
    ahead: list[UnderWay] | None = None

    def at(self, places: int) -> int:
        """Return the rank so many places to the right around the ring; to the left, if negative."""
        return (self.rank + places) % self.world_size

    def global_rank(self, rank: int) -> int:
        """Return the global number of a rank of the group, which is what point-to-point operations want."""
        return rank if self.group is None else dist.get_global_rank(self.group, rank)
