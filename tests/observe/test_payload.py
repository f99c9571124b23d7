"""Payloads of every shape and dtype, on warm ranks.

Oracle: numel x itemsize, counted by numpy in the parent for a tensor of the same shape.
Can see: element sizes or shapes that are wrong for a dtype, a dimension or an empty tensor; poison that breaks one.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.observe import Recorder, read_log
from siglip_verify.records import Event
from siglip_verify.world import Worlds, context

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
NOT_REDUCED = {"float8_e4m3fn", "float8_e5m2", "int16"}  # gloo: Invalid scalar type


def exchange(shape: tuple[int, ...], dtype: str) -> tuple[list[Event], bool]:
    """Pass a tensor to the right, then all-gather it; return the events and whether the neighbour's came whole."""
    rank, world_size, log = context().rank, context().world_size, context().log
    left = (rank - 1) % world_size
    block = torch.full(shape, rank + 1, dtype=torch.float32).to(getattr(torch, dtype))
    buffer = torch.zeros_like(block)
    with Recorder(log) as recorder, recorder.phase("forward"):
        works = dist.batch_isend_irecv(
            [dist.P2POp(dist.isend, block, (rank + 1) % world_size), dist.P2POp(dist.irecv, buffer, left)]
        )
        for work in works:
            work.wait()
        if dtype not in NOT_REDUCED:
            dist.all_gather([torch.empty_like(block) for _ in range(world_size)], block)
    sent = torch.full_like(block.to(torch.float32), left + 1).to(block.dtype)
    return read_log(log, rank), torch.equal(buffer.to(torch.float64), sent.to(torch.float64))


@given(
    shape=st.lists(st.integers(0, 5), max_size=5).map(tuple),
    dtype=st.sampled_from(sorted(ITEM_BYTES)),
)
@examples(40)
def test_payload_is_numel_times_itemsize(worlds: Worlds, shape: tuple[int, ...], dtype: str) -> None:
    for events, arrived in worlds.run(2, exchange, shape, dtype):
        assert arrived
        assert len(events) == (2 if dtype in NOT_REDUCED else 3)
        for event in events:
            assert (event.dtype, event.shape) == (dtype, shape)
            assert event.payload_bytes == math.prod(shape) * ITEM_BYTES[dtype]
