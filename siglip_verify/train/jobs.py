"""What runs in a rank: one process on the whole batch, and a rank under DistributedDataParallel on its part.

Here: which loss, and how the model is wrapped. This module is imported by ranks and parent, but its functions run in
ranks alone.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from siglip_verify import bugs
from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.loss import SigLipLoss
from siglip_verify.train.data import Task
from siglip_verify.train.loop import Loss, Trained, Training, new_towers, train
from siglip_verify.train.towers import BIAS
from siglip_verify.world import context

Memory = Literal["autograd", "constant", "recompute"]


class Form(msgspec.Struct, frozen=True, order=True):
    """The loss that ranks train with.

    Attributes:
        exchange: How texts are exchanged.
        memory: What is kept until backward.
        bug: A bug of the catalogue to plant; empty for our own loss.
    """

    exchange: Exchange
    memory: Memory = "autograd"
    bug: str = ""

    def __str__(self) -> str:
        return " ".join([self.exchange, *([] if self.memory == "autograd" else [self.memory])])


FORMS: tuple[Form, ...] = (
    *(Form(exchange) for exchange in EXCHANGES),
    *(Form(exchange, memory) for memory in ("constant", "recompute") for exchange in ("bidir", "shift")),
)
"""Every exchange in every memory mode that it has."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """Towers with something left out: the length of features, or the bias (None)."""

    normalized: bool = True
    bias: float | None = BIAS


USUAL = Variant()


def one_process(task: Task, training: Training, variant: Variant = USUAL) -> Trained:
    """Train one process on the whole batch, with nothing distributed and no loss of ours."""
    towers = new_towers(task, training, normalized=variant.normalized, bias=variant.bias)
    return train(task, training, towers, whole_batch_loss)


def whole_batch_loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return -(1/N) sum_ij log sigmoid(y_ij (t <x_i, y_j> + c)), as the paper writes it.

    Source:
        arXiv:2303.15343, equation 1.
    """
    labels = 2 * torch.eye(len(image), dtype=image.dtype) - 1
    return -functional.logsigmoid(labels * (scale * image @ text.T + bias)).sum() / len(image)


def one_rank(task: Task, training: Training, form: Form, keep_parameters: bool) -> Trained:
    """Train this rank's towers on its part of every batch, under DistributedDataParallel."""
    rank, world_size = context().rank, context().world_size
    towers = new_towers(task, training)
    return train(
        task,
        training,
        towers,
        loss_of(form, rank, world_size),
        model=DistributedDataParallel(towers),
        rank=rank,
        world_size=world_size,
        keep_parameters=keep_parameters,
    )


def loss_of(form: Form, rank: int, world_size: int) -> Loss:
    """Return the loss of one rank."""
    if form.bug:
        return bugs.make(rank, world_size, form.exchange, form.bug)
    return SigLipLoss(rank=rank, world_size=world_size, dist_impl=form.exchange, memory=form.memory)
