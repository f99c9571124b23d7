"""Which rank sent how many bytes and segments to which peer in each phase, measured by the kernel.

Here: keeping one phase's bytes apart from the next one's, and joining the ranks' readings to counts by peer. Not
here: reading sockets (`sockets`), and what the numbers should be.

Counted are bytes sent less bytes sent again, on the sockets that connect two ranks of the world. On gloo a message of
n bytes costs its sender n + 96 and its receiver 48, and collectives are made of such messages.

A rank sends only on behalf of operations that it posted itself. So a phase is measured between two readings, each of
which every rank takes after all ranks have come to a gate, where all that they posted has been waited for. The gate
must not use the sockets that are measured. A gloo barrier does, and sends bytes of its own; hence `store_gate`, which
keeps to the store of the rendezvous (a file, or a server outside the ranks). Steps driven by the parent would do as
well, but one phase's graph would have to outlive its call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec

from siglip_verify.observe.sockets import SocketCount, read_sockets
from siglip_verify.records import Phase, WireCount

Gate = Callable[[], None]


class Store(Protocol):
    """The one thing that a gate needs of a `torch.distributed.Store`."""

    def add(self, key: str, amount: int, /) -> int:
        """Add to a counter that all ranks share and return its new value."""
        ...


class WireReading(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's sockets before and after one phase; None where the kernel does not tell."""

    phase: Phase
    before: tuple[SocketCount, ...] | None
    after: tuple[SocketCount, ...] | None


class WireMeter:
    """Measure the phases of this process: `with meter.phase("forward"): ...`, then `meter.readings`.

    All ranks of the world enter and leave the same phases. Everything posted in a phase must be waited for in it.

    Args:
        gate: Returns when every rank of the world has called it, without using the sockets that are measured.
    """

    def __init__(self, gate: Gate) -> None:
        if os.environ.get("TORCH_DISTRIBUTED_DEBUG", "").upper() == "DETAIL":
            raise ValueError(
                "bytes are measured without torch's own checks, which send some too; "
                "got TORCH_DISTRIBUTED_DEBUG=DETAIL: unset it"
            )
        self._gate = gate
        self.readings: list[WireReading] = []

    @contextmanager
    def phase(self, phase: Phase) -> Generator[None]:
        """Measure what this process sends in this block."""
        self._gate()
        before = read_sockets()
        yield
        self._gate()
        self.readings.append(WireReading(phase=phase, before=before, after=read_sockets()))


def store_gate(store: Store, world_size: int, timeout_s: float = 20.0) -> Gate:
    """Make a gate of one counter in the store of the rendezvous; it can be passed any number of times.

    Args:
        store: A store that all ranks share, such as `dist.PrefixStore("gate", group.get_group_store())`. Its bytes
            are counted if a rank serves it on a socket: use a file, or a server outside the ranks.
        world_size: How many ranks come to the gate.
        timeout_s: Seconds after which a rank that waits alone raises TimeoutError.
    """

    def gate() -> None:
        deadline = time.monotonic() + timeout_s
        goal = -(-store.add("arrived", 1) // world_size) * world_size
        while (arrived := store.add("arrived", 0)) < goal:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"every rank comes to the gate within timeout_s={timeout_s}; got {goal - arrived} of "
                    f"{world_size} missing: see why they did not end the phase"
                )
            time.sleep(0.0005)

    return gate


def attribute(readings: Sequence[Sequence[WireReading]]) -> list[WireCount] | None:
    """Tell from both ends of every connection which rank sent how much to which peer in each phase.

    Args:
        readings: For each rank 0 .. W-1 what its meter read.

    Returns:
        One count for each rank, phase and peer that the rank is connected with, zeros included; a connection that
        does not end in two ranks is left out. None where a rank could not read its sockets ("not available").
    """
    if any(reading.before is None or reading.after is None for rank in readings for reading in rank):
        return None
    owners = {
        (end.local, end.remote): rank
        for rank, phases in enumerate(readings)
        for reading in phases
        for end in reading.after or ()
    }
    totals: dict[tuple[int, Phase, int], tuple[int, int]] = {}
    for rank, phases in enumerate(readings):
        for reading in phases:
            for end, sent_bytes, segments in _sent(reading):
                peer = owners.get((end.remote, end.local), rank)
                if peer != rank:
                    earlier = totals.get((rank, reading.phase, peer), (0, 0))
                    totals[rank, reading.phase, peer] = earlier[0] + sent_bytes, earlier[1] + segments
    return [
        WireCount(rank=rank, peer=peer, phase=phase, wire_bytes=wire_bytes, segments=segments)
        for (rank, phase, peer), (wire_bytes, segments) in totals.items()
    ]


def _sent(reading: WireReading) -> Iterator[tuple[SocketCount, int, int]]:
    """List every socket with the bytes and segments that it sent in the phase."""
    before = {(end.local, end.remote): end for end in reading.before or ()}
    for end in reading.after or ():
        start = before.get((end.local, end.remote))  # a socket opened in the phase counts from zero
        sent_bytes, segments = (start.sent_bytes, start.segments) if start else (0, 0)
        yield end, end.sent_bytes - sent_bytes, end.segments - segments
