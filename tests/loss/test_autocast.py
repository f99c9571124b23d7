"""The loss inside of autocast: float32 features whose products are taken in bfloat16, in every form.

Oracle: `siglip_verify.oracle`. Sees: a form that fails where dtypes meet, a loss or a sum that is kept in half
precision; by the gap between the two errors, an autocast that had no effect.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from siglip_verify import features, oracle
from siglip_verify.case import Case
from siglip_verify.loss import SigLipLoss
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("autocast")

CASE = Case(world_size=4, batch=8, dim=16, dtype="float32", seed=7)
BFLOAT16_EPS, FLOAT32_EPS = 2**-8, 2**-23


def step(case: Case, options: dict[str, Any], inside: bool) -> list[torch.Tensor]:
    """Return loss and gradients of one step, forward inside of autocast or not."""
    inputs, rank = features.draw(case), dist.get_rank()
    dtype = getattr(torch, case.dtype)
    values = [inputs.images[rank], inputs.texts[rank], inputs.scale.to(dtype), inputs.bias.to(dtype)]
    values = [value.clone().requires_grad_() for value in values]
    loss = SigLipLoss(rank=rank, world_size=dist.get_world_size(), **options)
    with torch.autocast("cpu", torch.bfloat16, enabled=inside):
        value = loss(*values)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in values)]


def error(worlds: Worlds, options: dict[str, Any], inside: bool) -> list[float]:
    inputs = features.draw(CASE)
    wanted = oracle.reference(inputs.images, inputs.texts, CASE.scale, CASE.bias)
    parts = (wanted.local_loss, wanted.image_grad, wanted.text_grad, wanted.local_scale_grad, wanted.local_bias_grad)
    ranks = worlds.run(CASE.world_size, step, CASE, options, inside)
    found: list[float] = []
    for observed, expected in zip(zip(*ranks, strict=True), parts, strict=True):
        assert {each.dtype for each in observed} == {torch.float32}
        right = torch.stack([estimate.value for estimate in expected])
        found.append(((torch.stack(observed).double() - right).norm() / right.norm()).item())
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"memory": "constant"},
        {"memory": "constant", "overlap": True},
        {"memory": "recompute"},
        {"ragged": True},
        {"dist_impl": "gather"},
    ],
    ids=str,
)
def test_autocast_costs_the_rounding_of_products_and_no_more(worlds: Worlds, options: dict[str, Any]) -> None:
    plain, inside = error(worlds, options, inside=False), error(worlds, options, inside=True)
    assert max(plain) < 20 * FLOAT32_EPS
    loss, image, text, scale, bias = inside
    assert max(image, text) < 2 * BFLOAT16_EPS
    assert max(loss, scale, bias) < BFLOAT16_EPS / 4  # logits and sums are float32
    assert loss > 20 * FLOAT32_EPS  # the products were taken in bfloat16
