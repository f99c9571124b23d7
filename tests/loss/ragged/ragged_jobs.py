"""What the tests of ragged batches run inside ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.loss import SigLipLoss

Options = dict[str, Any]


class Inputs(NamedTuple):
    """All ranks' inputs."""

    images: list[Tensor]
    texts: list[Tensor]
    scale: float
    bias: float
    upstream: list[float]


def draw(sizes: list[int], dim: int, seed: int, by_rank: bool) -> Inputs:
    """Draw unit rows and upstream gradients from a seed, the same in every process."""
    generator = torch.Generator().manual_seed(seed)
    images, texts = (
        [torch.nn.functional.normalize(torch.randn(b, dim, generator=generator, dtype=torch.float64)) for b in sizes]
        for _ in range(2)
    )
    upstream = [1.0 + rank * by_rank for rank in range(len(sizes))]
    return Inputs(images, texts, 3.7, -0.6, upstream)


def step(options: Options, *drawn: Any) -> list[Tensor]:
    """Return loss and gradients of one step."""
    inputs = draw(*drawn)
    rank = dist.get_rank()
    scalars = [torch.tensor(value, dtype=torch.float64) for value in (inputs.scale, inputs.bias)]
    values = [value.requires_grad_() for value in (inputs.images[rank], inputs.texts[rank], *scalars)]
    loss = SigLipLoss(rank=rank, world_size=dist.get_world_size(), **options)(*values)
    (loss * inputs.upstream[rank]).backward()
    return [loss.detach(), *(value.grad for value in values)]


def refusal(options: Options, shapes: list[tuple[int, ...]], dtypes: list[str], wanted: list[bool]) -> str:
    """Return what the loss says to ranks whose features have these shapes and dtypes and may need a gradient."""
    rank = dist.get_rank()
    features = torch.ones(shapes[rank], dtype=getattr(torch, dtypes[rank]))
    texts = features.clone().requires_grad_(wanted[rank])
    try:
        SigLipLoss(rank=rank, world_size=dist.get_world_size(), **options)(features, texts, 1.0, 0.0)
    except ValueError as error:
        return str(error)
    return "nothing was raised"
