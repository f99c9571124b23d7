"""What the tests of the loss run inside ranks."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn

from siglip_verify import features
from siglip_verify.case import Case
from siglip_verify.loss import SigLipLoss
from siglip_verify.loss.validate import Memory

EXCHANGES = ("bidir", "shift", "reduce", "gather")
CASE = Case(batch=3, dim=5, seed=11)


def build(**options: Any) -> SigLipLoss:
    """Return the loss for this rank of the default group."""
    return SigLipLoss(rank=dist.get_rank(), world_size=dist.get_world_size(), **options)


def leaves(case: Case, rank: int | None = None) -> list[torch.Tensor]:
    """Return this rank's images, texts, scale and bias, all wanting gradients."""
    inputs = features.draw(case)
    mine = dist.get_rank() if rank is None else rank
    found = [inputs.images[mine], inputs.texts[mine], inputs.scale, inputs.bias]
    return [leaf.clone().requires_grad_() for leaf in found]


def grads(values: list[torch.Tensor]) -> list[torch.Tensor | None]:
    """Return copies of the gradients of some leaves."""
    return [None if leaf.grad is None else leaf.grad.clone() for leaf in values]


def step(case: Case) -> list[torch.Tensor | None]:
    """Return loss and gradients of one step."""
    values = leaves(case)
    loss = build(dist_impl=case.exchange, chunk_size=case.chunk_size)(*values)
    loss.backward()
    return [loss.detach(), *grads(values)]


def step_in_batches(case: Case, memory: Memory) -> tuple[list[torch.Tensor | None], int]:
    """Return loss and gradients of a step whose hops are posted as on NCCL, and how many batches that were."""
    values = leaves(case)
    with mock.patch.object(dist, "get_backend", return_value="nccl"), counted_batches() as batches:
        loss = build(dist_impl=case.exchange, memory=memory)(*values)
        loss.backward()
    return [loss.detach(), *grads(values)], len(batches)


@contextlib.contextmanager
def counted_batches() -> Iterator[list[int]]:
    """Give a list to which every batch of point-to-point operations adds how many these are."""
    sizes: list[int] = []

    def batch(operations: list[dist.P2POp]) -> list[dist.Work]:
        sizes.append(len(operations))
        return post(operations)

    post = dist.batch_isend_irecv
    with mock.patch.object(dist, "batch_isend_irecv", batch):
        yield sizes


def frozen(case: Case, tower: int) -> list[torch.Tensor | None]:
    """Return loss and gradients of one step with images (0) or texts (1) that need no gradient."""
    values = leaves(case)
    values[tower].requires_grad_(False)
    loss = build(dist_impl=case.exchange)(*values)
    loss.backward()
    return [loss.detach(), *grads(values)]


def without_grad(case: Case) -> tuple[float, bool]:
    """Return the loss under no_grad, and whether it wants a gradient."""
    with torch.no_grad():
        loss = build(dist_impl=case.exchange)(*leaves(case))
    return loss.item(), loss.requires_grad


def accumulated(case: Case) -> list[torch.Tensor | None]:
    """Return the gradients of two forwards in a row, then two backwards, the second scaled by 3."""
    values = leaves(case)
    loss = build(dist_impl=case.exchange)
    first, second = loss(*values), loss(*values)
    first.backward()
    (3 * second).backward()
    return grads(values)


def in_halves(case: Case) -> tuple[int, list[torch.Tensor | None]]:
    """Return loss and gradients of a step inside the half of the world that holds this rank."""
    world_size = dist.get_world_size()
    halves = [list(range(first, world_size, 2)) for first in (0, 1)]
    groups = [dist.new_group(half) for half in halves]
    half = dist.get_rank() % 2
    rank = dist.get_rank(groups[half])
    values = leaves(case, rank)
    loss = SigLipLoss(rank=rank, world_size=len(halves[half]), dist_impl=case.exchange, group=groups[half])(*values)
    loss.backward()
    for group in groups:
        if dist.get_rank(group) >= 0:
            dist.destroy_process_group(group)
    return rank, [loss.detach(), *grads(values)]


def alone_in_a_group(case: Case) -> list[torch.Tensor | None]:
    """Return a step with world_size = 1 on rank 0 alone; the others do nothing, so anything sent would hang."""
    if dist.get_rank() != 0:
        return []
    values = leaves(case, 0)
    loss = SigLipLoss(dist_impl=case.exchange)(*values)
    loss.backward()
    return [loss.detach(), *grads(values)]


class Towers(nn.Module):
    """Two linear towers, with the scale's logarithm and the bias as parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.image = nn.Linear(dim, dim, dtype=torch.float64)
        self.text = nn.Linear(dim, dim, dtype=torch.float64)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        self.log_scale = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(-0.6, dtype=torch.float64))

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return features, scale and bias as the loss takes them."""
        unit = nn.functional.normalize
        return unit(self.image(images), dim=-1), unit(self.text(texts), dim=-1), self.log_scale.exp(), self.bias


def data_parallel(case: Case) -> dict[str, torch.Tensor]:
    """Return the parameter gradients that DistributedDataParallel leaves on this rank."""
    inputs = features.draw(case)
    rank = dist.get_rank()
    model = nn.parallel.DistributedDataParallel(Towers(case.dim))
    build(dist_impl=case.exchange)(*model(inputs.images[rank], inputs.texts[rank])).backward()
    return {name: parameter.grad.clone() for name, parameter in model.module.named_parameters()}


def repeated_labels(case: Case) -> tuple[bool, int, list[tuple[int, ...]]]:
    """Return whether labels were the same object twice, how many are kept, and shapes after other sizes and dtypes."""
    loss = build(dist_impl=case.exchange, cache_labels=True)
    images, texts, scale, bias = leaves(case)
    loss(images, texts, scale, bias)
    kept = dict(loss.labels)
    loss(images, texts, scale, bias)
    same = kept.keys() == loss.labels.keys() and all(loss.labels[key] is kept[key] for key in kept)
    loss(images.float(), texts.float(), scale, bias)
    both = len(loss.labels)
    loss(images[:2], texts[:2], scale, bias)
    return same, both, [tuple(labels.shape) for labels in copy.copy(loss.labels).values()]
