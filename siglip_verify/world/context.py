"""What a function that runs in a rank may ask: which rank it is, and where it may write.

Here: the context and its one instance in each rank. Not here: how a rank comes to be (`rank`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOG_BYTES = 1 << 20
"""Size of each rank's log. It costs memory only where it is written."""


@dataclass(frozen=True, slots=True)
class RankContext:
    """The place of this process in its world.

    Attributes:
        rank: This process' rank in the default process group.
        world_size: Number of ranks.
        log: LOG_BYTES writable bytes that the parent reads at any time, also after this rank's death. Zero at first;
            the world never clears them.
        folder: Private folder of this world, shared by its ranks and removed with it. None in a launcher's ranks.
        device: Where this rank computes, as torch writes it.
    """

    rank: int
    world_size: int
    log: memoryview
    folder: Path | None = None
    device: str = "cpu"


_context: RankContext | None = None


def context() -> RankContext:
    """Return the context of the rank that this process is.

    Raises:
        RuntimeError: This process is not a rank of a world.
    """
    if _context is None:
        raise RuntimeError("context() answers in the ranks of a world only; call it in a function given to Worlds.run")
    return _context


def enter(rank_context: RankContext) -> None:
    """Make this process the rank that `rank_context` describes."""
    global _context
    _context = rank_context
