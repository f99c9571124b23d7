"""What a warm world answers, whoever its ranks are: forked here (`world`), or those of a launcher (`joined`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class WarmWorld(Protocol):
    """A group of ranks that is asked again and again."""

    @property
    def world_size(self) -> int:
        """Number of ranks, W."""
        ...

    @property
    def folder(self) -> Path | None:
        """The private folder of its ranks; None where they have none."""
        ...

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that end with it, in rank order."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        ...

    def log(self, rank: int) -> memoryview:
        """Return a rank's log, LOG_BYTES read-only bytes."""
        ...

    def run(self, job: bytes, timeout_s: float) -> list[Any]:
        """Have every rank do a packed job; return their values in rank order.

        Raises:
            WorldError: A rank failed; the world is closed.
        """
        ...

    def close(self) -> None:
        """Let go of it; a world of its size is then made anew."""
        ...
