"""How the recorder comes to see operations: the interface between it and what watches the process.

Here: the two protocols. Not here: the back end there is (`c10d`), which needs torch; the parent, which reads logs, has
no need of it.
"""

from __future__ import annotations

from typing import Any, Protocol

from siglip_verify.observe.log import Operation


class Observer(Protocol):
    """Whom a back end tells what it sees (`Recorder`)."""

    @property
    def watching(self) -> bool:
        """Whether operations are recorded now."""
        ...

    @property
    def num_posted(self) -> int:
        """How many operations were recorded so far."""
        ...

    def posting(self, kind: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Take the arguments of an operation before anything is made of them; return those to post it with."""
        ...

    def posted(self, operation: Operation) -> int:
        """Take an operation that is about to be posted; return its sequence number."""
        ...

    def returned(self, sequence: int, src: int | None = None) -> None:
        """Take that waiting for an operation returned, and who sent to it where that was open."""
        ...


class Backend(Protocol):
    """A way to see every communication operation of this process, in any thread.

    Between `install` and `remove` the observer is told of each operation before it is posted, and of each wait after
    it returned. ProcessGroup hooks of later torch versions can take the place of `c10d.DispatcherBackend`.
    """

    def install(self, observer: Observer, *, poison: bool) -> None:
        """Begin to tell `observer`; with `poison`, fill with NaN what an operation will overwrite."""
        ...

    def remove(self) -> None:
        """End, and put back everything that was there before."""
        ...
