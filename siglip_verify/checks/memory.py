"""Memory that no number of the loss shows: chunks that bound nothing, and what a step leaves behind.

Judges what steps held, counted tensor by tensor. Two promises are held against it. A loss that takes a chunk size holds
a chunk of logits at a time, so that with b rows and chunks of one size it holds O(b), not O(b x b). And a step that is
over is gone: one more like it adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from siglip_verify.records import Finding

MEMORY_FINDINGS: dict[str, str] = {
    "memory-grows": "A loss that takes a chunk size holds all logits of a block at once all the same.",
    "memory-leak": "Every step leaves tensors behind.",
}
GROWTH = 3.0
"""By how much the peak may grow where b is doubled: what is O(b) grows by 2, what is O(b x b) by 4."""


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
