"""What it costs to bring gather's gradients home by one collective or another, measured on the ranks' sockets.

After an all-gather every rank holds a gradient for every block, and the owner of a block needs their sum. Here: running
the collectives that do it and reading the sockets. Not here: formulas (`plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.case import Case, itemsize
from siglip_verify.checks.totals import wire_matrix
from siglip_verify.observe import WireReading, attribute
from siglip_verify.plan import gloo_wire_bytes, modelled_messages
from siglip_verify.result import GatherBackwardCost
from siglip_verify.run.step import wire_meter
from siglip_verify.world import Worlds, context


class _Call(NamedTuple):
    """One call of a collective on one rank, as `plan.gloo_wire_bytes` wants it."""

    rank: int
    kind: str
    payload_bytes: int
    src: int | None = None
    dst: int | None = None
    phase: str = "backward"
    hop: int = 0


class _Way(NamedTuple):
    """A way to bring gradients home: what it is called, what is to be said of it, and doing it with blocks [W, n]."""

    name: str
    note: str
    run: Callable[[Tensor], object]


def _all_to_all(blocks: Tensor) -> Tensor:
    mine = torch.empty_like(blocks)
    dist.all_to_all_single(mine, blocks)
    return mine.sum(0)


def _reduce_scatter(blocks: Tensor) -> Tensor:
    total = torch.empty_like(blocks[0])
    _reduce_scatter_single(total, blocks.flatten())
    return total


def _scatters(blocks: Tensor) -> Tensor:
    mine = torch.empty_like(blocks)
    for root, block in enumerate(mine):
        dist.scatter(block, list(blocks) if context().rank == root else None, src=root)
    return mine.sum(0)


# The name since torch 2.13, where the older one warns of its end.
_reduce_scatter_single: Any = getattr(dist, "reduce_scatter_single", None) or getattr(dist, "reduce_scatter_tensor")  # noqa: B009

WAYS = {
    "all_to_all": _Way(
        "all_to_all and a local sum",
        "ours on gloo: each rank sends every owner its block, and nothing else",
        _all_to_all,
    ),
    "reduce_scatter": _Way(
        "reduce_scatter",
        "gloo has none: it runs an all-reduce of all W blocks, 2 (W-1) P, and keeps one; on NCCL it needs (W-1) P",
        _reduce_scatter,
    ),
    "scatter": _Way(
        "W scatters and a local sum",
        "torch.distributed.nn on gloo, so open_clip's gather: the bytes of the all_to_all, in W rounds one by one",
        _scatters,
    ),
}


def gather_backward(worlds: Worlds, case: Case) -> tuple[GatherBackwardCost, ...]:
    """Measure what each way costs a rank, for blocks of the case's size; nothing with one rank."""
    if case.world_size == 1:
        return ()
    return tuple(_costs(worlds, case))


def _costs(worlds: Worlds, case: Case) -> Iterator[GatherBackwardCost]:
    world_size, block_bytes = case.world_size, case.batch * case.dim * itemsize(case.dtype)
    for key, way in WAYS.items():
        wire = attribute(worlds.run(world_size, send_home, key, case.batch * case.dim, case.dtype))
        calls = _calls_of_rank_0(key, world_size, block_bytes)
        yield GatherBackwardCost(
            collective=way.name,
            calls=len(calls),
            payload_bytes=world_size * block_bytes,
            ring_bytes=round(modelled_messages("reduce_scatter", world_size, world_size * block_bytes).sent_bytes),
            modelled_wire_bytes=sum(sum(gloo_wire_bytes(call, world_size).values()) for call in calls),
            wire_bytes=None if wire is None else max(map(sum, wire_matrix(wire, world_size))),
            note=way.note,
        )


def _calls_of_rank_0(kind: str, world_size: int, block_bytes: int) -> list[_Call]:
    if kind != "scatter":
        return [_Call(0, kind, world_size * block_bytes)]
    return [_Call(0, kind, block_bytes if root else world_size * block_bytes, src=root) for root in range(world_size)]


def send_home(way: str, numel: int, dtype: str) -> list[WireReading]:
    """Bring gradients of `numel` numbers a block home in this rank, and read its sockets around that."""
    here = context()
    blocks = torch.zeros(here.world_size, numel, dtype=getattr(torch, dtype), device=here.device)
    meter = wire_meter()
    with meter.phase("backward"):
        WAYS[way].run(blocks)
    return meter.readings
