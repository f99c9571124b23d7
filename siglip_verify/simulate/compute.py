"""How long a rank takes for one block: products, passes over the logits, and operations that come one after another.

A block of b x b logits is some matrix products and many passes over the logits; an operation ends no sooner after the
one before than a launch takes. So a phase of a block takes

    max(products / attained rate + passes / attained bandwidth, operations x launch)

The loss's own code is what is counted: which operations it runs a block, and how many bytes of logits they read and
write. The tests count the same from outside.
"""

from __future__ import annotations

import typing
from typing import Literal, NamedTuple

from siglip_verify.case import DType, itemsize
from siglip_verify.errors import UsageError
from siglip_verify.simulate.cluster import Cluster

MemoryMode = Literal["autograd", "chunked", "constant", "recompute"]
"""What the loss is asked to keep: "chunked" is autograd with a chunk_size, which computes logits again in backward."""

MEMORY_MODES: tuple[MemoryMode, ...] = typing.get_args(MemoryMode)
_LOGITS_AT_ONCE = 1 << 20  # what memory="constant" and "recompute" hold at once if they are not told


class Work(NamedTuple):
    """What one block takes in one phase.

    Attributes:
        flops: Of matrix products.
        logit_bytes: Logits read and written.
        operations: How many, one after another.
    """

    flops: float
    logit_bytes: float
    operations: int


class BlockTime(NamedTuple):
    """Seconds for one block, by phase."""

    forward: float
    backward: float


def rows_at_once(memory: MemoryMode, batch: int, chunk_size: int) -> int:
    """Return how many rows of logits are held at once: all with autograd; else chunk_size, or what fits a cache."""
    if memory == "autograd":
        return batch
    return min(batch, chunk_size or max(1, _LOGITS_AT_ONCE // batch))


def block_work(
    memory: MemoryMode, batch: int, dim: int, dtype: DType, chunk_size: int = 0, *, overlap: bool = False
) -> tuple[Work, Work]:
    """Return what one block takes in forward and in backward.

    With overlap a gradient is one hop behind its text, and both are put into one message for every hop anew.
    """
    narrow = itemsize(dtype)
    wide = max(narrow, 4)  # the dtype of logits and loss
    cast = int(wide != narrow)
    widened = cast * (narrow + wide)  # a pass that changes the dtype
    rows = rows_at_once(memory, batch, chunk_size)
    chunks = -(-batch // rows)
    product, logits = 2.0 * batch * batch * dim, float(batch * batch)
    there = 5 * wide + narrow + widened
    if memory in ("constant", "recompute"):
        passes = 8 * wide + 3 * narrow + 2 * widened
        operations = (10 + 4 * cast) * chunks + 1 + overlap
        if memory == "constant":
            return Work(3 * product, logits * passes, operations), Work(0.0, 0.0, 0)
        return (
            Work(product, logits * there, (5 + cast) * chunks),
            Work(3 * product, logits * passes, operations + 1),  # a share is multiplied by what reaches the loss
        )
    back = 3 * wide + 2 * narrow + widened
    if chunks == 1:
        return Work(product, logits * there, 5 + cast), Work(2 * product, logits * back, 7 + cast)
    return (
        Work(product, logits * there, (4 + cast) * chunks + 3),
        Work(3 * product, logits * (there - 3 * wide + back), (8 + 2 * cast) * chunks + 2),
    )


def block_time(
    cluster: Cluster,
    memory: MemoryMode,
    batch: int,
    dim: int,
    dtype: DType,
    chunk_size: int = 0,
    *,
    overlap: bool = False,
) -> BlockTime:
    """Return how long one block takes in forward and in backward.

    Raises:
        UsageError: The cluster says nothing of this dtype.
    """
    rate = cluster.compute.tflops_per_s.get(dtype)
    if rate is None:
        raise UsageError(
            f"[compute] tflops_per_s of {cluster.name!r} names {', '.join(cluster.compute.tflops_per_s)}; "
            f"got dtype={dtype}: add {dtype} = ... there"
        )

    def seconds(work: Work) -> float:
        moving = work.flops / (rate * 1e12) + work.logit_bytes / (cluster.compute.memory_gbytes_per_s * 1e9)
        return max(moving, work.operations * cluster.compute.operation_us * 1e-6)

    return BlockTime(*map(seconds, block_work(memory, batch, dim, dtype, chunk_size, overlap=overlap)))
