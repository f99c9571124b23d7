"""What the parent reads while a rank hangs, after it died, and when its log was too small.

Oracle: what the rank was told to do before it stops, written by hand.
Can see: operations that reach the log only after they were posted or returned, a log that dies with its rank.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch
import torch.distributed as dist

from siglip_verify.observe import LogOverflowError, Recorder, clear_log, log_bytes, read_header, read_log
from siglip_verify.records import Event
from siglip_verify.world import WorldError, Worlds, context

PATIENCE_S = 20.0


@pytest.fixture
def new_world(worlds: Worlds) -> Worlds:
    """A pool whose world of two is new: no log and no message in it is of an earlier test."""
    worlds.discard(2)
    return worlds


def reduce_then_hang() -> None:
    rank, log = context().rank, context().log
    clear_log(log)
    with Recorder(log) as recorder:
        with recorder.phase("forward"):
            dist.all_reduce(torch.ones(5))
        with recorder.phase("backward"):
            dist.recv(torch.empty(3), 1 - rank, tag=9)  # both receive, and no one sends


def _described(event: Event) -> tuple[str, str, bool]:
    return event.phase, event.kind, event.returned_s is not None


HANGING = [("forward", "all_reduce", True), ("backward", "recv", False)]


def test_the_log_is_read_while_its_rank_hangs_and_after_it_was_killed(new_world: Worlds) -> None:
    world = new_world.world(2)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            new_world.run(2, reduce_then_hang)
        except WorldError as error:
            errors.append(error)

    job = threading.Thread(target=run)
    job.start()
    deadline = time.monotonic() + PATIENCE_S
    while [read_header(world.log(rank)).posted for rank in range(2)] != [2, 2]:
        assert time.monotonic() < deadline, "the receive that hangs never reached the log"
        time.sleep(0.01)
    for rank in range(2):
        events = read_log(world.log(rank), rank)
        assert [_described(event) for event in events] == HANGING
        assert (events[1].src, events[1].dst, events[1].tag, events[1].payload_bytes) == (1 - rank, rank, 9, 12)
        assert read_header(world.log(rank)).phase == "backward"

    os.kill(world.pids[0], signal.SIGKILL)
    job.join(PATIENCE_S)
    assert not job.is_alive()
    (error,) = errors
    assert isinstance(error, WorldError)
    for log in (world.log(0), error.logs[0]):
        assert [_described(event) for event in read_log(log, 0)] == HANGING
        assert read_header(log).phase == "backward"


def die_when_posting() -> None:
    """The receiver's process is aborted by gloo: its buffer is smaller than the message."""
    rank, log = context().rank, context().log
    clear_log(log)
    with Recorder(log) as recorder, recorder.phase("forward"):
        if rank == 0:
            dist.recv(torch.empty(2), 1)
        else:
            dist.send(torch.ones(1000), 0)


def test_the_operation_that_aborts_its_process_is_in_the_log(new_world: Worlds) -> None:
    with pytest.raises(WorldError, match="rank 0 died: its process was killed by SIGABRT") as caught:
        new_world.run(2, die_when_posting)
    (event,) = read_log(caught.value.logs[0], 0)
    assert (event.kind, event.shape, event.returned_s) == ("recv", (2,), None)
    (event,) = read_log(caught.value.logs[1], 1)
    assert (event.kind, event.shape) == ("send", (1000,))


def overflow() -> float:
    with Recorder(context().log[: log_bytes(2)]) as recorder, recorder.phase("forward"):
        for _ in range(5):
            total = torch.ones(1)
            dist.all_reduce(total)
    return total.item()


def test_a_log_that_overflows_says_so_and_the_run_goes_on(worlds: Worlds) -> None:
    assert worlds.run(2, overflow) == [2.0, 2.0]
    for rank in range(2):
        with pytest.raises(LogOverflowError, match=f"got posted=5 on rank {rank} with capacity=2") as caught:
            read_log(worlds.world(2).log(rank), rank)
        assert [event.sequence for event in caught.value.events] == [0, 1]
