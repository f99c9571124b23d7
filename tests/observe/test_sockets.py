"""The kernel's count of this process's own sockets.

Oracle: the bytes that the test itself wrote to a loopback connection.
Can see: fields read at a wrong offset, sockets that are missed or named wrongly, a reading taken too early.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from siglip_verify.observe import SocketCount, read_sockets, sockets, tcp_info_available

pytestmark = pytest.mark.skipif(not tcp_info_available(), reason="this system does not count bytes by socket")

Connection = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(
                socket.create_server(("", 0), family=request.param, dualstack_ipv6=request.param == socket.AF_INET6)
            )
            port = listener.getsockname()[1]
            # to the IPv6 socket by IPv4: one end says ::ffff:127.0.0.1, the other 127.0.0.1
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        except OSError as error:
            pytest.skip(f"no such network here: {error}")
        server, _ = listener.accept()
        stack.enter_context(server)
        yield client, server


def _find(end: socket.socket) -> SocketCount:
    port = end.getsockname()[1], end.getpeername()[1]
    (count,) = [
        count
        for count in read_sockets() or ()
        if (count.local.endswith(f":{port[0]}") and count.remote.endswith(f":{port[1]}"))
    ]
    return count


def test_bytes_and_segments_sent_are_counted_by_socket(connection: Connection) -> None:
    client, server = connection
    assert _find(client).sent_bytes == 0
    for size in (1, 1000, 30_000):
        before = _find(client)
        client.sendall(bytes(size))
        assert len(server.recv(size, socket.MSG_WAITALL)) == size
        after = _find(client)
        assert after.sent_bytes - before.sent_bytes == size
        assert 1 <= after.segments - before.segments <= 1 + size // 500
    assert _find(server).sent_bytes == 0


def test_both_ends_name_the_connection_alike(connection: Connection) -> None:
    client, server = connection
    here, there = _find(client), _find(server)
    assert (here.local, here.remote) == (there.remote, there.local)
    assert here.local == "127.0.0.1:" + str(client.getsockname()[1])


def test_reading_leaves_the_sockets_open(connection: Connection) -> None:
    client, server = connection
    read_sockets()
    client.sendall(b"still here")
    assert server.recv(10, socket.MSG_WAITALL) == b"still here"


def test_bytes_that_the_kernel_holds_back_are_not_read_past(connection: Connection) -> None:
    client, _ = connection
    client.setblocking(False)
    with suppress(BlockingIOError):
        while True:  # nobody reads at the other end
            client.send(bytes(1 << 16))
    with pytest.raises(
        TimeoutError, match=r"within timeout_s=0.05; got [1-9]\d* unsent bytes: wait for every operation"
    ):
        read_sockets(timeout_s=0.05)


def test_listeners_and_other_descriptors_are_left_out(tmp_path: Path) -> None:
    before = read_sockets()
    with (
        socket.create_server(("127.0.0.1", 0)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        (tmp_path / "file").open("w"),
    ):
        assert read_sockets() == before


def test_elsewhere_the_counts_are_not_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sockets, "_DESCRIPTORS", tmp_path / "no such folder")
    assert not tcp_info_available()
    assert read_sockets() is None


def test_a_kernel_that_does_not_count_bytes_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_TCP_INFO_BYTES", 513)  # one more than is asked for: an older kernel gives less
    assert read_sockets() is None
