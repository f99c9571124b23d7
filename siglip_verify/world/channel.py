"""Whole messages over a stream socket, for both ends of the line between the parent and a rank.

Here: framing and partial reads and writes. Not here: what the messages mean (`messages`).

One class serves both ends: on a blocking socket (the rank) `flush` and `receive` return when they are done; on a
non-blocking one (the parent) they do what can be done now. So a rank that stops in the middle of a large message, or
reads nothing, costs the parent no time.
"""

from __future__ import annotations

import socket
import struct
from collections import deque

_SIZE = struct.Struct("!Q")


class Channel:
    """One end of a line of messages.

    Args:
        sock: A connected stream socket; the channel owns it from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._outbox: deque[memoryview] = deque()
        self._expect(_SIZE.size, is_header=True)

    def fileno(self) -> int:
        """Return the socket's descriptor, for selectors."""
        return self._socket.fileno()

    def post(self, message: bytes) -> None:
        """Put a message into the outbox; `flush` sends it."""
        self._outbox.append(memoryview(_SIZE.pack(len(message))))
        self._outbox.append(memoryview(message))

    def flush(self) -> bool:
        """Send from the outbox; return whether it is empty.

        Raises:
            ConnectionError: The other end is gone.
        """
        while self._outbox:
            try:
                sent = self._socket.send(self._outbox[0])
            except BlockingIOError:
                return False
            self._outbox[0] = self._outbox[0][sent:]
            if not self._outbox[0]:
                self._outbox.popleft()
        return True

    def receive(self) -> bytearray | None:
        """Read the next message; None if the socket is non-blocking and the message is not whole yet.

        Raises:
            EOFError: The other end is gone.
            ConnectionError: The other end is gone and left bytes unread.
        """
        while True:
            while self._filled < len(self._buffer):
                try:
                    count = self._socket.recv_into(memoryview(self._buffer)[self._filled :])
                except BlockingIOError:
                    return None
                if count == 0:
                    raise EOFError("the other end of the channel is gone")
                self._filled += count
            buffer, was_header = self._buffer, self._is_header
            if not was_header:
                self._expect(_SIZE.size, is_header=True)
                return buffer
            self._expect(_SIZE.unpack(buffer)[0], is_header=False)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _expect(self, num_bytes: int, *, is_header: bool) -> None:
        self._buffer, self._filled, self._is_header = bytearray(num_bytes), 0, is_header
