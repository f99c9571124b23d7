"""What the kernel says of this process's own TCP sockets: bytes and segments sent (TCP_INFO; no privileges needed).

Here: finding the sockets and reading them once they are at rest. Not here: phases and peers (`wire`).
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

_DESCRIPTORS = Path("/proc/self/fd")
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

# struct tcp_info of linux/tcp.h; bytes_sent and bytes_retrans came with Linux 4.19.
_TCP_INFO_BYTES = 216
_STATE, _ESTABLISHED = 0, 1  # u8
_TOTAL_RETRANS, _NOTSENT_BYTES, _DATA_SEGS_OUT = 100, 144, 156  # u32
_BYTES_SENT, _BYTES_RETRANS = 200, 208  # u64


class SocketCount(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel says of one connected TCP socket of this process, since it was opened.

    Attributes:
        local: This end, `address:port`.
        remote: The other end.
        sent_bytes: Bytes handed to the network, those sent again left out (headers are not counted).
        segments: Segments with such bytes, those sent again left out.
        unsent_bytes: Bytes that the program wrote and the kernel has not sent yet.
    """

    local: str
    remote: str
    sent_bytes: int
    segments: int
    unsent_bytes: int


def tcp_info_available() -> bool:
    """Tell whether this system counts the bytes of each socket (Linux 4.19 and later)."""
    if not (hasattr(socket, "TCP_INFO") and _DESCRIPTORS.is_dir()):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return len(_tcp_info(probe)) >= _TCP_INFO_BYTES


def read_sockets(timeout_s: float = 5.0) -> tuple[SocketCount, ...] | None:
    """Read the connected TCP sockets of this process, once the kernel has sent what it was given.

    Returns:
        The sockets in the order of their descriptors; None ("not available") where the system does not count.

    Raises:
        TimeoutError: The counts kept changing, or bytes stayed unsent, for `timeout_s` seconds.
    """
    if not tcp_info_available():
        return None
    deadline = time.monotonic() + timeout_s
    last, counts = None, tuple(_connected())
    while counts != last or any(count.unsent_bytes for count in counts):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"sockets come to rest within timeout_s={timeout_s}; got {sum(c.unsent_bytes for c in counts)} unsent "
                "bytes: wait for every operation, on every rank, before reading"
            )
        time.sleep(0.001)
        last, counts = counts, tuple(_connected())
    return counts


def _connected() -> Iterator[SocketCount]:
    for descriptor in sorted(int(entry.name) for entry in _DESCRIPTORS.iterdir()):
        end = _duplicate(descriptor)
        if end is None:
            continue
        with end:
            if end.family in _FAMILIES and end.type == socket.SOCK_STREAM:
                info = _tcp_info(end)
                if info[_STATE] == _ESTABLISHED and not _is_of_store(end):
                    yield _count(end, info)


def _is_of_store(end: socket.socket) -> bool:
    """Tell whether a socket is of the launcher's store, which a rank may serve; gates and results pass there."""
    port = os.environ.get("MASTER_PORT", "")
    return port in (str(end.getsockname()[1]), str(end.getpeername()[1]))


def _duplicate(descriptor: int) -> socket.socket | None:
    """Open a second descriptor of a socket, which can be closed without closing it; None for what is no socket."""
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        if error.errno != errno.EBADF:  # closed since it was listed, as the listing's own descriptor is
            raise
    return None


def _count(end: socket.socket, info: bytes) -> SocketCount:
    return SocketCount(
        local=_name(end.getsockname()),
        remote=_name(end.getpeername()),
        sent_bytes=_u64(info, _BYTES_SENT) - _u64(info, _BYTES_RETRANS),
        segments=_u32(info, _DATA_SEGS_OUT) - _u32(info, _TOTAL_RETRANS),
        unsent_bytes=_u32(info, _NOTSENT_BYTES),
    )


def _name(address: tuple[str, int]) -> str:
    host, port, *_ = address
    return f"{host.removeprefix('::ffff:')}:{port}"  # an IPv4 address has one name, whatever the family of the socket


def _tcp_info(end: socket.socket) -> bytes:
    return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)


def _u32(info: bytes, offset: int) -> int:
    return struct.unpack_from("=I", info, offset)[0]


def _u64(info: bytes, offset: int) -> int:
    return struct.unpack_from("=Q", info, offset)[0]
