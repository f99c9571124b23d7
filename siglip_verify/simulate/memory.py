"""What the loss keeps on a rank beside its inputs: other ranks' texts, logits, gradients.

With P bytes a block of texts and L = b x b logits of the loss's dtype, kept until backward:

| memory | texts | logits |
|---|---|---|
| autograd | W-1 blocks (bidir, shift), W (reduce, gather: their own block comes out of a collective) | W L + L |
| chunked | the same | none: computed again |
| constant, recompute | none | none |

Autograd keeps one number a logit, what goes into log(1 + exp(u)), and the labels of the one block that has positives.
It also keeps the images times t, in half precision beside their wide form. All exchanges alike: no exchange frees a
block before its backward. Backward frees each block when it is done with it, but gather first collects a gradient for
every block and then stacks them: 2 W P at its end, beyond what was there at its beginning only where no logits are
kept.

Beside it all the working set of one block (or chunk): L in autograd; three chunks of logits and four blocks of texts
and gradients on their way when chunked; in constant memory, and when blocks are exchanged again, three sums and shares
of features' size in the loss's dtype, the images times t, messages in and out, a block and its gradient each way, two
chunks, and in half precision a product that is added up wider. With overlap, where logits are not kept, one block more
in each direction, and a gradient beside it where gradients travel along: what the hop under way sends and receives
while the blocks before it are computed. These are upper bounds, within a few blocks of what the tests see the loss
hold.
"""

from __future__ import annotations

import msgspec

from siglip_verify.case import DType, itemsize
from siglip_verify.plan import Plan
from siglip_verify.simulate.compute import MemoryMode, rows_at_once


class MemoryCost(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that one rank holds beside its inputs.

    Attributes:
        text_bytes: Other ranks' texts (and one's own out of a collective) kept until backward.
        logit_bytes: Logits and labels kept until backward.
        image_bytes: Images times t kept until backward.
        gradient_bytes: Gradients of blocks that are held together in backward.
        working_bytes: For the block or chunk at hand, and messages on their way.
        peak_bytes: The most that is held at once.
    """

    text_bytes: int
    logit_bytes: int
    image_bytes: int
    gradient_bytes: int
    working_bytes: int
    peak_bytes: int


def memory_cost(plan: Plan, memory: MemoryMode, dtype: DType, chunk_size: int = 0) -> MemoryCost:
    """Return what one rank holds in a step of a plan."""
    batch, world_size, block_bytes = plan.batch, plan.world_size, plan.block_bytes
    wide = max(itemsize(dtype), 4)
    rows = rows_at_once(memory, batch, chunk_size)
    if memory == "chunked" and rows == batch:
        memory = "autograd"  # one chunk is none: the loss then keeps its logits
    chunk_bytes = rows * batch * wide
    feature_bytes = batch * plan.dim * wide
    widened_bytes = feature_bytes if itemsize(dtype) < wide else 0
    keeps_nothing = memory in ("constant", "recompute")
    streams = 0 if world_size == 1 else 1 if plan.exchange == "shift" or world_size == 2 else 2
    ahead_bytes = plan.overlap * streams * block_bytes
    image_bytes = 0 if keeps_nothing else block_bytes + widened_bytes
    logit_bytes = text_bytes = gradient_bytes = 0
    if not keeps_nothing and world_size > 1:
        text_bytes = (world_size - (plan.exchange in ("bidir", "shift"))) * block_bytes
        gradient_bytes = 2 * world_size * block_bytes if plan.exchange == "gather" else 0
    if memory == "autograd":
        logit_bytes = (world_size + 1) * chunk_bytes
        working_bytes = chunk_bytes
    elif memory == "chunked":
        working_bytes = 3 * chunk_bytes + 4 * block_bytes + ahead_bytes
    else:
        product_bytes = block_bytes if widened_bytes else 0
        messages_bytes = 2 * streams * (block_bytes + feature_bytes)  # [gradient, text], in and out
        messages_bytes += plan.overlap * streams * (block_bytes + feature_bytes)
        working_bytes = 3 * feature_bytes + block_bytes + messages_bytes + 2 * chunk_bytes + product_bytes
    return MemoryCost(
        text_bytes=text_bytes,
        logit_bytes=logit_bytes,
        image_bytes=image_bytes,
        gradient_bytes=gradient_bytes,
        working_bytes=working_bytes,
        peak_bytes=max(text_bytes + logit_bytes, gradient_bytes) + image_bytes + working_bytes,
    )
