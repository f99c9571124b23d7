"""SIGTERM, noted and not obeyed: a launcher sends it to all ranks when one of them ends, before the verdict is told."""

from __future__ import annotations

import signal
import time
from types import FrameType


class Termination:
    """Whether the launcher has asked this process to end. Made in the main thread."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        signal.signal(signal.SIGTERM, self._note)

    @property
    def came(self) -> bool:
        """Whether it has asked."""
        return self._at_s is not None

    @property
    def since_s(self) -> float:
        """Seconds since it asked; 0 before."""
        return 0.0 if self._at_s is None else time.monotonic() - self._at_s

    def ignore(self) -> None:
        """Ignore it from now on, to the end of the process: the verdict is known, and its code is to be returned."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._at_s = self._at_s or time.monotonic()
