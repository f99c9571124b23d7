"""Memory that no number of the loss shows: chunks that bound nothing, and what a step leaves behind.

Judges what steps held, counted tensor by tensor, by three promises. A loss that takes a chunk size holds a chunk of
logits at a time, so that with b rows and chunks of one size it holds O(b), not O(b x b). A form that promises flat
memory keeps no block more for its backward where there is a rank more. And a step that is over is gone: one more like
it adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from siglip_verify.records import Finding

MEMORY_FINDINGS: dict[str, str] = {
    "memory-grows": "What a step holds grows as b x b though it takes a chunk size, or with W though it is to be flat.",
    "memory-leak": "Every step leaves tensors behind.",
}
GROWTH = 3.0
"""By how much the peak may grow where b is doubled: what is O(b) grows by 2, what is O(b x b) by 4."""

_LEAST_RANKS_MORE = 2  # a single block more may be a message that the back end has not let go of


class StepBytes(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank held in one step, bytes of tensors.

    Attributes:
        peak: The most at once.
        left: After the step, when everything of it was given up.
    """

    peak: int
    left: int


def chunks_bound(small: Sequence[StepBytes], large: Sequence[StepBytes], batch: int, chunk_size: int) -> list[Finding]:
    """Find that the peak grows as b x b, though logits are computed in chunks.

    Args:
        small: A step of each rank with `batch` rows.
        large: The same with twice as many rows and chunks of the same size.
        batch: Rows of the small step, b.
        chunk_size: Rows of logits at a time.
    """
    for rank, (few, many) in enumerate(zip(small, large, strict=True)):
        if many.peak > GROWTH * few.peak:
            detail = (
                f"rank {rank}: memory grows as b x b, so chunk_size={chunk_size} bounds nothing: at most {few.peak:,} "
                f"bytes with {batch} rows and {many.peak:,} with {2 * batch}, where chunks need twice as many"
            )
            return [Finding(name="memory-grows", rank=rank, detail=detail)]
    return []


def flat(kept_bytes: Mapping[int, int], block_bytes: int) -> list[Finding]:
    """Find that a step keeps a block more for its backward with every rank more.

    Args:
        kept_bytes: What a rank keeps, for each world size that was measured.
        block_bytes: The texts of one rank.
    """
    few, many = min(kept_bytes, default=0), max(kept_bytes, default=0)
    if many - few < _LEAST_RANKS_MORE or kept_bytes[many] - kept_bytes[few] < (many - few) * block_bytes:
        return []
    detail = (
        f"memory grows with the number of ranks: a rank keeps {kept_bytes[few]:,} bytes for backward at W = {few} and "
        f"{kept_bytes[many]:,} at W = {many}"
    )
    return [Finding(name="memory-grows", detail=detail)]


def nothing_stays(steps: Sequence[Sequence[StepBytes]]) -> list[Finding]:
    """Find that each step leaves more tensors behind than the one before it.

    Args:
        steps: For each rank its steps, all of one case, in order. What the first one leaves may be kept for good; what
            is there after one step and gone after another is a message that the back end had not let go of yet.
    """
    for rank, (_, *later) in enumerate(steps):
        if len(later) > 2 and all(after.left > before.left for before, after in pairwise(later)):
            each = (later[-1].left - later[0].left) // (len(later) - 1)
            detail = f"rank {rank}: memory is kept beyond its step: each step leaves {each:,} bytes more than the last"
            return [Finding(name="memory-leak", rank=rank, detail=detail)]
    return []
