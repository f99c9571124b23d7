"""Messages over a socket arrive whole, in order and unchanged, however the socket cuts them.

Oracle: the messages that were posted. Sees: framing that depends on read sizes, lost ends, a parent that blocks.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.world.channel import Channel


@contextmanager
def channels() -> Iterator[tuple[Channel, Channel]]:
    """Two ends of one line, both non-blocking."""
    ends = socket.socketpair()
    pair = [Channel(end) for end in ends]
    for end in ends:
        end.setblocking(False)
    try:
        yield pair[0], pair[1]
    finally:
        for channel in pair:
            channel.close()


sizes = st.one_of(st.integers(0, 40), st.sampled_from([1 << 16, (1 << 18) + 1, 1 << 20]))


@examples(50)
@given(messages=st.lists(st.tuples(sizes, st.integers(0, 255)), max_size=6))
def test_messages_arrive_as_they_were_posted(messages: list[tuple[int, int]]) -> None:
    expected = [bytes([fill]) * size for size, fill in messages]
    received: list[bytes] = []
    with channels() as (sender, receiver):
        for message in expected:
            sender.post(message)
        is_sent = False
        while not is_sent or len(received) < len(expected):
            is_sent = sender.flush()
            while (message := receiver.receive()) is not None:
                received.append(bytes(message))
    assert received == expected


@given(pieces=st.lists(st.integers(1, 9), min_size=1))
def test_a_message_may_come_in_pieces(pieces: list[int]) -> None:
    message = bytes(range(20))
    framed = len(message).to_bytes(8, "big") + message
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    channel = Channel(ours)
    with theirs:
        while framed:
            assert channel.receive() is None
            size = pieces.pop() if pieces else len(framed)
            theirs.sendall(framed[:size])
            framed = framed[size:]
        assert channel.receive() == message
        channel.close()


def test_nothing_blocks_when_the_other_end_does_not_read() -> None:
    with channels() as (sender, receiver):
        sender.post(bytes(50_000_000))
        assert not sender.flush()
        assert receiver.receive() is None
        assert not sender.flush() or receiver.receive() is not None


@pytest.mark.parametrize("sent", [b"", b"\0\0\0", (5).to_bytes(8, "big") + b"1234"])
def test_the_end_of_the_line_is_an_error_even_within_a_message(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(EOFError):
        channel.receive()
    channel.close()


def test_sending_to_nobody_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.close()
    channel.post(b"message")
    with pytest.raises(ConnectionError):
        channel.flush()
    channel.close()
