"""Which device a launched rank takes.

Oracle: what a host has, made up: GPUs fewer than ranks, as many, none. Sees: ranks that ask for different back ends,
which would wait for each other. Cannot see a GPU.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from siglip_verify.world.joined.board import Board
from siglip_verify.world.joined.jobs import device_of
from siglip_verify.world.joined.place import Place


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [(0, ["cpu"] * 4), (2, ["cpu"] * 4), (3, ["cpu"] * 4), (4, [f"cuda:{rank}" for rank in range(4)])],
)
def test_all_ranks_take_a_gpu_of_their_own_or_none_does(
    gpus: int, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [
        Place(
            rank=rank,
            world_size=4,
            local_rank=rank,
            local_world_size=4,
            address="127.0.0.1",
            port=port,
            attempt="0",
            serves_store=rank == 0,
        )
        for rank in range(4)
    ]
    boards = [Board(place) for place in places]
    with ThreadPoolExecutor(4) as ranks:
        assert [str(device) for device in ranks.map(device_of, places, boards)] == devices
