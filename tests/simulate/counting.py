"""Run the real loss as one rank of many on torch's fake backend, and count what it does.

The values are wrong there and no error says so; which operations are run, on what shapes, and what is kept, is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from siglip_verify.loss import SigLipLoss
from siglip_verify.observe import Recorder, log_bytes, read_log
from siglip_verify.observe.held import Held
from siglip_verify.records import Event

# What moves no number: views, and memory that is not yet written.
_NO_WORK = {
    *("view", "_unsafe_view", "view_as", "reshape", "_reshape_alias", "t", "transpose", "permute", "expand"),
    *("slice", "select", "split", "unbind", "as_strided", "diagonal", "unsqueeze", "squeeze", "detach", "alias"),
    *("split_with_sizes", "empty", "new_empty", "empty_like", "empty_strided", "lift_fresh"),
}


@contextmanager
def one_rank_of(world_size: int, rank: int = 0) -> Iterator[None]:
    """Be one rank of a group whose other ranks do not exist."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


def leaves(batch: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    """Return images, texts, scale and bias, all wanting gradients."""
    features = [torch.full((batch, dim), 0.1, dtype=dtype) for _ in range(2)]
    return [each.requires_grad_() for each in (*features, torch.tensor(1.0), torch.tensor(0.0))]


def phases(loss: SigLipLoss, inputs: list[Tensor]) -> Iterator[Callable[[], Any]]:
    """Give forward, and then the backward of what it returned."""
    values: list[Tensor] = []
    yield lambda: values.append(loss(*inputs))
    yield lambda: values.pop().backward()


def recorded(rank: int, world_size: int, batch: int, dim: int, dtype: torch.dtype, **options: Any) -> list[Event]:
    """Return every operation that one rank posts in a step, by the recorder."""
    buffer = bytearray(log_bytes(12 * world_size + 64))
    with one_rank_of(world_size, rank), Recorder(buffer, poison=False) as recorder:
        loss = SigLipLoss(rank=rank, world_size=world_size, **options)
        for phase, run in zip(("forward", "backward"), phases(loss, leaves(batch, dim, dtype)), strict=True):
            with recorder.phase(phase):
                run()
    return read_log(buffer, rank)


class Operations(TorchDispatchMode):
    """Operations one after another, and bytes of tensors of one size that they read and write."""

    def __init__(self, numel: int) -> None:
        super().__init__()
        self.numel, self.count, self.num_bytes, self.flops = numel, 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if func.namespace == "aten" and name not in _NO_WORK:
            touched = [t for t in tree_leaves((args, kwargs, out)) if self._is_of_size(t)]
            self.count += 1
            self.num_bytes += sum(tensor.nbytes for tensor in touched)
            if name in ("mm", "addmm_"):
                left, right = args[-2:]
                self.flops += 2 * left.shape[0] * left.shape[1] * right.shape[1]
        return out

    def _is_of_size(self, value: Any) -> bool:
        # An expanded scalar is no pass over memory.
        return (
            isinstance(value, Tensor)
            and value.numel() == self.numel
            and value.untyped_storage().nbytes() >= value.nbytes
        )


def operations_of(
    world_size: int, batch: int, dim: int, dtype: torch.dtype, numel: int, **options: Any
) -> list[Operations]:
    """Return what one rank computes in forward and in backward."""
    counts = [Operations(numel), Operations(numel)]
    with one_rank_of(world_size):
        loss = SigLipLoss(rank=0, world_size=world_size, **options)
        for count, run in zip(counts, phases(loss, leaves(batch, dim, dtype)), strict=True):
            with count:
                run()
    return counts


class Holding(NamedTuple):
    """Bytes that one rank holds beside its inputs: between the phases, and the most in each."""

    kept: int
    forward: int
    backward: int


def held_by(world_size: int, batch: int, dim: int, dtype: torch.dtype, **options: Any) -> Holding:
    """Return what one rank holds in a step."""
    inputs = leaves(batch, dim, dtype)
    with one_rank_of(world_size):
        loss = SigLipLoss(rank=0, world_size=world_size, **options)
        forward, backward = phases(loss, inputs)
        with Held(inputs) as held:
            forward()
            kept, peak = held.now(), held.peak
            held.peak = 0
            backward()
    return Holding(kept, peak, held.peak)
