"""The recorder: every communication operation of this process, by phase and hop, into a log that the parent reads.

Here: phases, hops, the order of operations, the clock. Not here: how operations are seen (`backend`) and how the log
is laid out (`log`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from siglip_verify.observe.backend import Backend
from siglip_verify.observe.log import LogWriter, Operation
from siglip_verify.records import Phase

_MESSAGES = ("send", "recv")


class Recorder:
    """Record what this process sends and receives within phases; outside of them nothing is recorded.

        with Recorder(buffer) as recorder:
            with recorder.phase("forward"):
                loss = compute_loss()
            with recorder.phase("backward"):
                loss.backward()

    Every operation is in the log before it is posted. A *hop* is a group of operations posted together: sends and
    receives from the first until a wait for one of them returned; a collective is a hop of its own. Within a phase
    hops count 0, 1, 2 ...; a phase that is entered again goes on counting.

    State is of the process, not of a thread: on CUDA, backward runs in another thread than forward.

    Args:
        buffer: Writable bytes shared with the parent, at least `log_bytes(1)`; `read_log` reads them.
        poison: Fill with NaN what an operation will overwrite (receive buffers and outputs of floating dtypes), so
            that a read before the wait shows.
        backend: How operations are seen; `c10d.DispatcherBackend` if left out.

    Raises:
        ValueError: The buffer is read-only or holds not one operation.
    """

    def __init__(self, buffer: memoryview | bytearray, *, poison: bool = True, backend: Backend | None = None) -> None:
        self._log = LogWriter(buffer)
        self._poison = poison
        self._backend = backend or _dispatcher_backend()
        self._lock = threading.Lock()
        self._phase: Phase | None = None
        self._hops: dict[Phase, int] = {"forward": -1, "backward": -1}
        self._batch: set[int] = set()  # the sends and receives of the open hop
        self.num_posted = 0

    def __enter__(self) -> Recorder:
        self._backend.install(self, poison=self._poison)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.remove()

    @contextmanager
    def phase(self, phase: Phase) -> Generator[None]:
        """Record what is posted in this block as of `phase`.

        Raises:
            RuntimeError: A phase is under way.
        """
        if self._phase is not None:
            raise RuntimeError(f"phases do not nest; got phase={phase} within {self._phase}: leave that one first")
        self._enter(phase)
        try:
            yield
        finally:
            self._enter(None)

    @property
    def watching(self) -> bool:
        """Whether operations are recorded now."""
        return self._phase is not None

    def coming_hop(self, kind: str) -> tuple[Phase | None, int]:
        """Tell the phase, and the hop in it, that an operation of this kind belongs to if it is posted now."""
        if self._phase is None:
            return None, 0
        return self._phase, self._hops[self._phase] + (kind not in _MESSAGES or not self._batch)

    def posting(self, kind: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let an operation pass as it is (for the back end)."""
        return arguments

    def posted(self, operation: Operation) -> int:
        """Write an operation that is about to be posted; return its sequence number (for the back end)."""
        with self._lock:
            assert self._phase is not None, "the back end asks `watching` first"
            _, hop = self.coming_hop(operation.kind)
            self._hops[self._phase] = hop
            sequence = self._log.append(operation, self._phase, hop, time.monotonic())
            if operation.kind in _MESSAGES:
                self._batch.add(sequence)
            else:
                self._batch.clear()
            self.num_posted += 1
            return sequence

    def returned(self, sequence: int, src: int | None = None) -> None:
        """Write that waiting for an operation returned, and who sent to it where that was open (for the back end)."""
        with self._lock:
            self._log.finish(sequence, time.monotonic(), src)
            if sequence in self._batch:
                self._batch.clear()

    def _enter(self, phase: Phase | None) -> None:
        with self._lock:
            self._batch.clear()
            self._phase = phase
            self._log.enter_phase(phase)


def _dispatcher_backend() -> Backend:
    from siglip_verify.observe.c10d import DispatcherBackend  # needs torch, which only ranks have loaded

    return DispatcherBackend()
