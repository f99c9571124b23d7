"""What the loss adds to its matrix products: one rank, one block with its gradients, nothing sent.

A block of logits is one product, and its two gradients are one each. All else is passes over the logits. One thread
computes and waits for nobody; measured is the time on the wall.
"""

from __future__ import annotations

from collections.abc import Iterator

from siglip_verify.bench.forms import Form, open_clip_forms
from siglip_verify.bench.measure import Comparison, Pair, Requirement, Setup, compare, ratio
from siglip_verify.bench.steps import PRODUCTS, slowest, times_in_turn
from siglip_verify.world import Worlds

SETUP = Setup(world_size=1, batch=1024, dim=512)
AT_MOST = 1.3
_TIMEOUT_S = 600.0


def local_block(turns: int) -> Iterator[Comparison]:
    """Measure a block at b = 1024, d = 512, float32.

    Args:
        turns: How often each form computes it.
    """
    ours = [Form("", "bidir", "constant"), Form("", "bidir")]
    with Worlds(timeout_s=_TIMEOUT_S) as worlds:
        measured = slowest(worlds.run(1, times_in_turn, [*ours, open_clip_forms()[0]], SETUP, turns))
    ratios: dict[Pair, Requirement | None] = {(name, PRODUCTS): None for name in measured if name != PRODUCTS}
    faster = min((form.name for form in ours), key=lambda name: ratio(measured, (name, PRODUCTS)).value)
    yield compare(
        "local-block",
        f"one block with its gradients, W = 1, b = {SETUP.batch}, d = {SETUP.dim}, float32",
        measured,
        each="block",
        ratios={**ratios, (faster, PRODUCTS): Requirement(bound="at most", ratio=AT_MOST)},
        setup=SETUP,
    )
