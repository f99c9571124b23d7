"""What the kernel counts, by peer and phase, against what gloo is known to send.

Oracle: for messages and collectives, formulas by hand: a message of n bytes costs its sender n + 96 and its receiver
48, and collectives are rings or stars of such messages. For the joining of ends, readings written by hand.
Can see: bytes given to the wrong peer or phase, bytes of the gates themselves, retransmissions or unsent bytes that
are not settled. Cannot see: networks that lose packets, for loopback loses none.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.observe import SocketCount, WireMeter, WireReading, attribute, store_gate, wire
from siglip_verify.records import Phase, WireCount
from siglip_verify.world import Worlds, context

Message = tuple[int, int, int]  # source, destination, bytes
Matrix = list[list[int]]


def _meter() -> WireMeter:
    world = dist.group.WORLD
    assert world is not None
    return WireMeter(store_gate(dist.PrefixStore("gate", world.get_group_store()), context().world_size))


def _bytes(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8)


def _measured(
    worlds: Worlds, world_size: int, job: Callable[..., list[WireReading]], *args: object
) -> dict[Phase, Matrix]:
    counts = attribute(worlds.run(world_size, job, *args))
    assert counts is not None
    assert len(counts) == 2 * world_size * (world_size - 1)  # every phase, rank and peer, once
    matrices: dict[Phase, Matrix] = {
        phase: [[0] * world_size for _ in range(world_size)] for phase in ("forward", "backward")
    }
    for count in counts:
        matrices[count.phase][count.rank][count.peer] = count.wire_bytes
    return matrices


# ------------------------------------------------------------------ messages
def exchange_messages(forward: list[Message], backward: list[Message]) -> list[WireReading]:
    meter = _meter()
    for phase, messages in (("forward", forward), ("backward", backward)):
        with meter.phase(phase):
            _exchange(messages)
        dist.barrier()  # sends bytes of its own, between the phases
    return meter.readings


def _exchange(messages: list[Message]) -> None:
    works = []
    for tag, (src, dst, size) in enumerate(messages):
        if context().rank == src:
            works.append(dist.isend(_bytes(size), dst, tag=tag))
        elif context().rank == dst:
            works.append(dist.irecv(_bytes(size), src, tag=tag))
    for work in works:
        work.wait()


def _messages_cost(world_size: int, messages: list[Message]) -> Matrix:
    cost = [[0] * world_size for _ in range(world_size)]
    for src, dst, size in messages:
        cost[src][dst] += size + 96
        cost[dst][src] += 48
    return cost


@st.composite
def _two_phases(draw: st.DrawFn) -> tuple[int, list[Message], list[Message]]:
    world_size = draw(st.integers(2, 5))
    ranks = st.integers(0, world_size - 1)
    message = st.tuples(ranks, ranks, st.integers(0, 20_000)).filter(lambda m: m[0] != m[1])
    messages = st.lists(message, max_size=6)
    return world_size, draw(messages), draw(messages)


@given(_two_phases())
@examples(30)
def test_messages_cost_payload_and_96_at_the_sender_and_48_at_the_receiver_by_peer_and_phase(
    worlds: Worlds, drawn: tuple[int, list[Message], list[Message]]
) -> None:
    world_size, forward, backward = drawn
    assert _measured(worlds, world_size, exchange_messages, forward, backward) == {
        "forward": _messages_cost(world_size, forward),
        "backward": _messages_cost(world_size, backward),
    }


def test_a_message_larger_than_the_socket_buffers_is_counted_whole(worlds: Worlds) -> None:
    messages = [(0, 1, 1 << 22), (1, 2, 1 << 22)]
    assert _measured(worlds, 3, exchange_messages, messages, [])["forward"] == _messages_cost(3, messages)


# ------------------------------------------------------------------ collectives
def communicate(collective: str, size: int) -> list[WireReading]:
    w, meter = context().world_size, _meter()
    with meter.phase("forward"):
        if collective == "all_gather":
            dist.all_gather([_bytes(size) for _ in range(w)], _bytes(size))
        elif collective == "all_to_all":
            dist.all_to_all_single(_bytes(w * size), _bytes(w * size))
        elif collective == "reduce_scatter":
            dist.reduce_scatter(_bytes(size), [_bytes(size) for _ in range(w)])
        elif collective == "reduce_scatter_single":
            dist.reduce_scatter_single(_bytes(size), _bytes(w * size))
        elif collective == "all_reduce":
            dist.all_reduce(_bytes(size))
        elif collective == "scatter":
            dist.scatter(_bytes(size), [_bytes(size) for _ in range(w)] if context().rank == 0 else None)
    with meter.phase("backward"):
        pass
    return meter.readings


def _ring(world_size: int, right: int, left: int) -> Matrix:
    cost = [[0] * world_size for _ in range(world_size)]
    for rank in range(world_size):
        cost[rank][(rank + 1) % world_size] += right
        cost[rank][(rank - 1) % world_size] += left
    return cost


def _all_reduce(world_size: int, size: int) -> Matrix:
    """2(W-1) hops of a W-th in two messages, to the left, and two receipts to the right."""
    hops = 2 * (world_size - 1)
    return _ring(world_size, right=hops * 2 * 48, left=hops * (size // world_size + 2 * 96))


def _times(factor: int, cost: Matrix) -> Matrix:
    return [[factor * num_bytes for num_bytes in row] for row in cost]


COSTS: dict[str, Callable[[int, int], Matrix]] = {
    # W-1 hops of a block in two messages, to the right, and two receipts to the left
    "all_gather": lambda w, p: _ring(w, right=(w - 1) * (p + 2 * 96), left=(w - 1) * 2 * 48),
    "all_to_all": lambda w, p: [[0 if r == peer else p + 96 + 48 for peer in range(w)] for r in range(w)],
    "all_reduce": _all_reduce,
    # gloo has none: of one tensor it is an all-reduce of the whole, of a list an all-reduce of each part
    "reduce_scatter_single": lambda w, p: _all_reduce(w, w * p),
    "reduce_scatter": lambda w, p: _times(w, _all_reduce(w, p)),
    "scatter": lambda w, p: [[0, *[p + 96] * (w - 1)], *([48] + [0] * (w - 1) for _ in range(w - 1))],
}


@pytest.mark.parametrize("world_size", [2, 3, 4, 5])
@pytest.mark.parametrize("collective", COSTS)
def test_collectives_cost_what_their_algorithm_on_gloo_sends_by_peer(
    worlds: Worlds, collective: str, world_size: int
) -> None:
    for size in (7680, 122_880):  # divided by W = 2 .. 5 still a multiple of 512: gloo rounds the parts up
        measured = _measured(worlds, world_size, communicate, collective, size)
        assert measured["forward"] == COSTS[collective](world_size, size)
        assert measured["backward"] == [[0] * world_size] * world_size


def test_a_world_of_one_sends_nothing(worlds: Worlds) -> None:
    assert attribute(worlds.run(1, communicate, "all_gather", 8)) == []


# ------------------------------------------------------------------ joining the ends
def _socket(local: str, remote: str, sent_bytes: int, segments: int = 0) -> SocketCount:
    return SocketCount(local=local, remote=remote, sent_bytes=sent_bytes, segments=segments, unsent_bytes=0)


def test_bytes_go_to_the_rank_at_the_other_end_and_connections_elsewhere_are_left_out() -> None:
    readings = [
        [
            WireReading(
                phase="forward",
                before=(_socket("h:1", "h:2", 100, 1), _socket("h:9", "elsewhere:80", 5)),
                after=(_socket("h:1", "h:2", 130, 4), _socket("h:3", "h:4", 7, 1), _socket("h:9", "elsewhere:80", 50)),
            )
        ],
        [
            WireReading(
                phase="forward",
                before=(_socket("h:2", "h:1", 40, 2),),
                after=(_socket("h:4", "h:3", 0), _socket("h:2", "h:1", 41, 3)),
            )
        ],
    ]
    assert attribute(readings) == [
        WireCount(rank=0, peer=1, phase="forward", wire_bytes=37, segments=4),  # both of its connections
        WireCount(rank=1, peer=0, phase="forward", wire_bytes=1, segments=1),
    ]


def test_where_one_rank_cannot_read_its_sockets_nothing_is_told() -> None:
    readable = WireReading(phase="forward", before=(), after=())
    assert attribute([[readable], [WireReading(phase="forward", before=None, after=None)]]) is None
    assert attribute([[readable], [readable]]) == []


# ------------------------------------------------------------------ gates
def test_sockets_are_read_only_after_a_gate_before_and_after_the_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(wire, "read_sockets", lambda: steps.append("read"))
    meter = WireMeter(lambda: steps.append("gate"))
    with meter.phase("forward"):
        steps.append("phase")
    assert steps == ["gate", "read", "phase", "gate", "read"]


def test_a_gate_opens_when_every_rank_has_come_as_often_as_it_is_used() -> None:
    store = dist.HashStore()
    alone = store_gate(store, world_size=2, timeout_s=0.05)
    for _ in range(3):
        store.add("arrived", 1)  # the other rank
        alone()
    with pytest.raises(TimeoutError, match=r"within timeout_s=0.05; got 1 of 2 missing"):
        alone()


def test_torch_with_its_own_checks_on_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "detail")
    with pytest.raises(ValueError, match="got TORCH_DISTRIBUTED_DEBUG=DETAIL: unset it"):
        WireMeter(lambda: None)
