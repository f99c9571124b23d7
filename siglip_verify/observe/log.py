"""The log of one rank's operations, in memory that it shares with its parent.

Here: the binary form, writing it in the rank and reading it in the parent, while the rank runs, hangs or is dead.
Not here: what is written and when (`recorder`).

A header of 64 bytes, then slots of 256 bytes, in the host's byte order. A slot counts once its *mark* (its index + 1)
is written, which happens last: a rank that is killed half-way leaves a slot that the reader ignores. When the slots
are full the header goes on counting, and the reader says so.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import msgspec

from siglip_verify.records import Event, Phase

MAGIC = b"SVLOG001"
_PHASES: tuple[Phase | None, ...] = (None, "forward", "backward")

_HEADER = struct.Struct("=8s Q Q Q 32x")  # magic, capacity, operations posted, phase
_POSTED_AT, _PHASE_AT = 16, 24
_SLOT = struct.Struct("=Q d d Q q I B B 2x i i 16s 56s 16s 48s 8q")
_MARK, _TIME, _RANK = struct.Struct("=Q"), struct.Struct("=d"), struct.Struct("=i")
_RETURNED_AT, _SRC_AT = 8, 48
_MAX_DIMS, _NOBODY = 8, -1

HEADER_BYTES = _HEADER.size
SLOT_BYTES = _SLOT.size


class Operation(NamedTuple):
    """What one operation hands over to whom; the fields are those of `Event`."""

    kind: str
    op: str
    src: int | None
    dst: int | None
    tag: int | None
    dtype: str
    shape: tuple[int, ...]
    payload_bytes: int
    group: str


class LogHeader(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log has come.

    Attributes:
        capacity: Operations that it can hold.
        posted: Operations that the rank posted, those that found no slot included.
        phase: The phase the rank is in; None between phases.
        overflowed: Whether operations found no slot.
    """

    capacity: int
    posted: int
    phase: Phase | None
    overflowed: bool


class LogOverflowError(RuntimeError):
    """A rank posted more operations than its log holds; `header` says how many, `events` are the first ones."""

    def __init__(self, rank: int, header: LogHeader, events: list[Event]) -> None:
        needed = log_bytes(header.posted)
        super().__init__(
            f"the log holds every operation of its rank; got posted={header.posted} on rank {rank} "
            f"with capacity={header.capacity}: give it log_bytes({header.posted}) = {needed} bytes"
        )
        self.header = header
        self.events = events


def log_bytes(num_operations: int) -> int:
    """Compute the size in bytes of a log that holds `num_operations`."""
    return HEADER_BYTES + num_operations * SLOT_BYTES


class LogWriter:
    """The rank's end of a log: empties the buffer and appends operations to it.

    Args:
        buffer: Writable, contiguous bytes (memoryview, mmap, bytearray) shared with the parent.

    Raises:
        ValueError: The buffer is read-only or holds not one operation.
    """

    def __init__(self, buffer: memoryview | bytearray) -> None:
        self._view = memoryview(buffer).cast("B")
        self._capacity = (len(self._view) - HEADER_BYTES) // SLOT_BYTES
        if self._view.readonly or self._capacity < 1:
            raise ValueError(
                f"a log is written to at least {log_bytes(1)} writable bytes; got a buffer of "
                f"{len(self._view)} bytes, readonly={self._view.readonly}: make it with log_bytes(num_operations)"
            )
        self._posted = 0
        clear_log(self._view)
        _HEADER.pack_into(self._view, 0, MAGIC, self._capacity, 0, 0)

    def enter_phase(self, phase: Phase | None) -> None:
        """Say in the header which phase the rank is in; None between phases."""
        _MARK.pack_into(self._view, _PHASE_AT, _PHASES.index(phase))

    def append(self, operation: Operation, phase: Phase, hop: int, posted_s: float) -> int:
        """Write one operation and return its index (its sequence number), also where it found no slot."""
        index = self._posted
        self._posted += 1
        if index < self._capacity:
            self._write(index, operation, phase, hop, posted_s)
        _MARK.pack_into(self._view, _POSTED_AT, self._posted)
        return index

    def finish(self, index: int, returned_s: float, src: int | None = None) -> None:
        """Write when waiting for an operation returned, and who sent to it where that was open."""
        if index >= self._capacity:
            return
        start = log_bytes(index)
        if src is not None:
            _RANK.pack_into(self._view, start + _SRC_AT, src)
        _TIME.pack_into(self._view, start + _RETURNED_AT, returned_s)

    def _write(self, index: int, operation: Operation, phase: Phase, hop: int, posted_s: float) -> None:
        if index + 1 < self._capacity:  # what an earlier recording left there must not read as the next operation
            _MARK.pack_into(self._view, log_bytes(index + 1), 0)
        kind, op, src, dst, tag, dtype, shape, payload_bytes, group = operation
        dims = shape if len(shape) <= _MAX_DIMS else (math.prod(shape),)
        _SLOT.pack_into(
            self._view,
            log_bytes(index),
            0,
            math.nan,
            posted_s,
            payload_bytes,
            _NOBODY if tag is None else tag,
            hop,
            _PHASES.index(phase),
            len(dims),
            _NOBODY if src is None else src,
            _NOBODY if dst is None else dst,
            kind.encode(),
            op.encode(),
            dtype.encode(),
            group.encode(),
            *dims,
            *(0,) * (_MAX_DIMS - len(dims)),
        )
        _MARK.pack_into(self._view, log_bytes(index), index + 1)


def clear_log(buffer: memoryview | bytearray) -> None:
    """Empty a log, so that what an earlier recording left in the buffer is not read again."""
    memoryview(buffer).cast("B")[: HEADER_BYTES + _MARK.size] = bytes(HEADER_BYTES + _MARK.size)


def read_header(buffer: memoryview | bytes | bytearray) -> LogHeader:
    """Read how far a log has come; an empty buffer is a log of a rank that has not begun.

    Raises:
        ValueError: The bytes are not a log.
    """
    view = memoryview(buffer).cast("B")
    magic, capacity, posted, phase = _HEADER.unpack_from(view)
    if magic not in (MAGIC, bytes(len(MAGIC))):
        raise ValueError(f"a log begins with {MAGIC!r} or zeros; got {magic!r}: pass the buffer of a Recorder")
    return LogHeader(capacity=capacity, posted=posted, phase=_PHASES[phase], overflowed=posted > capacity)


def read_log(buffer: memoryview | bytes | bytearray, rank: int) -> list[Event]:
    """Read the operations that a rank has recorded so far, at any time and whatever became of the rank.

    Args:
        buffer: The bytes that the rank's `Recorder` writes to, or a copy of them.
        rank: The rank to write into the events.

    Returns:
        The events in the order of posting; empty where the rank recorded nothing yet.

    Raises:
        LogOverflowError: The rank posted more operations than the log holds; the error carries those that it holds.
        ValueError: The bytes are not a log.
    """
    view = memoryview(buffer).cast("B")
    header = read_header(view)
    events: list[Event] = []
    for index in range(header.capacity):
        if _MARK.unpack_from(view, log_bytes(index))[0] != index + 1:
            break
        events.append(_event(_SLOT.unpack_from(view, log_bytes(index)), rank))
    if header.overflowed:
        raise LogOverflowError(rank, header, events)
    return events


def _event(fields: tuple[Any, ...], rank: int) -> Event:
    (mark, returned_s, posted_s, payload_bytes, tag, hop, phase, ndim, src, dst, kind, op, dtype, group, *dims) = fields
    kind, op, dtype, group = (text.rstrip(b"\0").decode(errors="replace") for text in (kind, op, dtype, group))
    is_message = kind in ("send", "recv")
    return Event(
        rank=rank,
        sequence=mark - 1,
        kind=kind,
        op=op,
        phase=_PHASES[phase],
        hop=hop,
        src=None if src == _NOBODY else src,
        dst=None if dst == _NOBODY else dst,
        tag=tag if is_message else None,
        dtype=dtype,
        shape=tuple(dims[:ndim]),
        payload_bytes=payload_bytes,
        posted_s=posted_s,
        returned_s=None if math.isnan(returned_s) else returned_s,
        group=group,
    )
