"""The softmax loss that the ledger compares with: distributed as on one device, and that as the formula says.

Oracle: the formula with logsumexp in float64, and open_clip's ClipLoss where that is installed. Sees: a wrong diagonal,
a direction left out, a gather without gradient, a factor of W.
"""

from __future__ import annotations

import runpy

import pytest
import torch
from torch import Tensor

from siglip_verify.adapt import open_clip_installed, resolve
from siglip_verify.claims.softmax import ClipLoss
from siglip_verify.world import Worlds, context

pytestmark = pytest.mark.xdist_group("claims")
N, D, SCALE = 6, 5, 3.7


def rows(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(N, D, dtype=torch.float64, generator=generator), dim=-1)


def formula(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    z = scale * image @ text.T
    return (z.logsumexp(1).mean() + z.logsumexp(0).mean()) / 2 - z.diagonal().mean()


def leaves() -> tuple[Tensor, Tensor, Tensor]:
    scale = torch.tensor(SCALE, dtype=torch.float64)
    image, text, scale = (each.requires_grad_() for each in (rows(1), rows(2), scale))
    return image, text, scale


def in_a_rank(local_loss: bool) -> tuple[Tensor, ...]:
    """Return this rank's loss and gradients of its rows and of the scale."""
    rank, world_size = context().rank, context().world_size
    b = N // world_size
    mine = slice(rank * b, (rank + 1) * b)
    image, text = (rows(seed)[mine].clone().requires_grad_() for seed in (1, 2))
    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)
    loss = ClipLoss(rank, world_size, local_loss=local_loss)(image, text, scale)
    loss.backward()
    return loss.detach(), image.grad, text.grad, scale.grad


@pytest.mark.parametrize("local_loss", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_distributed_loss_is_that_of_one_device(worlds: Worlds, world_size: int, local_loss: bool) -> None:
    image, text, scale = leaves()
    expected = formula(image, text, scale)
    expected.backward()
    values, images, texts, scales = zip(*worlds.run(world_size, in_a_rank, local_loss), strict=True)
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(torch.stack(values).mean(), expected.detach(), **close)
    torch.testing.assert_close(torch.cat(images) / world_size, image.grad, **close)
    torch.testing.assert_close(torch.cat(texts) / world_size, text.grad, **close)
    torch.testing.assert_close(torch.stack(scales).mean(), scale.grad, **close)


@pytest.mark.skipif(not open_clip_installed(), reason="open_clip is not installed")
def test_on_one_device_it_is_open_clips() -> None:
    theirs = runpy.run_path(resolve("open_clip").rpartition(":")[0])["ClipLoss"]()  # the package asks for torchvision
    image, text, scale = leaves()
    torch.testing.assert_close(ClipLoss()(image, text, scale), theirs(image, text, scale))
