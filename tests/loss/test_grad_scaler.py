"""The loss under torch.amp.GradScaler: float16 features of float32 parameters, in every form.

Oracle: `siglip_verify.oracle` of the rounded features. Sees: a form that multiplies what reaches the loss in too late,
so that tiny gradients are lost all the same, or twice; a gradient too large for float16 that comes out finite.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist

from siglip_verify import features, oracle
from siglip_verify.case import Case
from siglip_verify.loss import SigLipLoss
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("grad_scaler")

CASE = Case(world_size=3, batch=4, dim=16, dtype="float16", scalars="float32", seed=7)
TINY, SCALE, TOO_LARGE = 2.0**-20, 2.0**21, 2.0**24  # TINY * SCALE is not 1
FLOAT16_EPS = 2**-11
by_form = pytest.mark.parametrize(
    "options",
    [
        *({"dist_impl": exchange} for exchange in ("bidir", "shift", "reduce", "gather")),
        {"memory": "constant", "check_upstream": True},
        {"memory": "constant", "dist_impl": "shift", "overlap": True},
        {"memory": "constant", "grad_dtype": torch.float16},
        {"memory": "recompute"},
        {"memory": "constant", "ragged": True},
    ],
    ids=str,
)


class Trained(NamedTuple):
    """Gradients as the optimizer gets them, whether it took its step, and what the scaler multiplies by next."""

    grads: list[torch.Tensor]
    stepped: bool
    scale: float


def train(options: dict[str, Any], weight: float, init_scale: float) -> Trained:
    """Take one step on the loss times a weight; 0 is no scaler."""
    inputs, rank = features.draw(CASE), dist.get_rank()
    drawn = (inputs.images[rank], inputs.texts[rank], inputs.scale, inputs.bias)
    params = [torch.nn.Parameter(value.float()) for value in drawn]
    optimizer = torch.optim.SGD(params, lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale or 1.0, enabled=init_scale > 0)
    loss = SigLipLoss(rank=rank, world_size=dist.get_world_size(), **options)
    image, text, scale, bias = params
    scaler.scale(weight * loss(image.half(), text.half(), scale, bias)).backward()
    scaler.unscale_(optimizer)
    grads, before = [param.grad.clone() for param in params], [param.detach().clone() for param in params]
    scaler.step(optimizer)
    scaler.update()
    stepped = not all(torch.equal(param, old) for param, old in zip(params, before, strict=True))
    return Trained(grads, stepped, scaler.get_scale())


def error(ranks: list[Trained]) -> float:
    """Return the largest error of a gradient over all ranks, relative to its norm."""
    inputs = features.draw(CASE)
    wanted = oracle.reference(inputs.images, inputs.texts, inputs.scale.item(), inputs.bias.item())
    parts = (wanted.image_grad, wanted.text_grad, wanted.local_scale_grad, wanted.local_bias_grad)
    found: list[float] = []
    for observed, expected in zip(zip(*(rank.grads for rank in ranks), strict=True), parts, strict=True):
        right = torch.stack([TINY * estimate.value for estimate in expected])
        found.append(((torch.stack(observed).double() - right).norm() / right.norm()).item())
    return max(found)


@by_form
def test_gradients_that_float16_would_lose_are_kept(worlds: Worlds, options: dict[str, Any]) -> None:
    scaled = worlds.run(CASE.world_size, train, options, TINY, SCALE)
    assert error(scaled) < 4 * FLOAT16_EPS
    assert all(rank.stepped and rank.scale == SCALE for rank in scaled)


@by_form
def test_gradients_that_float16_cannot_hold_stop_the_step_on_every_rank(
    worlds: Worlds, options: dict[str, Any]
) -> None:
    for rank in worlds.run(CASE.world_size, train, options, 1.0, TOO_LARGE):
        assert not all(grad.isfinite().all() for grad in rank.grads)
        assert (rank.stepped, rank.scale) == (False, TOO_LARGE / 2)


def test_without_a_scaler_they_are_lost(worlds: Worlds) -> None:
    """Else the first test would see nothing."""
    assert error(worlds.run(CASE.world_size, train, {}, TINY, 0.0)) > 20 * FLOAT16_EPS
