"""What runs in a rank for the ledger: pair gradients, and bytes held, of both losses.

This module is imported by ranks and parent, but its functions run in ranks alone.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from siglip_verify.claims.softmax import ClipLoss
from siglip_verify.loss import SigLipLoss
from siglip_verify.observe.held import Held
from siglip_verify.world import context

LossName = Literal[
    "softmax local", "softmax global", "sigmoid", "sigmoid gather", "sigmoid chunked", "sigmoid constant"
]

_CHUNKS = 8


class Memory(NamedTuple):
    """Bytes that a rank's loss holds beside its inputs: between forward and backward, and at most."""

    kept: int
    peak: int


def loss_named(name: LossName, batch: int) -> nn.Module:
    """Return a loss for this rank."""
    rank, world_size = context().rank, context().world_size
    match name:
        case "softmax local":
            return ClipLoss(rank=rank, world_size=world_size)
        case "softmax global":
            return ClipLoss(rank=rank, world_size=world_size, local_loss=False)
        case "sigmoid":
            return SigLipLoss(rank=rank, world_size=world_size)
        case "sigmoid gather":
            return SigLipLoss(rank=rank, world_size=world_size, dist_impl="gather")
        case "sigmoid chunked":
            return SigLipLoss(rank=rank, world_size=world_size, chunk_size=max(1, batch // _CHUNKS))
        case "sigmoid constant":
            return SigLipLoss(rank=rank, world_size=world_size, memory="constant", chunk_size=max(1, batch // _CHUNKS))


def pair_gradients(name: LossName, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return this rank's rows of the gradient of the global loss by each logit, [b, N].

    The texts are the unit vectors and t = 1, so that number j of image i is logit (i, j), and its gradient the pair's.

    Args:
        name: Of the loss.
        logits: [N, N], of all ranks.
    """
    rank, world_size = context().rank, context().world_size
    batch = len(logits) // world_size
    mine = slice(rank * batch, (rank + 1) * batch)
    image = torch.from_numpy(logits[mine].copy()).requires_grad_()
    text = torch.eye(len(logits), dtype=torch.float64)[mine].requires_grad_()
    one = torch.ones((), dtype=torch.float64)
    torch.autograd.backward(loss_named(name, batch)(image, text, one, torch.zeros_like(one)))
    assert image.grad is not None
    return image.grad.numpy() / world_size


def memory(name: LossName, batch: int, dim: int) -> Memory:
    """Return what this rank holds in one step, counted; float32."""
    generator = torch.Generator().manual_seed(context().rank)

    def features() -> Tensor:
        rows = torch.randn(batch, dim, generator=generator)
        return functional.normalize(rows, dim=-1).requires_grad_()

    inputs = [features(), features(), torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)]
    loss = loss_named(name, batch)
    with Held(inputs) as held:
        value = loss(*inputs)
        kept = held.now()
        torch.autograd.backward(value)
    return Memory(kept, held.peak)
