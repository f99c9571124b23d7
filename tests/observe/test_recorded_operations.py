"""What is recorded of each way to communicate, on real gloo ranks.

Oracle: `communication.ROWS`, written by hand for each rank and world size.
Can see: an operation that is missed, counted twice (functional collectives) or described wrongly, in forward, in
backward or without autograd's keys; a recorder that changes a result. Cannot see: times, beyond their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from communication import ROWS, Seen

from siglip_verify.observe import Recorder, read_log
from siglip_verify.records import Event
from siglip_verify.world import Worlds, context


class _InBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, leaf: torch.Tensor, act: Callable[[], Any]) -> torch.Tensor:
        ctx.act = act
        return leaf.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        ctx.act()
        return grads[0], None


def record_row(name: str, place: str) -> tuple[list[Event], tuple[float, float], list[list[Any]]]:
    """Act out a row under a recorder and once without; return events, the time around them, and both results."""
    rank, world_size, log = context().rank, context().world_size, context().log
    results: list[Any] = []

    def act() -> None:
        results.append(ROWS[name].act(rank, world_size))

    start_s = time.monotonic()
    with Recorder(log) as recorder:
        if place == "backward":
            with recorder.phase("forward"):
                value = _InBackward.apply(torch.ones(1, requires_grad=True), act)
            with recorder.phase("backward"):
                value.backward()
        else:
            with recorder.phase("forward"), torch.inference_mode(place == "inference mode"):
                act()
    around = start_s, time.monotonic()
    act()  # unrecorded
    dist.barrier()
    return read_log(log, rank), around, [_as_list(result) for result in results]


def _as_list(result: Any) -> list[Any]:
    tensors = result if isinstance(result, list) else [result]
    return [tensor.tolist() for tensor in tensors if tensor is not None and not tensor.is_meta]


PLACES = ("forward", "backward", "inference mode")
ROWS_AND_PLACES = [
    (name, place) for name in ROWS for place in PLACES if not (place == "inference mode" and "and back" in name)
]


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize(("name", "place"), ROWS_AND_PLACES)
def test_every_operation_is_recorded_once_as_what_it_is(worlds: Worlds, name: str, place: str, world_size: int) -> None:
    records = worlds.run(world_size, record_row, name, place)
    for rank, (events, (start_s, end_s), (recorded, unrecorded)) in enumerate(records):
        expected = ROWS[name].seen(rank, world_size)
        assert [Seen(*(getattr(event, field) for field in Seen._fields)) for event in events] == expected
        assert [event.sequence for event in events] == list(range(len(expected)))
        assert {event.phase for event in events} <= {"backward" if place == "backward" else "forward"}
        assert {event.rank for event in events} <= {rank}
        for event in events:
            assert event.returned_s is not None, event
            assert start_s <= event.posted_s <= event.returned_s <= end_s
        assert recorded == unrecorded


def record_in_subgroup() -> list[Event]:
    """Pass a block from the first to the second of the world's last two ranks, in a group of their own."""
    rank, log = context().rank, context().log
    group = dist.new_group([1, 2])
    with Recorder(log) as recorder, recorder.phase("forward"):
        if rank == 1:
            dist.send(torch.ones(4), 2, group=group)
        elif rank == 2:
            dist.recv(torch.empty(4), 1, group=group)
    if rank:
        dist.destroy_process_group(group)
    return read_log(log, rank)


def test_source_and_destination_are_ranks_of_the_group_in_use(worlds: Worlds) -> None:
    nobody, sender, receiver = worlds.run(3, record_in_subgroup)
    assert nobody == []
    assert [(event.rank, event.kind, event.src, event.dst) for event in sender + receiver] == [
        (1, "send", 0, 1),
        (2, "recv", 0, 1),
    ]
    names = {event.group for event in sender + receiver}
    assert len(names) == 1
    assert names.isdisjoint({"", "0"})
