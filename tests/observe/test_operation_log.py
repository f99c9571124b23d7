"""The log of a rank, without a rank.

Oracle: the operations that were written, as Python objects; the bytes of a half-written slot are made by hand.
Can see: fields lost or mixed up, limits of the binary form, stale or half-written slots that are read, an overflow
that is passed over. Cannot see: what the recorder puts into the log.
"""

from __future__ import annotations

import mmap
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_verify.observe import LogOverflowError, Operation, clear_log, log_bytes, read_header, read_log
from siglip_verify.observe.log import HEADER_BYTES, SLOT_BYTES, LogWriter
from siglip_verify.records import Event

SEND = Operation("send", "c10d::send", 0, 1, 7, "float32", (2, 3), 24, "0")
RECV_ANY = Operation("recv", "c10d::recv_any_source_", None, 0, 7, "float32", (2, 3), 24, "0")

_rank = st.none() | st.integers(0, 2**31 - 1)
_operation = st.builds(
    Operation,
    kind=st.sampled_from(["all_reduce", "unknown", "reduce_scatter"]),
    op=st.sampled_from(["c10d::allreduce_", "c10d::allgather_into_tensor_coalesced_"]),
    src=_rank,
    dst=_rank,
    tag=st.none(),
    dtype=st.sampled_from(["float32", "float8_e4m3fnuz", "complex128"]),
    shape=st.lists(st.integers(0, 2**40), max_size=8).map(tuple),
    payload_bytes=st.integers(0, 2**60),
    group=st.sampled_from(["0", "17", "sha1:" + "a" * 40]),
)
_post = st.tuples(
    _operation,
    st.sampled_from(["forward", "backward"]),
    st.integers(0, 2**31),
    st.floats(0, 1e12),
    st.none() | st.floats(0, 1e12),
)


def _as_event(
    index: int, operation: Operation, phase: str, hop: int, posted_s: float, returned_s: float | None
) -> Event:
    return Event(
        rank=5, sequence=index, phase=phase, hop=hop, posted_s=posted_s, returned_s=returned_s, **operation._asdict()
    )


@given(st.lists(_post, max_size=6))
@settings(deadline=None)
def test_what_was_written_is_read(posts: list[tuple]) -> None:
    buffer = bytearray(log_bytes(8))
    writer = LogWriter(buffer)
    for operation, phase, hop, posted_s, returned_s in posts:
        index = writer.append(operation, phase, hop, posted_s)
        if returned_s is not None:
            writer.finish(index, returned_s)
    assert read_log(buffer, rank=5) == [_as_event(index, *post) for index, post in enumerate(posts)]
    assert read_header(buffer).posted == len(posts)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**62))
@settings(deadline=None)
def test_messages_keep_their_tag_and_learn_an_open_source(src: int, tag: int) -> None:
    buffer = bytearray(log_bytes(1))
    writer = LogWriter(buffer)
    writer.append(RECV_ANY._replace(tag=tag), "forward", 0, 1.0)
    assert read_log(buffer, 0)[0].src is None
    writer.finish(0, 2.0, src)
    (event,) = read_log(buffer, 0)
    assert (event.src, event.tag, event.returned_s) == (src, tag, 2.0)


def test_a_half_written_slot_is_not_read() -> None:
    whole = bytearray(log_bytes(4))
    writer = LogWriter(whole)
    writer.append(SEND, "forward", 0, 1.0)
    start = log_bytes(1)
    before = bytes(whole)
    writer.append(SEND._replace(dst=2), "backward", 0, 2.0)
    for written in range(8, SLOT_BYTES, 8):  # the mark at the slot's start comes last
        torn = bytearray(before)
        torn[start + 8 : start + written] = whole[start + 8 : start + written]
        assert [event.dst for event in read_log(torn, 0)] == [1]
    assert [event.dst for event in read_log(whole, 0)] == [1, 2]


def test_a_slot_whose_writing_breaks_off_is_not_read() -> None:
    buffer = bytearray(log_bytes(2))
    writer = LogWriter(buffer)
    writer.append(SEND, "forward", 0, 1.0)
    with pytest.raises(struct.error):
        writer.append(SEND._replace(shape=(2**63,)), "forward", 0, 1.0)  # fits no field, found after all the others
    assert bytes(buffer).count(b"c10d::send") == 2
    assert len(read_log(buffer, 0)) == 1


@pytest.mark.parametrize(("first", "second"), [(5, 0), (5, 2), (8, 7), (3, 3)])
def test_an_earlier_recording_is_not_read_again(first: int, second: int) -> None:
    buffer = bytearray(log_bytes(8))
    for recording, num_operations in enumerate((first, second)):
        writer = LogWriter(buffer)
        for _ in range(num_operations):
            writer.append(SEND._replace(tag=recording), "forward", 0, 1.0)
    assert [event.tag for event in read_log(buffer, 0)] == [1] * second


def test_clear_log_empties_the_log() -> None:
    buffer = bytearray(log_bytes(2))
    LogWriter(buffer).append(SEND, "forward", 0, 1.0)
    clear_log(buffer)
    assert read_log(buffer, 0) == []
    assert read_header(buffer).posted == 0


def test_a_log_that_is_too_small_says_so_and_keeps_the_first_operations() -> None:
    buffer = bytearray(log_bytes(2) + SLOT_BYTES - 1)  # not quite three slots
    writer = LogWriter(buffer)
    for tag in range(5):
        writer.finish(writer.append(SEND._replace(tag=tag), "forward", tag, 1.0), 2.0)
    expected = (
        rf"got posted=5 on rank 3 with capacity=2: give it log_bytes\(5\) = {HEADER_BYTES + 5 * SLOT_BYTES} bytes"
    )
    with pytest.raises(LogOverflowError, match=expected) as caught:
        read_log(buffer, rank=3)
    assert [event.tag for event in caught.value.events] == [0, 1]
    header = caught.value.header
    assert (header.capacity, header.posted, header.overflowed) == (2, 5, True)
    assert read_header(buffer) == header


def test_a_log_that_is_exactly_full_has_not_overflowed() -> None:
    buffer = bytearray(log_bytes(2))
    writer = LogWriter(buffer)
    for _ in range(2):
        writer.append(SEND, "forward", 0, 1.0)
    assert len(read_log(buffer, 0)) == 2
    assert not read_header(buffer).overflowed


def test_the_header_tells_the_phase() -> None:
    buffer = bytearray(log_bytes(1))
    writer = LogWriter(buffer)
    phases = []
    for phase in ("forward", None, "backward"):
        writer.enter_phase(phase)
        phases.append(read_header(buffer).phase)
    assert phases == ["forward", None, "backward"]


def test_a_shape_of_more_than_eight_dimensions_is_written_flat() -> None:
    buffer = bytearray(log_bytes(1))
    LogWriter(buffer).append(SEND._replace(shape=(2,) * 9), "forward", 0, 1.0)
    assert read_log(buffer, 0)[0].shape == (512,)


def test_a_log_works_in_memory_that_processes_share() -> None:
    with mmap.mmap(-1, log_bytes(2)) as shared:
        LogWriter(memoryview(shared)).append(SEND, "forward", 0, 1.0)
        assert len(read_log(bytes(shared), 0)) == 1


@pytest.mark.parametrize("buffer", [bytearray(log_bytes(1) - 1), bytes(log_bytes(1))], ids=["too small", "read-only"])
def test_a_buffer_that_cannot_hold_a_log_is_refused(buffer: bytearray | bytes) -> None:
    with pytest.raises(ValueError, match=rf"got a buffer of {len(buffer)} bytes, readonly=.*: make it with log_bytes"):
        LogWriter(buffer)


def test_bytes_that_are_no_log_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got b'XXXXXXXX': pass the buffer of a Recorder"):
        read_log(b"X" * log_bytes(1), 0)


def test_a_rank_that_has_not_begun_has_an_empty_log() -> None:
    assert read_log(bytes(log_bytes(3)), 0) == []
