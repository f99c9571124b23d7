"""A recorder that has its rank commit one fault at one point of the step.

Here: the point, and what becomes of a truncated message. Not here: the deeds (`world.faults`).
"""

from __future__ import annotations

from typing import Any

import torch

from siglip_verify.fault import Fault
from siglip_verify.observe.log import Operation
from siglip_verify.observe.recorder import Recorder
from siglip_verify.world.faults import commit


class Trap(Recorder):
    """Record as a `Recorder` does, and set off a fault at the first operation of its hop.

    By then the operation stands in the log and is not posted: as where a process ends of itself on its way into the
    transport. A truncated message is posted, and recorded, with half of its numbers.

    Args:
        buffer: As of a `Recorder`.
        fault: The fault of this rank.
    """

    def __init__(self, buffer: memoryview | bytearray, fault: Fault) -> None:
        super().__init__(buffer)
        self._fault = fault
        self._is_set = True

    def posting(self, kind: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Halve what is handed over, where that is the fault (for the back end)."""
        if self._fault.kind == "truncated" and kind != "recv" and self._is_here(kind):
            return _halved(arguments)
        return arguments

    def posted(self, operation: Operation) -> int:
        """Write an operation, then set off the fault if this is its point (for the back end)."""
        is_here = self._is_here(operation.kind)
        sequence = super().posted(operation)
        if is_here:
            self._is_set = False
            commit(self._fault)
        return sequence

    def check_sprung(self) -> None:
        """Raise RuntimeError if the step ended and its fault was never set off."""
        if self._is_set:
            raise RuntimeError(f"a step with a fault comes by its place; got none in {self._fault.place}")

    def _is_here(self, kind: str) -> bool:
        return self._is_set and self.coming_hop(kind) == (self._fault.phase, self._fault.hop)


def _halved(value: Any) -> Any:
    """Return the first half of every tensor, in the same memory; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.view(-1)[: value.numel() // 2]
    if isinstance(value, (list, tuple)):
        return type(value)(_halved(item) for item in value)  # pyright: ignore[reportCallIssue]
    return value
