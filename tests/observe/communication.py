"""Every way to communicate, and what a recorder must write down for it. Runs in ranks and in the parent.

Each `Row` holds what a rank does and, by hand, what it must be recorded as: one `Seen` an operation, in order.
The tensor handed over is [2, 3] float32, 24 bytes, unless the row says otherwise; root and peer choices are such that
ranks differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
import torch.distributed.nn.functional as nn
from torch import Tensor


class Seen(NamedTuple):
    """The fields of an event that do not depend on when it happened."""

    kind: str
    op: str
    hop: int
    src: int | None = None
    dst: int | None = None
    tag: int | None = None
    dtype: str = "float32"
    shape: tuple[int, ...] = (2, 3)
    payload_bytes: int = 24


class Row(NamedTuple):
    """One way to communicate: what rank r of W does, and what of it is seen."""

    act: Callable[[int, int], Any]
    seen: Callable[[int, int], list[Seen]]


def mine(rank: int, *shape: int) -> Tensor:
    """Make a tensor that differs by rank and element."""
    shape = shape or (2, 3)
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel()).reshape(shape) + 10 * rank


def empty(*shape: int) -> Tensor:
    return torch.full(shape or (2, 3), -1.0)


def _blocking(r: int, w: int) -> Tensor:
    """Pass a token around: rank 0 sends first, every other rank receives first."""
    buffer = empty()
    steps = [lambda: dist.recv(buffer, (r - 1) % w, tag=4), lambda: dist.send(mine(r), (r + 1) % w, tag=4)]
    for step in steps if r else reversed(steps):
        step()
    return buffer


def _send(hop: int, src: int, dst: int, tag: int = 0, **other: Any) -> Seen:
    return Seen("send", "c10d::send", hop, src, dst, tag, **other)


def _recv(hop: int, src: int, dst: int, tag: int = 0, op: str = "recv_", **other: Any) -> Seen:
    return Seen("recv", f"c10d::{op}", hop, src, dst, tag, **other)


def _blocking_seen(r: int, w: int) -> list[Seen]:
    if r == 0:
        return [_send(0, 0, 1, 4), _recv(1, w - 1, 0, 4)]
    return [_recv(0, r - 1, r, 4), _send(1, r, (r + 1) % w, 4)]


def _immediate(r: int, w: int) -> list[Tensor]:
    from_left, from_right = empty(), empty(4)
    left, right = (r - 1) % w, (r + 1) % w
    works = [
        dist.isend(mine(r), right, tag=1),
        dist.irecv(from_left, left, tag=1),
        dist.isend(mine(r, 4), left, tag=2),
        dist.irecv(from_right, right, tag=2),
    ]
    for work in works:
        work.wait()
    return [from_left, from_right]


def _two_batches(r: int, w: int) -> list[Tensor]:
    blocks = [mine(r)]
    for tag in (1, 2):
        blocks.append(empty())
        send = dist.P2POp(dist.isend, blocks[-2], (r + 1) % w, tag=tag)
        recv = dist.P2POp(dist.irecv, blocks[-1], (r - 1) % w, tag=tag)
        for work in dist.batch_isend_irecv([send, recv]):
            work.wait()
    return blocks[1:]


def _from_anyone(r: int, w: int) -> Tensor:
    buffer = empty()
    if r == 0:
        dist.recv(buffer, tag=3)
    elif r == 1:
        dist.send(mine(r), 0, tag=3)
    return buffer


def _async_all_reduce(r: int, w: int) -> Tensor:
    tensor = mine(r)
    work = dist.all_reduce(tensor, async_op=True)
    work.wait()
    return tensor


def _in_place(call: Callable[..., Any], *args: Any) -> Callable[[int, int], Tensor]:
    def act(r: int, w: int) -> Tensor:
        tensor = mine(r)
        call(tensor, *args)
        return tensor

    return act


def _into(call: Callable[..., Any], output_rows: Callable[[int], int], input_rows: Callable[[int], int]) -> Any:
    def act(r: int, w: int) -> Tensor:
        output = empty(output_rows(w), 3)
        call(output, mine(r, input_rows(w), 3))
        return output

    return act


def _all_gather_in_place(r: int, w: int) -> Tensor:
    whole = empty(w * 2, 3)
    whole[2 * r : 2 * r + 2] = mine(r)
    dist.all_gather_single(whole, whole[2 * r : 2 * r + 2])
    return whole


def _all_gather(r: int, w: int) -> list[Tensor]:
    blocks = [empty() for _ in range(w)]
    dist.all_gather(blocks, mine(r))
    return blocks


def _reduce_scatter(r: int, w: int) -> Tensor:
    total = empty()
    dist.reduce_scatter(total, [mine(r + other) for other in range(w)])
    return total


def _all_to_all(r: int, w: int) -> list[Tensor]:
    blocks = [empty() for _ in range(w)]
    dist.all_to_all(blocks, [mine(r + other) for other in range(w)])
    return blocks


def _gather(r: int, w: int) -> list[Tensor]:
    blocks = [empty() for _ in range(w)] if r == 1 else None
    dist.gather(mine(r), blocks, dst=1)
    return blocks or []


def _scatter(r: int, w: int) -> Tensor:
    block = empty()
    dist.scatter(block, [mine(other) for other in range(w)] if r == 1 else None, src=1)
    return block


def _all_reduce_coalesced(r: int, w: int) -> list[Tensor]:
    tensors = [mine(r), mine(r, 4)]
    group = dist.group.WORLD
    assert group is not None
    group.allreduce_coalesced(tensors, dist.AllreduceCoalescedOptions()).wait()
    return tensors


def _functional(call: Callable[..., Any], rows: Callable[[int], int], *args: Any) -> Callable[[int, int], Tensor]:
    def act(r: int, w: int) -> Tensor:
        return functional.wait_tensor(call(mine(r, rows(w), 3), *args, dist.group.WORLD))

    return act


def _all_gather_into_out(r: int, w: int) -> Tensor:
    group = dist.group.WORLD
    assert group is not None
    gather = torch.ops._c10d_functional.all_gather_into_tensor_out
    return functional.wait_tensor(gather(mine(r), w, group.group_name, out=empty(2 * w, 3)))


def _differentiable(call: Callable[[Tensor, int, int], Any]) -> Callable[[int, int], list[Tensor]]:
    """Call, and go back through it within the same act."""

    def act(r: int, w: int) -> list[Tensor]:
        leaf = mine(r).requires_grad_()
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # dist.nn says that it will go; losses still use it
            value = call(leaf, r, w)
            value.square().sum().backward()
        assert leaf.grad is not None
        return [value.detach(), leaf.grad]

    return act


def _collective(kind: str, op: str, rows: Callable[[int], int] = lambda w: 2, **other: Any) -> Any:
    def seen(r: int, w: int) -> list[Seen]:
        return [Seen(kind, f"c10d::{op}", 0, shape=(rows(w), 3), payload_bytes=rows(w) * 12, **other)]

    return seen


def _two(w: int) -> int:
    return 2


def _all(w: int) -> int:
    return 2 * w


def _flat(kind: str, op: str, hop: int, num_blocks: int, src: int | None = None) -> Seen:
    """Several [2, 3] tensors handed over in one call."""
    shape = (2, 3) if num_blocks == 1 else (6 * num_blocks,)
    return Seen(kind, f"c10d::{op}", hop, src, shape=shape, payload_bytes=24 * num_blocks)


ROWS: dict[str, Row] = {
    "send and recv": Row(_blocking, _blocking_seen),
    "isend and irecv": Row(
        _immediate,
        lambda r, w: [
            _send(0, r, (r + 1) % w, 1),
            _recv(0, (r - 1) % w, r, 1),
            _send(0, r, (r - 1) % w, 2, shape=(4,), payload_bytes=16),
            _recv(0, (r + 1) % w, r, 2, shape=(4,), payload_bytes=16),
        ],
    ),
    "batch_isend_irecv": Row(
        _two_batches,
        lambda r, w: [
            event
            for hop in (0, 1)
            for event in (_send(hop, r, (r + 1) % w, hop + 1), _recv(hop, (r - 1) % w, r, hop + 1))
        ],
    ),
    "recv from anyone": Row(
        _from_anyone, lambda r, w: [[_recv(0, 1, 0, 3, "recv_any_source_")], [_send(0, 1, 0, 3)], []][r]
    ),
    "all_reduce": Row(_in_place(dist.all_reduce), _collective("all_reduce", "allreduce_")),
    "all_reduce, async": Row(_async_all_reduce, _collective("all_reduce", "allreduce_")),
    "allreduce_coalesced": Row(
        _all_reduce_coalesced,
        lambda r, w: [Seen("all_reduce", "c10d::allreduce_coalesced_", 0, shape=(10,), payload_bytes=40)],
    ),
    "all_gather": Row(_all_gather, _collective("all_gather", "allgather_")),
    "all_gather_single": Row(_into(dist.all_gather_single, _all, _two), _collective("all_gather", "_allgather_base_")),
    "all_gather_single in place": Row(_all_gather_in_place, _collective("all_gather", "_allgather_base_")),
    "reduce_scatter": Row(_reduce_scatter, lambda r, w: [_flat("reduce_scatter", "reduce_scatter_", 0, w)]),
    "reduce_scatter_single": Row(
        _into(dist.reduce_scatter_single, _two, _all), _collective("reduce_scatter", "_reduce_scatter_base_", _all)
    ),
    "all_to_all": Row(_all_to_all, lambda r, w: [_flat("all_to_all", "alltoall_", 0, w)]),
    "all_to_all_single": Row(
        _into(dist.all_to_all_single, _all, _all), _collective("all_to_all", "alltoall_base_", _all)
    ),
    "broadcast": Row(_in_place(dist.broadcast, 1), _collective("broadcast", "broadcast_", src=1)),
    "reduce": Row(_in_place(dist.reduce, 1), _collective("reduce", "reduce_", src=1)),
    "gather": Row(_gather, _collective("gather", "gather_", src=1)),
    "scatter": Row(_scatter, lambda r, w: [_flat("scatter", "scatter_", 0, w if r == 1 else 1, src=1)]),
    "barrier": Row(
        lambda r, w: dist.barrier(),
        lambda r, w: [Seen("barrier", "c10d::barrier", 0, dtype="none", shape=(0,), payload_bytes=0)],
    ),
    "monitored_barrier": Row(
        lambda r, w: dist.monitored_barrier(),
        lambda r, w: [Seen("barrier", "c10d::monitored_barrier_", 0, dtype="none", shape=(0,), payload_bytes=0)],
    ),
    "functional all_reduce": Row(
        _functional(functional.all_reduce, _two, "sum"), _collective("all_reduce", "allreduce_")
    ),
    "functional all_gather": Row(
        _functional(functional.all_gather_single, _two, 0),
        _collective("all_gather", "allgather_into_tensor_coalesced_"),
    ),
    "functional all_gather into out": Row(_all_gather_into_out, _collective("all_gather", "_allgather_base_")),
    "functional reduce_scatter": Row(
        _functional(functional.reduce_scatter_single, _all, "sum", 0),
        _collective("reduce_scatter", "reduce_scatter_tensor_coalesced_", _all),
    ),
    "functional all_to_all": Row(
        _functional(functional.all_to_all_single, _all, None, None), _collective("all_to_all", "alltoall_base_", _all)
    ),
    "functional broadcast": Row(
        _functional(functional.broadcast, _two, 1), _collective("broadcast", "broadcast_", src=1)
    ),
    "functional all_reduce and back": Row(
        _differentiable(lambda x, r, w: functional.all_reduce(x, "sum", dist.group.WORLD)),
        lambda r, w: [_flat("all_reduce", "allreduce_", 0, 1), _flat("all_reduce", "allreduce_", 1, 1)],
    ),
    "functional all_gather and back": Row(
        _differentiable(lambda x, r, w: functional.all_gather_single_autograd(x, 0, dist.group.WORLD)),
        lambda r, w: [
            _flat("all_gather", "allgather_into_tensor_coalesced_", 0, 1),
            Seen("reduce_scatter", "c10d::reduce_scatter_tensor_coalesced_", 1, shape=(2 * w, 3), payload_bytes=24 * w),
        ],
    ),
    "dist.nn all_reduce and back": Row(
        _differentiable(lambda x, r, w: nn.all_reduce(x.clone())),
        lambda r, w: [_flat("all_reduce", "allreduce_", 0, 1), _flat("all_reduce", "allreduce_", 1, 1)],
    ),
    # open_clip's gather: on gloo its gradient comes back by W rooted scatters
    "dist.nn all_gather and back": Row(
        _differentiable(lambda x, r, w: torch.cat(nn.all_gather(x))),
        lambda r, w: [
            _flat("all_gather", "allgather_", 0, 1),
            *(_flat("scatter", "scatter_", 1 + root, w if r == root else 1, src=root) for root in range(w)),
        ],
    ),
    "dist.nn reduce_scatter and back": Row(
        _differentiable(lambda x, r, w: nn.reduce_scatter(torch.empty_like(x), [x * i for i in range(w)])),
        lambda r, w: [_flat("reduce_scatter", "reduce_scatter_", 0, w), _flat("all_gather", "allgather_", 1, 1)],
    ),
    "nothing": Row(lambda r, w: mine(r) @ mine(r).T, lambda r, w: []),
    "on meta tensors": Row(lambda r, w: dist.all_reduce(torch.ones(3, device="meta")), lambda r, w: []),
}
